#include "support/content.h"

#include <string.h>
#include <strings.h>

static const char page_hint[] =
    "download the file itself: such a page often means that the address is wrong or that a login is required";
static const char torch_hint[] = "use the .safetensors file next to it, or convert it with safetensors.torch.save_file in Python";

static const struct {
    const char *magic;
    size_t size;
    const char *what, *hint;
} known[] = {
    {"version https://git-lfs", 23, "file is a Git LFS pointer, not the file itself",
     "run `git lfs pull` in its repository, or download the file"},
    {"<!doctype html", 14, "file is an HTML page", page_hint},
    {"<html", 5, "file is an HTML page", page_hint},
    {"<?xml", 5, "file is an XML page", page_hint},
    {"GGUF", 4, "file is a GGUF file", "mossc import makes a spec and weights of it"},
    {"PK\x03\x04", 4, "file is a zip archive, as written by torch.save (.bin, .pt)", torch_hint},
    {"\x80\x02", 2, "file is a pickle, as written by torch.save (.bin, .pt)", torch_hint},
    {"\x80\x03", 2, "file is a pickle, as written by torch.save (.bin, .pt)", torch_hint},
    {"\x80\x04", 2, "file is a pickle, as written by torch.save (.bin, .pt)", torch_hint},
    {"\x80\x05", 2, "file is a pickle, as written by torch.save (.bin, .pt)", torch_hint},
    {"\x93NUMPY", 6, "file is a NumPy array (.npy)", "write the tensors with safetensors.numpy.save_file in Python"},
    {"\x89HDF", 4, "file is an HDF5 file", "convert it to safetensors"},
    {"\x1f\x8b", 2, "file is compressed with gzip", "decompress it with gunzip"},
    {"\x28\xb5\x2f\xfd", 4, "file is compressed with zstd", "decompress it with unzstd"},
    {"mosscW\r\n", 8, "file has packed weights", "give the safetensors checkpoints, or only the packed file, with -w"},
    {"mosscS\r\n", 8, "file is a state file", "give state files with --state-in"},
};

const char *su_content_of(const void *data, size_t size, const char **out_hint) {
    const char *text = data;
    while (size && memchr(" \t\r\n", *text, 4)) text++, size--; /* before a page */
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (size >= known[i].size && strncasecmp(text, known[i].magic, known[i].size) == 0) {
            *out_hint = known[i].hint;
            return known[i].what;
        }
    }
    return NULL;
}

bool su_begins_as_json(const void *data, size_t size) {
    const char *text = data;
    size_t at = 0;
    while (at < size && memchr(" \t\r\n", text[at], 4)) at++;
    return at < size && text[at] == '{' && (size < 8 || !memchr(text, '\0', 8));
}
