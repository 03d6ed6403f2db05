"""What ends a command with a message, without a traceback."""


class ExploreError(Exception):
    """The text is for people: one line, what is wrong and what to do."""


class NoStudy(ExploreError):
    """The storage has no study of this name, or one that was not made to its end."""
