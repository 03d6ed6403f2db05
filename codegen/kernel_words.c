/* What kernels are called: in the symbols of their code, in dumps, and wherever a person reads of one. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "codegen/target.h"

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
    static const char *const selects[] = {[PG_SINGLE] = "", [PG_ALL] = "all", [PG_CHOSEN] = "chosen"};
    static const char *const layouts[] = {[PG_ROWS] = "rows", [PG_PLANES] = "planes", [PG_POSITIONS] = "positions"};
    static const char *const scans[] = {
        [PG_SCAN_PLAIN] = "", [PG_SCAN_HOLD] = "hold", [PG_SCAN_UPDATE] = "update", [PG_SCAN_PARAMS] = "params"};
    static const char *const ews[] = {[PG_EW_UNARY] = "unary", [PG_EW_SCALE] = "scale",         [PG_EW_ADD] = "add",
                                      [PG_EW_MUL] = "mul",     [PG_EW_ADD_PARAM] = "add_param", [PG_EW_MUL_PARAM] = "mul_param"};
    Name n = {out, size, 0};
    append(&n, "%s_%s", pg_kind_word(k->kind), k->mode == PG_ROW ? "row" : "block");
    if (k->K > 0)
        append(&n, "_%lldx%lld", (long long)k->K, (long long)k->O);
    else if (k->O > 0)
        append(&n, "_%lld", (long long)k->O);
    append_if(&n, k->kind == PG_LINEAR || k->kind == PG_EMBED || k->kind == PG_ROUTE, ir_dtype_word(k->dtype));
    append_if(&n, k->kind == PG_ELEMENTWISE, ews[k->ew]);
    append_if(&n, k->scan != PG_SCAN_PLAIN, scans[k->scan]);
    append_if(&n, k->select != PG_SINGLE, selects[k->select]);
    append_if(&n, k->select == PG_SINGLE && k->x_layout != PG_ROWS, layouts[k->x_layout]);
    append_if(&n, k->gather_out_rows, "output_rows");
    append_if(&n, k->norm != PG_NO_NORM, k->norm == PG_LAYER ? "layer_norm" : "norm");
    append_if(&n, k->bias, "bias");
    append_if(&n, k->act != PG_NO_ACT, pg_activation(k->act)->word);
    for (const PgEpilogueStep *s = k->epilogue.steps; s->kind != PG_NO_STEP; s++)
        append_if(&n, true,
                  s->kind == PG_STEP_ACT ? pg_activation((PgActivation)s->act)->word : pg_step((PgStepKind)s->kind)->word);
}

void cg_kernel_name(const PgKernel *kernel, uint32_t index, char *out, size_t size) {
    cg_kernel_words(kernel, out, size);
    append(&(Name){out, size, strlen(out)}, "_%u", index);
}
