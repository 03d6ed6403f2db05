#include "cli/inspect/describe.h"

#include <inttypes.h>

void cli_describe_block(const FeBlock *block, SuText *out) {
    static const char *const combine[] = {[FE_OUTPUTS] = "outputs", [FE_PARAMS] = "params"};
    if (block->kind == FE_ATTENTION && block->attention.window) su_text_add(out, "window %" PRId64, block->attention.window);
    if (!block->experts.count) return;
    su_text_add(out, "%" PRId64 " experts, top %" PRId64, block->experts.count, block->router.top_k);
    if (block->kind == FE_SSM) su_text_add(out, ", %s", combine[block->experts.combine]);
    if (block->kind == FE_MLP && block->experts.shared) su_text_add(out, ", %" PRId64 " shared", block->experts.shared);
}
