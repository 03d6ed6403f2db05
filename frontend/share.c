/* share: a block with the weights of another one (docs/language.md, "share"). What is whose is told by the names of tensors, so
 * that no kind of block knows of it. */
#include <string.h>

#include "frontend/kinds.h"

static bool begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

static bool ends(const char *text, const char *with) {
    size_t size = strlen(text), n = strlen(with);
    return size >= n && strcmp(text + size - n, with) == 0;
}

/* ---- tensors of its own ---- */

/* The words of `own`, and how the names of their tensors begin and end. */
static const struct {
    const char *word, *begin, *end;
} owned[] = {{"A", "A_log", "A_log"},   {"D", "D", "D"},        {"conv", "conv.", ""},
             {"router", "router.", ""}, {"biases", "", "bias"}, {"inner_norms", "", "_norm.weight"}};
enum { N_OWNED = sizeof owned / sizeof *owned };

static bool is_owned(int i, const char *tensor) { return begins(tensor, owned[i].begin) && ends(tensor, owned[i].end); }

/* Always a block's own: its norms, what a share adds. */
static bool is_never_shared(const char *tensor) { return begins(tensor, "norm.") || begins(tensor, "out_norm.") || begins(tensor, "adapters."); }

const char *fe_owned_word(const char *tensor) {
    for (int i = 0; i < N_OWNED; i++)
        if (is_owned(i, tensor) && !is_never_shared(tensor)) return owned[i].word;
    return "";
}

bool fe_share_owns(const FeShare *share, const char *tensor) {
    if (!fe_given(share->map, KEY(share, own))) return false;
    for (int i = 0; i < N_OWNED; i++)
        if (fe_has_word(share->map, KEY(share, own), owned[i].word) && is_owned(i, tensor)) return true;
    return false;
}

/* ---- adapters ---- */

bool fe_share_adapts(const FeShare *share, const char *map) {
    const FeMap *adapters = fe_child(share->map, KEY(share, adapters));
    return adapters && fe_has_word(adapters, KEY(adapters, targets), map);
}

/* ---- checks ---- */

/* "in_proj, gate_proj, out_proj" */
static const char *maps_of(SuArena *arena, const FeTensorList *tensors) {
    const char *text = "";
    for (size_t i = 0; i < tensors->count; i++) {
        const char *map = tensors->items[i].map;
        if (map) text = su_printf(arena, "%s%s%s", text, *text ? ", " : "", map);
    }
    return text;
}

static bool has_owned(const FeTensorList *tensors, const char *word) {
    for (int i = 0; i < N_OWNED; i++)
        for (size_t t = 0; t < tensors->count && strcmp(owned[i].word, word) == 0; t++)
            if (is_owned(i, tensors->items[t].name)) return true;
    return false;
}

static bool has_map(const FeTensorList *tensors, const char *name) {
    for (size_t t = 0; t < tensors->count; t++) {
        const char *map = tensors->items[t].map;
        if (map && strcmp(map, name) == 0) return true;
    }
    return false;
}

static void check_own(const FeReader *reader, const FeShare *share, const FeTensorList *tensors) {
    const FeValue *own = fe_value(share->map, KEY(share, own));
    for (size_t i = 0; own->state == FE_GIVEN && i < own->node->count; i++) {
        const FeNode *item = own->node->items[i];
        if (has_owned(tensors, item->text)) continue;
        fe_report_once(reader, SU_CODE_unfit_value, item->span, NULL,
                       su_printf(reader->arena, "'share.own': %s matches no tensor of %s", item->text, share->name));
    }
}

static void check_targets(const FeReader *reader, const FeShare *share, const FeTensorList *tensors) {
    const FeMap *adapters = fe_child(share->map, KEY(share, adapters));
    const FeValue *targets = adapters ? fe_value(adapters, KEY(adapters, targets)) : NULL;
    for (size_t i = 0; targets && targets->state == FE_GIVEN && i < targets->node->count; i++) {
        const FeNode *item = targets->node->items[i];
        if (has_map(tensors, item->text)) continue;
        fe_report_once(reader, SU_CODE_unfit_value, item->span,
                       su_printf(reader->arena, "its maps are %s", maps_of(reader->arena, tensors)),
                       su_printf(reader->arena, "'share.adapters.targets': %s has no linear map %s", share->name, item->text));
    }
}

void fe_fill_share(const FeLoad *load, FeBlock *block, const FeBlock *other) {
    const FeShare *share = block->share;
    FeBlock filled = *other;
    filled.share = share;
    filled.shared = false;
    filled.name = block->name;
    filled.path = block->path;
    filled.span = block->span;
    filled.input_scale = block->input_scale;
    filled.output_scale = block->output_scale;
    filled.out_norm = block->out_norm;
    *block = filled;
    FeTensorList tensors = fe_list_parts(load->spec, other);
    check_own(&load->reader, share, &tensors);
    check_targets(&load->reader, share, &tensors);
}

/* ---- describing ---- */

void fe_describe_share(const FeShare *share, SuText *out) {
    su_text_add(out, "shares %s", share->name);
    if (share->rank) su_text_add(out, ", rank %lld", (long long)share->rank);
}
