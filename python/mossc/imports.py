"""Models of others: folders of Hugging Face and GGUF files, here or on the hub, made into specs and weights by the C library."""
from __future__ import annotations

import os
import pathlib
import typing

from mossc._c import Diags, ffi, lib, path_bytes, struct

# What an import reads of a folder on the hub (docs/import.md).
READ = ["*.json", "*.jinja", "*.safetensors"]
SPEC, WEIGHTS = "spec.yaml", "model.safetensors"


def import_model(source: str | os.PathLike, output: str | os.PathLike | None = None, *, dtype: str | None = None, exact: bool = False,
                 verify: bool = False, mamba3_a: str | None = None, threads: int = 0) -> pathlib.Path:
    """Makes a directory with spec.yaml, model.safetensors and texts of a checkpoint of others: a folder or a GGUF file, as `mossc import`.

    output: the directory; None: one in the cache, where the same files are found again. dtype: "f32", "bf16", "q8", "q4"; None: as stored.
    exact: f32 for what no other dtype holds exactly. verify: what was written is read back and compared; a directory that an earlier import
    made is compared and left as it is. mamba3_a: "softplus" or "heavy_tail". A directory of the cache is used until this process ends: it is
    not removed from the cache meanwhile. MosscError: the checkpoint is not understood, or the directory is not what it makes."""
    texts = [ffi.new("char[]", text.encode()) if text else ffi.NULL for text in (dtype, mamba3_a)]
    options = struct("MosscImportOptions", dtype=texts[0], mamba3_a=texts[1], exact=exact, verify=verify, threads=threads)
    out = ffi.new("char **")
    with Diags() as diags:
        target = ffi.NULL if output is None else ffi.new("char[]", path_bytes(output))
        diags.check(lib.mossc_import(path_bytes(source), target, options, diags.pointer, out))
    try:
        return pathlib.Path(os.fsdecode(ffi.string(out[0])))
    finally:
        lib.mossc_text_free(out[0])


def pull(name: str, output: str | os.PathLike | None = None, *, file: str | None = None, revision: str | None = None,
         **options: typing.Any) -> pathlib.Path:
    """Fetches a model of the Hugging Face hub, "org/name", and imports it: the directory, which Spec and Model take as it is.

    file: of that repository alone, a GGUF file; None: config, tokenizer and safetensors. revision: a branch, tag or commit. output and the
    options are those of import_model. A folder or file that is here is imported as it is. The extra `hub` (huggingface_hub) is needed for
    others; its cache and its environment variables hold."""
    if os.path.exists(name):
        return import_model(name, output, **options)
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError("to fetch models, install huggingface_hub: pip install 'mossc[hub]'") from error
    if file is not None:
        here = huggingface_hub.hf_hub_download(repo_id=name, filename=file, revision=revision)
    else:
        here = huggingface_hub.snapshot_download(repo_id=name, revision=revision, allow_patterns=READ)
    return import_model(here, output, **options)


def spec_of(path: str) -> str:
    """The path of a spec: of a directory of `mossc import` the one in it, of a checkpoint of others the one of its import in the cache."""
    if lib.mossc_is_checkpoint(path_bytes(path)):
        path = str(import_model(path))
    return os.path.join(path, SPEC) if os.path.isdir(path) else path
