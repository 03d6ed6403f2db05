"""python -m mossc ARGUMENTS: the program mossc of the package."""
import os
import sys

from mossc.program import find


def main() -> str:
    """Becomes the program. Comes back with what is wrong."""
    try:
        program = find()
        os.execv(program, [program, *sys.argv[1:]])
    except OSError as error:
        return f"error: {error}"


if __name__ == "__main__":
    sys.exit(main())
