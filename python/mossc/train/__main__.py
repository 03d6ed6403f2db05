"""python -m mossc.train"""
import importlib.util
import signal
import sys

from mossc.errors import without
from mossc.train import options

if __name__ == "__main__":
    if importlib.util.find_spec("torch"):
        options.parse()  # mistakes are told before PyTorch is there, which takes seconds
    try:
        from mossc.train.command import main
    except ImportError as error:
        sys.exit(without("mossc.train", "torch", error))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    sys.exit(main())
