/* libFuzzer target: a GGUF file of any bytes, behind the letters GGUF and the version, becomes a checkpoint and a plan that fits its spec, or
 * is refused with a reason; all numbers that the plan asks for are read. */
#include <stdlib.h>
#include <string.h>

#include "import/families/families.h"
#include "import/gguf_view.h"
#include "import/write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_NUMBERS = 1 << 16 };

/* Each piece's first and last row. */
static void read_pieces(const ImPlan *plan) {
    static float numbers[MOST_NUMBERS];
    for (size_t i = 0; i < plan->n_outputs; i++)
        for (size_t p = 0; p < plan->outputs[i].count; p++) {
            const ImPiece *piece = &plan->outputs[i].pieces[p];
            if (piece->from == NULL || piece->rows == 0 || piece->from->K > MOST_NUMBERS) continue;
            im_read(piece->from, piece->first * piece->from->K, piece->from->K, numbers);
            im_read(piece->from, (piece->first + piece->rows - 1) * piece->from->K, piece->from->K, numbers);
        }
}

static bool make_spec(ImPlan *plan, SuDiags *diags) {
    SuText text = {0};
    FeSpec spec = {0};
    im_plan_settle(plan);
    im_plan_print(plan, "Fuzzed.", NULL, &text);
    bool ok = fe_spec_parse("spec.yaml", text.text, text.size, NULL, 0, &spec, diags) && im_check_shapes(plan, &spec, diags);
    if (ok) read_pieces(plan);
    su_diags_keep(diags);
    fe_spec_free(&spec);
    su_text_free(&text);
    return ok;
}

static bool make(ImCheckpoint *checkpoint, SuDiags *diags) {
    ImPlan plan = {.source = &checkpoint->source, .diags = diags};
    const ImFamily *family = im_family_of(checkpoint->config);
    if (family == NULL) return false;
    family->plan(checkpoint->config, &plan);
    im_config_all_used(checkpoint->config);
    bool ok = !im_config_failed(checkpoint->config) && !plan.failed && im_source_all_taken(&checkpoint->source, diags);
    ok = ok && make_spec(&plan, diags);
    im_plan_free(&plan);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t head[] = {'G', 'G', 'U', 'F', 3, 0, 0, 0};
    uint8_t *image = malloc(sizeof head + size);
    SuDiags diags = {0};
    SuGuard guard;
    ImCheckpoint checkpoint = {.source = {.path = "input"}, .texts = {.bos = -1}};
    memcpy(image, head, sizeof head);
    if (size != 0) memcpy(image + sizeof head, data, size);
    if (SU_CAUGHT(&guard, &diags, "importing")) abort(); /* a bug, or memory without end */
    bool ok = im_gguf_view_of(image, sizeof head + size, "input", &checkpoint, &diags);
    ok = ok && im_source_settle(&checkpoint.source, &diags) && make(&checkpoint, &diags);
    if (!ok && diags.errors == 0) abort(); /* every refusal has a reason */
    if (checkpoint.close != NULL) checkpoint.close(&checkpoint);
    su_arena_free(&checkpoint.source.arena);
    su_arena_free(&checkpoint.arena);
    su_guard_end(&guard);
    su_diags_free(&diags);
    free(image);
    return 0;
}
