"""Writes the C source of mossc._native, the extension that the package stands on (cffi, API mode), from the public headers.

    python3 native.py include/mossc/moss.h include/mossc/mossc.h -o _native.c

Nothing of the C API is written down again here: declarations are those of the headers, and the C compiler checks what cffi made of
them. Each function that C calls back (a typedef of a function pointer, or a member of a struct that is one) becomes an
`extern "Python"` of its signature: MossText gives py_MossText, MossPicking.allow gives py_MossPicking_allow.
"""
import argparse
import pathlib
import re

import cffi

POINTER = r"([\w ]+?[ *]+)\(\*(\w+)\)\(([^()]*)\);"


def declarations(header: str) -> str:
    """What cffi's parser reads of a header: without comments, directives and the words that say what is exported."""
    text = re.sub(r"/\*.*?\*/", " ", header, flags=re.S)
    text = re.sub(r"^#ifdef __cplusplus\n.*?^#endif\n", "", text, flags=re.S | re.M)
    text = re.sub(r"^#.*\n", "", text, flags=re.M)
    return re.sub(r"\bMOSSC?_API\b", "", text)


def callbacks(text: str) -> str:
    """An `extern "Python"` for each kind of function that C calls."""
    found = [f"{result}py_{name}({arguments});" for result, name, arguments in re.findall(r"\btypedef " + POINTER, text)]
    for struct, body in re.findall(r"\btypedef struct (\w+) \{(.*?)\}", text, flags=re.S):
        found += [f"{result.strip()} py_{struct}_{name}({arguments});" for result, name, arguments in re.findall(POINTER, body)]
    return 'extern "Python" {\n' + "\n".join(found) + "\n}\n"


def builder(headers: list[pathlib.Path]) -> cffi.FFI:
    text = "\n".join(declarations(path.read_text(encoding="utf-8")) for path in headers)
    ffi = cffi.FFI()
    ffi.cdef(text + callbacks(text))
    ffi.set_source("mossc._native", "\n".join(f'#include "{path.parent.name}/{path.name}"' for path in headers))
    return ffi


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("headers", nargs="+", type=pathlib.Path)
    parser.add_argument("-o", dest="output", required=True)
    options = parser.parse_args()
    builder(options.headers).emit_c_code(options.output)


if __name__ == "__main__":
    main()
