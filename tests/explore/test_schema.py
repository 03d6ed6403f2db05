#!/usr/bin/env python3
"""`mossc schema --space` as a JSON Schema: it takes every good space, and refuses every wrong one but those in BEYOND, whose mistake no
schema can see. Needs PyYAML and jsonschema."""
import argparse
import json
import pathlib
import subprocess
import sys

try:
    import jsonschema
    import yaml
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Expressions, names that depend on other axes, numbers within rows, and what is no YAML to begin with.
BEYOND = {
    "expression_in_block", "file_key_twice", "many_points", "name_column", "name_twice", "path_twice", "row_does_not_grow", "row_too_long",
    "values_missing", "values_twice", "when_cycle", "when_of_itself", "when_of_lists",
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mossc", required=True)
    schema = json.loads(subprocess.run([parser.parse_args().mossc, "schema", "--space"], capture_output=True, check=True).stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    paths = [*ROOT.glob("tests/explore/wrong/*.yaml"), *ROOT.glob("examples/explore/*.yaml"), *ROOT.glob("tests/fuzz/corpus_space/all_keys.yaml")]
    failed = 0
    for path in sorted(paths):
        try:
            space = yaml.safe_load(path.read_text())
        except yaml.YAMLError:
            continue
        good = path.parent.name != "wrong" or path.stem.startswith("good_")
        errors = [error.message for error in validator.iter_errors(space)]
        if bool(errors) == (good or path.stem in BEYOND):
            failed += 1
            print(f"{path.relative_to(ROOT)}: {errors[0] if errors else 'taken'}")
    print(f"{len(paths)} files, {failed} failed")
    return 1 if failed or len(paths) < 60 else 0


sys.exit(main())
