/* libFuzzer target: a GGUF file of any bytes, behind the letters GGUF and the version, becomes a checkpoint and a plan that fits its spec, or
 * is refused with a reason; all numbers that the plan asks for are read. */
#include <stdlib.h>
#include <string.h>

#include "import/gguf_view.h"
#include "import/model.h"
#include "import/texts.h"

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

static bool make(ImCheckpoint *checkpoint, size_t size, SuDiags *diags) {
    const ImOptions options = {.input = "input", .exact = size % 2 != 0};
    ImModel model;
    const bool ok = im_model_make(checkpoint, &options, &model, diags);
    if (ok) read_pieces(&model.plan);
    su_diags_keep(diags);
    im_model_free(&model);
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
    ok = ok && im_source_settle(&checkpoint.source, &diags) && make(&checkpoint, size, &diags);
    if (ok) im_texts_settle(&checkpoint.texts, "input", &diags);
    if (!ok && diags.errors == 0) abort(); /* every refusal has a reason */
    if (checkpoint.close != NULL) checkpoint.close(&checkpoint);
    su_arena_free(&checkpoint.source.arena);
    su_arena_free(&checkpoint.arena);
    su_guard_end(&guard);
    su_diags_free(&diags);
    free(image);
    return 0;
}
