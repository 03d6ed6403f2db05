# The extension (cffi): functions, constants and structs of include/mossc/*.h, from which python/native.py makes it.
from typing import Any

ffi: Any
lib: Any
