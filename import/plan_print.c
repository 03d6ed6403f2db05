/* A plan's spec as YAML: a block a line, and runs of blocks that repeat folded. */
#include <string.h>

#include "import/plan.h"

static void print_block(const ImBlock *block, SuText *out) {
    su_text_add(out, "%s: %c", block->kind, block->n_branches ? '[' : '{');
    for (size_t i = 0; i < block->n_branches; i++) {
        su_text_add(out, i ? ", {" : "{");
        print_block(block->branches[i], out);
        su_text_add(out, "}");
    }
    for (size_t i = 0; i < block->n_keys; i++)
        su_text_add(out, "%s%s: %s", i ? ", " : "", block->keys[i].key, block->keys[i].value);
    su_text_add(out, "%c", block->n_branches ? ']' : '}');
}

/* Texts of blocks as numbers: equal texts have equal numbers. */
typedef struct Lines {
    const char **texts;
    size_t *ids;
    size_t count;
} Lines;

static Lines lines_of(const ImPlan *plan, SuArena *arena) {
    Lines lines = {SU_NEW_ARRAY(arena, const char *, plan->n_blocks), SU_NEW_ARRAY(arena, size_t, plan->n_blocks), plan->n_blocks};
    for (size_t i = 0; i < plan->n_blocks; i++) {
        SuText text = {0};
        print_block(plan->blocks[i], &text);
        lines.texts[i] = su_strndup(arena, text.text, text.size);
        su_text_free(&text);
        lines.ids[i] = i;
        for (size_t j = i; j-- > 0;)
            if (lines.ids[j] == j && strcmp(lines.texts[i], lines.texts[j]) == 0) lines.ids[i] = j;
    }
    return lines;
}

/* How often the blocks at .. at + period follow each other. */
static size_t times(const Lines *lines, size_t at, size_t period) {
    size_t end = at + period;
    while (end < lines->count && lines->ids[end] == lines->ids[end - period]) end++;
    return (end - at) / period;
}

static void print_stack(const Lines *lines, SuText *out) {
    for (size_t at = 0; at < lines->count;) {
        size_t best = 1, repeat = 1;
        for (size_t period = 1; period <= (lines->count - at) / 2; period++) {
            size_t n = times(lines, at, period);
            if (n > 1 && n * period > (repeat > 1 ? best * repeat : 1)) best = period, repeat = n;
        }
        if (repeat > 1) su_text_add(out, "  - repeat: %zu\n    blocks:\n", repeat);
        for (size_t i = 0; i < best; i++) su_text_add(out, "%s- %s\n", repeat > 1 ? "      " : "  ", lines->texts[at + i]);
        at += best * repeat;
    }
}

void im_plan_print(const ImPlan *plan, const char *head, const char *weights, SuText *out) {
    SuArena arena = {0};
    const Lines lines = lines_of(plan, &arena);
    su_text_add(out, "# %s\n", head);
    for (size_t i = 0; i < plan->n_notes; i++) su_text_add(out, "# %s\n", plan->notes[i]);
    su_text_add(out, "mossc: 1\n");
    for (size_t i = 0; i < plan->n_keys; i++) su_text_add(out, "%s: %s\n", plan->keys[i].key, plan->keys[i].value);
    if (weights) su_text_add(out, "weights: %s\n", weights);
    su_text_add(out, "stack:\n");
    print_stack(&lines, out);
    su_arena_free(&arena);
}
