"""python -m mossc.train"""
import sys

from mossc.errors import without

if __name__ == "__main__":
    try:
        from mossc.train.command import main
    except ImportError as error:
        sys.exit(without("mossc.train", "torch", error))
    sys.exit(main())
