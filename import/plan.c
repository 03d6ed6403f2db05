#include "import/plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- the spec */

static const char *printed(SuArena *arena, const char *format, va_list args) { return su_vprintf(arena, format, args); }

static void add_key(SuArena *arena, ImKey **keys, size_t *count, size_t *capacity, const char *key, const char *value) {
    *keys = su_grow(arena, *keys, capacity, *count + 1, sizeof **keys);
    (*keys)[(*count)++] = (ImKey){.key = key, .value = value};
}

void im_top(ImPlan *plan, const char *key, const char *format, ...) {
    va_list args;
    va_start(args, format);
    add_key(&plan->arena, &plan->keys, &plan->n_keys, &plan->keys_capacity, key, printed(&plan->arena, format, args));
    va_end(args);
}

static ImBlock *new_block(ImPlan *plan, const char *kind, const char *from, const char *to) {
    ImBlock *block = SU_NEW(&plan->arena, ImBlock);
    *block = (ImBlock){.plan = plan, .kind = kind, .from = su_strdup(&plan->arena, from), .to = to};
    return block;
}

ImBlock *im_block(ImPlan *plan, const char *kind, const char *from, const char *norm) {
    ImBlock *block = new_block(plan, kind, from, su_printf(&plan->arena, "blocks.%zu.", plan->n_blocks));
    plan->blocks = su_grow(&plan->arena, plan->blocks, &plan->blocks_capacity, plan->n_blocks + 1, sizeof *plan->blocks);
    plan->blocks[plan->n_blocks++] = block;
    im_put(block, "norm.weight", im_take(plan, "%s%s.weight", from, norm));
    if (plan->norm_bias) im_put(block, "norm.bias", im_take(plan, "%s%s.bias", from, norm));
    return block;
}

ImBlock *im_branch(ImBlock *parallel, const char *kind) {
    ImPlan *plan = parallel->plan;
    ImBlock *block =
        new_block(plan, kind, parallel->from, su_printf(&plan->arena, "%sbranches.%zu.", parallel->to, parallel->n_branches));
    parallel->branches = su_grow(&plan->arena, parallel->branches, &parallel->branches_capacity, parallel->n_branches + 1,
                                 sizeof *parallel->branches);
    parallel->branches[parallel->n_branches++] = block;
    return block;
}

void im_key(ImBlock *block, const char *key, const char *format, ...) {
    va_list args;
    va_start(args, format);
    add_key(&block->plan->arena, &block->keys, &block->n_keys, &block->keys_capacity, key,
            printed(&block->plan->arena, format, args));
    va_end(args);
}

void im_key_real(ImBlock *block, const char *key, double value) {
    char text[SU_REAL];
    im_key(block, key, "%s", su_real_text(value, text));
}

void im_key_unless(ImBlock *block, const char *key, double value, double otherwise) {
    if (value != otherwise) im_key_real(block, key, value);
}

void im_key_flag(ImBlock *block, const char *key, bool value) { im_key(block, key, value ? "true" : "false"); }

void im_note(ImPlan *plan, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const char *note = printed(&plan->arena, format, args);
    va_end(args);
    for (size_t i = 0; i < plan->n_notes; i++)
        if (strcmp(plan->notes[i], note) == 0) return;
    plan->notes = su_grow(&plan->arena, plan->notes, &plan->notes_capacity, plan->n_notes + 1, sizeof *plan->notes);
    plan->notes[plan->n_notes++] = note;
}

void im_plan_error(ImPlan *plan, const char *file, const char *format, ...) {
    va_list args;
    va_start(args, format);
    su_error(plan->diags, su_file_span(plan->diags, file), NULL, "%s", su_vprintf(&plan->diags->arena, format, args));
    va_end(args);
    plan->failed = true;
}

/* ---- taking */

const ImTensor *im_take(ImPlan *plan, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const char *name = printed(&plan->arena, format, args);
    va_end(args);
    ImTensor *t = plan->source->invents ? im_source_invent(plan->source, name) : im_source_find(plan->source, name);
    if (!t) im_plan_error(plan, plan->source->path, "tensor '%s' is missing", name);
    if (t && t->taken) im_plan_error(plan, t->file, "tensor '%s' would be used twice", name);
    if (t && t->alien) im_plan_error(plan, t->file, "tensor '%s' has the type %s, which is not read", name, t->alien);
    if (t) t->taken = true;
    return t && !t->alien ? t : NULL;
}

bool im_there(const ImPlan *plan, const char *format, ...) {
    SuArena arena = {0};
    va_list args;
    va_start(args, format);
    bool there = im_source_find(plan->source, printed(&arena, format, args)) != NULL;
    va_end(args);
    su_arena_free(&arena);
    return there;
}

const ImTensor *im_flat(ImPlan *plan, const ImTensor *tensor) {
    if (!tensor) return NULL;
    if (im_form(tensor->form)->weights != 1 || tensor->order.kind != IM_IN_ORDER) {
        im_plan_error(plan, tensor->file, "tensor '%s': expected floats, got %s", tensor->name, im_form(tensor->form)->word);
        return NULL;
    }
    ImTensor *flat = SU_NEW(&plan->arena, ImTensor);
    *flat = *tensor;
    flat->rows = tensor->rows * tensor->K;
    flat->K = 1;
    return flat;
}

bool im_has_rows(ImPlan *plan, const ImTensor *tensor, uint64_t rows) {
    if (tensor && plan->source->invents) plan->source->invented[tensor->number]->rows = rows;
    if (tensor && tensor->rows != rows)
        im_plan_error(plan, tensor->file, "tensor '%s': expected %" PRIu64 " rows, got %" PRIu64, tensor->name, rows, tensor->rows);
    return tensor && tensor->rows == rows;
}

/* ---- putting */

static ImOutput *output_of(ImPlan *plan, const char *name) {
    for (size_t i = plan->n_outputs; i-- > 0 && plan->n_outputs - i <= 64;) /* pieces of a tensor are put near each other */
        if (strcmp(plan->outputs[i].name, name) == 0) return &plan->outputs[i];
    plan->outputs = su_grow(&plan->arena, plan->outputs, &plan->outputs_capacity, plan->n_outputs + 1, sizeof *plan->outputs);
    plan->outputs[plan->n_outputs] = (ImOutput){.name = name};
    return &plan->outputs[plan->n_outputs++];
}

static ImPiece *put(ImPlan *plan, const char *name, const ImTensor *from, uint64_t first, uint64_t rows) {
    ImOutput *output = output_of(plan, name);
    output->pieces = su_grow(&plan->arena, output->pieces, &output->capacity, output->count + 1, sizeof *output->pieces);
    ImPiece *piece = &output->pieces[output->count++];
    *piece = (ImPiece){.from = from, .first = first, .rows = rows, .factor = 1};
    return piece;
}

ImPiece *im_put(ImBlock *block, const char *to, const ImTensor *from) {
    return im_put_rows(block, to, from, 0, from ? from->rows : 0);
}

ImPiece *im_put_rows(ImBlock *block, const char *to, const ImTensor *from, uint64_t first, uint64_t rows) {
    ImPlan *plan = block->plan;
    if (from && (first > from->rows || rows > from->rows - first))
        im_plan_error(plan, from->file, "tensor '%s': expected at least %" PRIu64 " rows, got %" PRIu64, from->name, first + rows,
                      from->rows);
    return put(plan, su_printf(&plan->arena, "%s%s", block->to, to), from, first, rows);
}

void im_put_ones(ImBlock *block, const char *to, uint64_t count) {
    put(block->plan, su_printf(&block->plan->arena, "%s%s", block->to, to), NULL, 0, count);
}

void im_scale(ImBlock *block, const char *to, double factor) {
    ImOutput *output = output_of(block->plan, su_printf(&block->plan->arena, "%s%s", block->to, to));
    for (size_t i = 0; i < output->count; i++) output->pieces[i].factor *= (float)factor;
}

void im_drop(ImPlan *plan, const char *prefix, const char *what) {
    size_t dropped = 0;
    for (size_t i = 0; i < plan->source->count; i++) {
        if (strncmp(plan->source->tensors[i].name, prefix, strlen(prefix)) != 0) continue;
        plan->source->tensors[i].taken = true;
        dropped++;
    }
    if (dropped) im_note(plan, "%zu tensors %s* are left out: %s.", dropped, prefix, what);
}

void im_move(ImBlock *block, const char *to, const char *from) {
    im_put(block, to, im_take(block->plan, "%s%s", block->from, from));
}

const ImTensor *im_take_in(ImBlock *block, const char *from, const char *part) {
    return im_take(block->plan, "%s%s.%s", block->from, from, part);
}

void im_linear(ImBlock *block, const char *to, const char *from, bool bias) {
    SuArena *arena = &block->plan->arena;
    im_put(block, su_printf(arena, "%s.weight", to), im_take_in(block, from, "weight"));
    if (bias) im_put(block, su_printf(arena, "%s.bias", to), im_take_in(block, from, "bias"));
}

/* ---- embedding and head */

static bool same_numbers(const ImTensor *a, const ImTensor *b) {
    if (!a->data || a->form != b->form || a->rows != b->rows || a->K != b->K) return false;
    return memcmp(a->data, b->data, a->rows * im_form_row_bytes(a->form, a->K)) == 0;
}

/* The head, or NULL where the embedding is it. */
static const ImTensor *head_of(ImPlan *plan, const ImEnds *ends, const ImTensor *table) {
    if (ends->tied != 0 && !im_there(plan, "%s.weight", ends->head)) return NULL;
    const ImTensor *head = im_take(plan, "%s.weight", ends->head);
    bool same = head && same_numbers(table, head);
    if (ends->tied == 1 && head && !same)
        im_plan_error(plan, head->file, "tensor '%s' differs from '%s', though the config says that they are tied", head->name,
                      table->name);
    return ends->tied == 1 || (ends->tied == -1 && same) ? NULL : head;
}

static void check_vocabulary(ImPlan *plan, const ImEnds *ends, const ImTensor *table) {
    int64_t rows = (int64_t)table->rows, most = (ends->vocab_size + ends->multiple - 1) / ends->multiple * ends->multiple;
    if (rows < ends->vocab_size || rows > most) {
        im_plan_error(plan, table->file, "tensor '%s': expected %" PRId64 " rows, the vocabulary%s, got %" PRId64, table->name,
                      ends->vocab_size, ends->multiple > 1 ? " and perhaps padding" : "", rows);
    }
    if (rows > ends->vocab_size)
        im_note(plan, "The last %" PRId64 " tokens are padding of the vocabulary.", rows - ends->vocab_size);
}

void im_ends(ImPlan *plan, const ImEnds *ends) {
    const ImTensor *table = im_take(plan, "%s.weight", ends->embed), *last = im_take(plan, "%s.weight", ends->norm);
    const ImTensor *bias = ends->norm_bias ? im_take(plan, "%s.bias", ends->norm) : NULL;
    if (!table || !last || (ends->norm_bias && !bias)) return;
    if (plan->source->invents) im_has_rows(plan, table, (uint64_t)ends->vocab_size);
    const ImTensor *head = head_of(plan, ends, table);
    check_vocabulary(plan, ends, table);
    put(plan, "embed.weight", table, 0, table->rows);
    put(plan, "final_norm.weight", last, 0, last->rows);
    if (bias) put(plan, "final_norm.bias", bias, 0, bias->rows);
    if (head) put(plan, "head.weight", head, 0, head->rows);
    plan->vocab_size = (int64_t)table->rows;
    im_top(plan, "vocab_size", "%" PRIu64, table->rows);
    im_top(plan, "tie_embeddings", head ? "false" : "true");
}

static int by_name(const void *a, const void *b) { return strcmp(((const ImOutput *)a)->name, ((const ImOutput *)b)->name); }

void im_plan_settle(ImPlan *plan) {
    if (plan->n_outputs) qsort(plan->outputs, plan->n_outputs, sizeof *plan->outputs, by_name);
}

const ImOutput *im_plan_find(const ImPlan *plan, const char *name) {
    ImOutput key = {.name = name};
    return plan->n_outputs ? bsearch(&key, plan->outputs, plan->n_outputs, sizeof key, by_name) : NULL;
}

void im_plan_free(ImPlan *plan) { su_arena_free(&plan->arena); }
