/* One block: its own map under the defaults, and the rules that tie its keys to each other.
 *
 * A value that came from defaults and has no meaning here is dropped; one that was written here is an error. A default that
 * has a meaning but does not fit is an error at the default, with a note of the block that it does not fit. */
#include "frontend/kinds.h"

/* ---- errors ---- */

const char *fe_used_by(const FeBuild *b, const FeValue *value) {
    if (value->written || !value->node) return NULL;
    return su_printf(b->arena, "this default is used by the %s block at line %u", fe_block_kind_word(b->out->kind),
                     (unsigned)b->span.line);
}

void fe_refuse(const FeBuild *b, const FeValue *value, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fe_report_once(&b->load->reader, SU_CODE_unfit_value, value->span, fe_used_by(b, value), su_vprintf(b->arena, format, args));
    va_end(args);
}

/* What was written where it has no meaning: the key itself is wrong, not its value. */
void fe_misplaced(const FeBuild *b, const FeValue *value, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fe_report_once(&b->load->reader, SU_CODE_misplaced_key, value->key_span, NULL, su_vprintf(b->arena, format, args));
    va_end(args);
}

/* ---- widths ---- */

/* I or F: given outright, or expand · D, which must be whole exactly. */
static int64_t scaled_width(const FeBuild *b, const FeMap *map, FeKey outright, FeKey expand) {
    const FeValue *factor = fe_value(map, expand);
    int64_t d_model = b->load->spec->d_model, result = 0;
    bool whole;
    if (fe_given(map, outright)) return fe_integer(map, outright);
    if (factor->state != FE_GIVEN || !b->load->d_model_known || fe_parse_scaled(factor->text, d_model, &result, &whole))
        return result;
    const char *name = fe_key_name(b->arena, expand), *text = fe_quote(b->arena, factor->text);
    if (whole)
        fe_refuse(b, factor, "'%s': %s times d_model %lld is not below 2^31", name, text, (long long)d_model);
    else
        fe_refuse(b, factor, "'%s': %s times d_model %lld is not an integer", name, text, (long long)d_model);
    return 0;
}

int64_t fe_width(const FeBuild *b, FeMap *map, FeKey outright, FeKey expand) {
    fe_set_integer(map, outright, scaled_width(b, map, outright, expand));
    fe_drop(map, expand);
    return fe_integer(map, outright);
}

/* ---- the block ---- */

void fe_set_ends(FeBlock *block, const FeMap *map, const FeEnds *ends) {
    block->input_scale = fe_real(map, ends->input_scale);
    block->output_scale = fe_real(map, ends->output_scale);
    block->out_norm = fe_truth(map, ends->out_norm);
}

bool fe_build_block(const FeLoad *load, FeBlockKind kind, const FeMap *own, SuSpan span, FeBlock *out_block) {
    const FeKindRow *row = fe_kind_row(kind);
    const FeBuild b = {load, load->reader.arena, span, out_block};
    size_t errors = load->reader.diags->errors;
    *out_block = (FeBlock){.kind = kind, .span = span};
    const FeMap *base = load->defaults ? fe_child(load->defaults, row->defaults) : NULL;
    FeMap *map = fe_merge(b.arena, base, own, row->section, span);
    fe_complete(&load->reader, map);
    out_block->map = map;
    fe_set_ends(out_block, map, &row->ends);
    row->kind->build(&b, map);
    return load->reader.diags->errors == errors;
}
