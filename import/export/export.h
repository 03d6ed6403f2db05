/* Exporting: a spec and its weights become a checkpoint that other programs read.
 *
 * The names and the order of tensors are those of import/families, used the other way round: a config is made of the spec (keys.def), the
 * family plans an import of it from tensors that it names itself (ImSource.invents), the plan's spec is held against the one that is
 * exported, and its pieces say of which rows of ours each of those tensors consists. So what is written is what the import reads, and a
 * spec that the family cannot say is found, with the key that stands in the way. */
#ifndef MOSSC_IMPORT_EXPORT_EXPORT_H
#define MOSSC_IMPORT_EXPORT_EXPORT_H

#include <cjson/cJSON.h>

#include "driver/build.h"
#include "driver/generation.h"
#include "import/plan.h"
#include "runtime/weights.h"
#include "support/json.h"
#include "tokenizer/model.h"

typedef struct XpExport {
    const char *spec;    /* path */
    const DrTexts *sets; /* PATH=VALUE */
    const DrTexts *weights;
    const char *output; /* the directory to be made; it appears only when it is complete */
    DrProgress progress;
} XpExport;

typedef struct XpReport {
    const char *family; /* constant */
    size_t tensors;
    uint64_t bytes;
} XpReport;

/* Makes OUT/config.json, OUT/model.safetensors, and where the spec has a tokenizer OUT/tokenizer.json. Where it has one, or generation.yaml
 * beside it a chat template, also OUT/tokenizer_config.json; and where that file says anything of sampling or of what ends a text
 * OUT/generation_config.json. q8 and q4 become float32, exactly. false after errors: then there is no output. */
bool xp_export_folder(const XpExport *options, XpReport *report, SuDiags *diags);
/* Makes the file OUT, which appears only when it is whole: GGUF of llama.cpp, with the tokenizer and the chat template (tokenizer.c). q8 and q4 stay as Q8_0 and Q4_K where rows
 * are long enough, else they become float32. The logarithms of A become -exp of them, rounded. */
bool xp_export_gguf(const XpExport *options, XpReport *report, SuDiags *diags);

/* ---- for export/ *.c */

typedef enum XpFamily {
#define XP_FAMILY(NAME, model_type, architecture) XP_FAMILY_##NAME,
#include "import/export/keys.def"
    XP_FAMILIES
} XpFamily;

const char *xp_family_name(XpFamily family);
const char *xp_family_architecture(XpFamily family);
/* Whether it is in a set of sets.h. */
bool xp_family_is(XpFamily family, unsigned set);
/* The family that could say a spec; XP_FAMILIES after an error: none. `json`: the spec with every value. */
XpFamily xp_family_of(const cJSON *json, SuSpan span, SuDiags *diags);
/* config.json. */
cJSON *xp_config(XpFamily family, const cJSON *json, const TkSpecials *specials, IrDtype dtype);
/* Its text, which cJSON_free frees; NULL without memory. */
char *xp_config_text(const cJSON *config);
/* What Llama 3's scaling of RoPE divides a frequency by that turns so often within the original positions. */
double xp_divisor(double turns, double factor, double low, double high);
/* Some rows of one of theirs, from one of ours. */
typedef struct XpRun {
    uint64_t first, rows; /* of theirs */
    size_t tensor; /* of ours; SIZE_MAX: each number is -0, which adds nothing */
    uint64_t from; /* the first of its rows */
} XpRun;

/* A tensor of theirs. */
typedef struct XpTensor {
    const ImTensor *named; /* by the family */
    uint64_t rows, K;
    int rank; /* 1 or 2; 3: experts one behind the other, */
    uint64_t experts; /* of rows / experts each; else 1 */
    IrDtype dtype; /* IR_F32, IR_F16 or IR_BF16 */
    XpRun *runs; /* by their first rows, without gaps */
    size_t n_runs, runs_capacity;
} XpTensor;

/* What the spec says of texts. */
typedef struct XpTexts {
    const char *tokenizer; /* a tokenizer.json; NULL: there is none */
    size_t size;
    TkSpecials specials;
    const char *bos, *eos; /* the texts of these tokens; NULL: there is none */
    DrGeneration generation; /* the file beside the spec */
} XpTexts;

/* An export: what is written is `theirs`. */
typedef struct XpJob {
    const XpExport *options;
    SuDiags *diags;
    SuSpan span;
    XpFamily family;
    bool gguf; /* a GGUF file is made, not a folder */
    FeSpec spec, made; /* that of the user; what the family makes of the config */
    XpTexts texts;
    bool has_texts;
    cJSON *config;
    SuText config_text;
    SuJson ours, read; /* the spec with every value; the config, read back */
    bool has_ours, has_read;
    bool
        floats; /* what is read back has its numbers from float32, and Llama 3's scaling of RoPE from its divisors, which several come to */
    ImSource source;
    ImPlan plan;
    const FeTensor *tensors;
    PgTensor *expected; /* [n_tensors] the same */
    size_t n_tensors;
    XpTensor *theirs;
    size_t n_theirs;
    XpRun *ones; /* rows of ours, vectors, that must be 1: the family has no weights there */
    size_t n_ones, ones_capacity;
    RtCheckpoints checkpoints;
    bool has_checkpoints;
    RtRoom room;
    SuArena arena;
} XpJob;

/* false after an error. xp_close either way. */
bool xp_open(XpJob *job, const XpExport *options, bool gguf, SuDiags *diags);
/* Of the plan, settled, of invented tensors: `theirs`, one for each tensor that was named, and `ones`. false after an error. */
bool xp_invert(XpJob *job);
void xp_close(XpJob *job);
/* Whether the spec `made`, as JSON with every value, says what that of the user says, but for names, weights and tokenizers: the first
 * difference is an error. */
bool xp_same_spec(const XpJob *job, const cJSON *made);
/* Whether the spec of a plan, which has a name, is that of the user. */
bool xp_check(XpJob *job, const ImPlan *plan);
/* Rows first .. first + rows of one of theirs, as numbers. */
bool xp_read(XpJob *job, const XpTensor *tensor, uint64_t first, uint64_t rows, float *out);

struct XpPairs; /* pairs.h */
/* Adds tokenizer.ggml.* and tokenizer.chat_template. A tokenizer that GGUF cannot say is a warning. false after errors. (tokenizer.c) */
bool xp_gguf_texts(XpJob *job, struct XpPairs *out);

#endif
