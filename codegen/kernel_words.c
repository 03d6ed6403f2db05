/* What kernels are called: in the symbols of their code, in dumps, and wherever a person reads of one. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "codegen/target.h"
#include "support/table.h"

typedef struct Name {
    char *text;
    size_t size, length;
} Name;

__attribute__((format(printf, 2, 3))) static void append(Name *n, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int wrote = vsnprintf(n->text + n->length, n->size - n->length, format, args);
    va_end(args);
    size_t more = wrote < 0 ? 0 : (size_t)wrote;
    n->length = n->length + more < n->size ? n->length + more : n->size - 1;
}

static void append_if(Name *n, bool condition, const char *word) {
    if (condition) append(n, "_%s", word);
}

void cg_kernel_words(const PgKernel *k, char *out, size_t size) {
    static const char *const selects[] = {
#define PG_SELECT_ROW(NAME, word, printed) word,
#include "ir/words.def"
    };
    static const char *const layouts[] = {
#define PG_LAYOUT_ROW(NAME, word) word,
#include "ir/words.def"
    };
    static const char *const scans[] = {
#define PG_SCAN_ROW(NAME, word) word,
#include "ir/words.def"
    };
    static const char *const ews[] = {
        [PG_EW_UNARY] = "unary",         [PG_EW_SCALE] = "scale",         [PG_EW_CLAMP] = "clamp",
#define IR_BINARY(name, NAME, flops, value) [PG_EW_##NAME] = #name,
#include "ir/binary.def"
        [PG_EW_ADD_PARAM] = "add_param", [PG_EW_MUL_PARAM] = "mul_param",
    };
    SU_TABLE_FULL(selects, PG_CHOSEN + 1);
    SU_TABLE_FULL(layouts, PG_POSITIONS + 1);
    SU_TABLE_FULL(scans, PG_SCAN_PARAMS + 1);
    SU_TABLE_FULL(ews, PG_EW_MUL_PARAM + 1);
    Name n = {out, size, 0};
    append(&n, "%s_%s", pg_kind_word(k->kind), k->mode == PG_ROW ? "row" : "block");
    if (k->K > 0)
        append(&n, "_%lldx%lld", (long long)k->K, (long long)k->O);
    else if (k->O > 0)
        append(&n, "_%lld", (long long)k->O);
    append_if(&n, k->kind == PG_LINEAR || k->kind == PG_EMBED || k->kind == PG_ROUTE, ir_dtype_word(k->dtype));
    append_if(&n, k->kind == PG_ELEMENTWISE, ews[k->ew]);
    append_if(&n, k->scan != PG_SCAN_PLAIN, scans[k->scan]);
    append_if(&n, k->rounds, "rounds");
    append_if(&n, k->bf16_x, "bf16x");
    append_if(&n, k->select != PG_SINGLE, selects[k->select]);
    append_if(&n, k->select == PG_SINGLE && k->x_layout != PG_ROWS, layouts[k->x_layout]);
    append_if(&n, k->gather_out_rows, "output_rows");
    append_if(&n, k->norm != PG_NO_NORM, k->norm == PG_LAYER ? "layer_norm" : "norm");
    append_if(&n, k->norm_behind, "norm_behind");
    append_if(&n, k->first_O > 0, "side_by_side");
    if (k->runs > 1) append(&n, "_%lldruns", (long long)k->runs);
    append_if(&n, k->bias, "bias");
    append_if(&n, k->expert_groups > 0, "groups");
    append_if(&n, k->act != PG_NO_ACT, pg_activation(k->act)->word);
    for (const PgEpilogueStep *s = k->epilogue.steps; s->kind != PG_NO_STEP; s++)
        append_if(&n, true,
                  s->kind == PG_STEP_ACT ? pg_activation((PgActivation)s->act)->word : pg_step((PgStepKind)s->kind)->word);
}

void cg_kernel_name(const PgKernel *kernel, uint32_t index, char *out, size_t size) {
    cg_kernel_words(kernel, out, size);
    append(&(Name){out, size, strlen(out)}, "_%u", index);
}
