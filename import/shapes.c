/* Whether a plan and its spec fit: every tensor there, of the right size, and none besides. */
#include <inttypes.h>
#include <string.h>

#include "import/write.h"
#include "runtime/safetensors.h"

static const char *shape_of(const ImTensor *t, SuDiags *diags) { return rt_shape_text(&diags->arena, t->shape, t->rank); }

/* A vector's pieces are rows of one number, and so may be those of floats. Each piece is whole rows, and whole matrices where there are several:
 * that is what write.c goes by. */
static bool check_piece(const FeTensor *tensor, const ImPiece *piece, SuDiags *diags) {
    const ImTensor *from = piece->from;
    const uint64_t inner = tensor->rank > 1 ? (uint64_t)tensor->shape[tensor->rank - 1] : 1;
    const uint64_t whole = tensor->rank == 3 ? inner * (uint64_t)tensor->shape[1] : inner;
    if (!from) return true;
    if (from->K != 1 && from->K != inner)
        return su_error(diags, su_file_span(diags, from->file), NULL,
                        "tensor '%s': expected rows of %" PRIu64 " numbers, got shape %s", from->name, inner,
                        shape_of(from, diags));
    if (piece->plus && piece->plus->K != 1)
        return su_error(diags, su_file_span(diags, piece->plus->file), NULL, "tensor '%s': expected a vector, got shape %s",
                        piece->plus->name, shape_of(piece->plus, diags));
    if (piece->rows * from->K % whole == 0) return true;
    return su_error(diags, su_file_span(diags, from->file), NULL,
                    "tensor '%s' has shape %s: expected a multiple of %" PRIu64 " numbers, as '%s' of shape %s is made of",
                    from->name, shape_of(from, diags), whole, tensor->name,
                    rt_shape_text(&diags->arena, tensor->shape, tensor->rank));
}

static bool check_output(const FeTensor *tensor, const ImOutput *output, SuDiags *diags) {
    uint64_t wanted = 1, got = 0;
    bool ok = true;
    for (int i = 0; i < tensor->rank; i++) wanted *= (uint64_t)tensor->shape[i];
    for (size_t i = 0; i < output->count; i++) {
        const ImPiece *piece = &output->pieces[i];
        ok = check_piece(tensor, piece, diags) && ok;
        got += piece->rows * (piece->from ? piece->from->K : 1);
    }
    if (!ok || got == wanted) return ok;
    const ImTensor *from = output->count ? output->pieces[0].from : NULL;
    return su_error(diags, from ? su_file_span(diags, from->file) : (SuSpan){0}, NULL,
                    "tensor '%s' has shape %s: by the config '%s' has %s, of %s", from ? from->name : output->name,
                    from ? shape_of(from, diags) : "[]", tensor->name, rt_shape_text(&diags->arena, tensor->shape, tensor->rank),
                    output->count > 1 ? "several such tensors" : "it alone");
}

bool im_check_shapes(const ImPlan *plan, FeSpec *spec, SuDiags *diags) {
    size_t count;
    const FeTensor *tensors = fe_tensors(spec, &count);
    bool ok = true;
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        const ImOutput *output = im_plan_find(plan, tensors[i].name);
        if (!output) SU_BUG("no family gives the tensor '%s'", tensors[i].name);
        ok = check_output(&tensors[i], output, diags) && ok;
        found++;
    }
    if (found != plan->n_outputs) SU_BUG("the spec has %zu tensors, its family gives %zu", found, plan->n_outputs);
    return ok;
}
