import lit.formats


class RunLines(lit.formats.ShTest):
    """Shell tests, but only files that hold a RUN: line: the directories also hold specs and sources that are no tests."""

    def getTestsInDirectory(self, suite, path_in_suite, lit_config, local_config):
        for test in super().getTestsInDirectory(suite, path_in_suite, lit_config, local_config):
            with open(test.getSourcePath(), encoding="utf-8", errors="replace") as file:
                if any("RUN:" in line for line in file):
                    yield test
