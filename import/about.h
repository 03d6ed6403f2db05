/* What a file or a directory is, by what it holds: checkpoints of others, and whatever mossc writes. Nothing is believed: each kind is read
 * by the reader that checks it. */
#ifndef MOSSC_IMPORT_ABOUT_H
#define MOSSC_IMPORT_ABOUT_H

#include "runtime/safetensors.h"
#include "support/diag.h"

/* Texts of files are UTF-8 here, whatever they were: what is none became U+FFFD. */
typedef struct ImFact {
    const char *key, *value;
    bool plain; /* the value is a number, true or false, as JSON writes it */
} ImFact;

typedef struct ImFacts {
    ImFact *items;
    size_t count, capacity;
} ImFacts;

typedef struct ImAboutTensor {
    const char *name, *dtype; /* as the file calls them */
    int rank;
    uint64_t shape[RT_MAX_RANK]; /* slowest first */
    uint64_t elements, bytes;
} ImAboutTensor;

/* Tensors whose names differ in numbers alone, with one dtype. */
typedef struct ImAboutClass {
    const char *name; /* each number replaced by * */
    const char *dtype;
    uint64_t tensors, elements, bytes;
} ImAboutClass;

typedef struct ImAbout {
    const char *what; /* "GGUF file" */
    ImFacts facts, metadata; /* metadata: in the words of the file */
    ImAboutTensor *tensors; /* in the file's order of names */
    size_t n_tensors, tensors_capacity;
    uint64_t bytes; /* of all its files */
    SuArena arena; /* the caller's */
} ImAbout;

/* every_byte: digests of all files too, and packed tensors against the digests that they were written with. false after errors. */
bool im_about(const char *path, bool every_byte, ImAbout *out, SuDiags *diags);
/* The classes of its tensors, sorted; in the arena. */
ImAboutClass *im_about_classes(ImAbout *about, size_t *out_count);
void im_about_free(ImAbout *about);

/* ---- for about*.c: each adds what it finds to look->out */

typedef struct ImLook {
    const char *path;
    SuMap map; /* of a file */
    bool every_byte;
    ImAbout *out;
    SuDiags *diags;
} ImLook;

bool im_about_weights(ImLook *look); /* safetensors: a file, an index, a directory */
bool im_about_gguf(ImLook *look);
bool im_about_packed(ImLook *look);
bool im_about_state(ImLook *look);
bool im_about_packed_tokenizer(ImLook *look);
bool im_about_tokenizer(ImLook *look); /* a tokenizer.json */
bool im_about_spec(ImLook *look);

/* printf style; the value is a text or what ImFact.plain says. */
void im_fact(ImLook *look, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
void im_plain_fact(ImLook *look, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* key and value are in the arena, or constant. */
void im_add_fact(ImLook *look, ImFacts *facts, const char *key, const char *value, bool plain);
ImAboutTensor *im_about_tensor(ImLook *look, const char *name, const char *dtype, uint64_t elements, uint64_t bytes);
/* Counts the bytes of a file, and makes its digest where that is wanted. */
void im_about_file(ImLook *look, const char *path, const SuMap *map);
/* Bytes of a file as UTF-8. */
const char *im_clean_text(SuArena *arena, const char *bytes, size_t size);

#endif
