#include "coverage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/keys.h"
#include "frontend/kinds/ssm.h"

typedef struct Coverage {
    const char *name;
    int64_t count, least;
} Coverage;

static Coverage coverage[] = {{"hold", 0, 1},
                              {"update", 0, 1},
                              {"params", 0, 1},
                              {"input: inner", 0, 1},
                              {"ssm without experts", 0, 1},
                              {"mamba2", 0, 1},
                              {"mamba3", 0, 1},
                              {"several ranks", 0, 1},
                              {"moe", 0, 1},
                              {"shared experts", 0, 1},
                              {"shared gate", 0, 1},
                              {"latent experts", 0, 1},
                              {"groups", 0, 1},
                              {"plain mlp", 0, 1},
                              {"gated mlp", 0, 1},
                              {"shortconv", 0, 1},
                              {"parallel", 0, 1},
                              {"share", 0, 1},
                              {"adapters", 0, 1},
                              {"own", 0, 1},
                              {"grouped attention", 0, 1},
                              {"window", 0, 1},
                              {"rope", 0, 1},
                              {"interleaved rope", 0, 1},
                              {"linear scaling", 0, 1},
                              {"llama3 scaling", 0, 1},
                              {"qkv_bias", 0, 1},
                              {"norm of heads", 0, 1},
                              {"norm of q and k", 0, 1},
                              {"qkv_clip", 0, 1},
                              {"scale", 0, 1},
                              {"sigmoid", 0, 1},
                              {"select_bias", 0, 1},
                              {"input_scale", 0, 1},
                              {"output_scale", 0, 1},
                              {"out_norm", 0, 1},
                              {"f32", 0, 1},
                              {"bf16", 0, 1},
                              {"f16", 0, 1},
                              {"q8", 0, 1},
                              {"q4", 0, 1},
                              {"rows of q8 or q4", 0, 1},
                              {"inputs not rounded", 0, 1},
                              {"mixed q8 or q4 maps", 0, 1},
                              {"tied", 0, 1},
                              {"untied", 0, 1},
                              {"layer norm", 0, 1},
                              {"more than 256 tokens", 0, 1},
                              {"batches", 0, 100}};
enum { N_COVERAGE = sizeof coverage / sizeof *coverage };

void cover(const char *name, bool seen) {
    for (int i = 0; i < N_COVERAGE; i++)
        if (strcmp(coverage[i].name, name) == 0) {
            coverage[i].count += seen;
            return;
        }
    abort();
}

/* -1 for a key that the block does not have, or whose value is a word in place of a number. */
static int64_t integer(const FeBlock *block, FeKey key) {
    const FeValue *value = fe_find_value(block->map, key);
    return value && value->state == FE_GIVEN && !value->word ? value->integer : -1;
}

static bool given(const FeBlock *block, FeKey key) {
    const FeValue *value = fe_find_value(block->map, key);
    return value && value->state == FE_GIVEN;
}

static void cover_block(const FeBlock *block) {
    cover("parallel", block->n_branches > 0);
    for (int64_t i = 0; i < block->n_branches; i++) cover_block(&block->branches[i]);
    if (block->n_branches > 0) return;
    cover("share", block->share != NULL);
    cover("adapters", block->share && block->share->rank > 0);
    cover("own", block->share && fe_value(block->share->map, FE_KEY_share_own)->state == FE_GIVEN);
    bool experts = block->experts.count > 0, ssm = block->kind == FE_SSM, mlp = block->kind == FE_MLP,
         attention = block->kind == FE_ATTENTION;
    bool outputs = experts && integer(block, FE_KEY_ssm_experts_combine) == FE_OUTPUTS;
    cover("hold", outputs && integer(block, FE_KEY_ssm_experts_idle) == FE_HOLD);
    cover("update", outputs && integer(block, FE_KEY_ssm_experts_idle) == FE_UPDATE);
    cover("params", ssm && experts && !outputs);
    cover("input: inner", ssm && experts && block->router.input == FE_ROUTER_INNER);
    cover("ssm without experts", ssm && !experts);
    cover("mamba2", integer(block, FE_KEY_ssm_kind) == FE_MAMBA2);
    cover("mamba3", integer(block, FE_KEY_ssm_kind) == FE_MAMBA3);
    cover("several ranks", integer(block, FE_KEY_ssm_mimo_rank) > 1);
    cover("moe", mlp && experts);
    cover("shared experts", mlp && experts && integer(block, FE_KEY_mlp_experts_shared) > 0);
    cover("shared gate", integer(block, FE_KEY_mlp_experts_shared_gate) > 0);
    cover("latent experts", integer(block, FE_KEY_mlp_experts_latent) > 0);
    cover("groups", experts && block->router.groups > block->router.top_groups);
    cover("gated mlp", mlp && integer(block, FE_KEY_mlp_activation) >= FE_SWIGLU);
    cover("plain mlp", mlp && integer(block, FE_KEY_mlp_activation) < FE_SWIGLU);
    cover("shortconv", block->kind == FE_SHORTCONV);
    cover("grouped attention", integer(block, FE_KEY_attention_n_kv_heads) < integer(block, FE_KEY_attention_n_heads));
    cover("window", block->window > 0);
    cover("rope", attention && block->knows_order);
    cover("interleaved rope", integer(block, FE_KEY_rope_pairing) == FE_INTERLEAVED);
    cover("linear scaling", integer(block, FE_KEY_rope_scaling_kind) == FE_LINEAR);
    cover("llama3 scaling", integer(block, FE_KEY_rope_scaling_kind) == FE_LLAMA3);
    cover("qkv_bias", integer(block, FE_KEY_attention_qkv_bias) > 0 && integer(block, FE_KEY_attention_bias) == 0);
    cover("norm of heads", integer(block, FE_KEY_attention_qk_norm) == FE_QK_NORM_HEAD);
    cover("norm of q and k", integer(block, FE_KEY_attention_qk_norm) == FE_QK_NORM_FULL);
    cover("qkv_clip", integer(block, FE_KEY_attention_qkv_clip) >= 0);
    cover("scale", given(block, FE_KEY_attention_scale));
    cover("sigmoid", experts && block->router.score == FE_SIGMOID);
    cover("select_bias", experts && block->router.select_bias);
    cover("input_scale", block->input_scale != 1.0);
    cover("output_scale", block->output_scale != 1.0);
    cover("out_norm", block->out_norm);
}

static bool mixes(const FeBlock *block) {
    return block->n_branches == 0 && block->kind == FE_SSM && block->experts.count > 0 && fe_read_ssm(block->map).params;
}

/* Weights by what they are stored as. */
static void cover_weights(FeSpec *spec) {
    size_t count;
    const FeTensor *tensors = fe_tensors(spec, &count);
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        if (!ir_is_blocks(tensors[i].dtype)) continue;
        any = true;
        cover("rows of q8 or q4", strcmp(tensors[i].map, "embed") == 0);
        cover("mixed q8 or q4 maps", tensors[i].per_expert && mixes(&spec->blocks[tensors[i].block]));
    }
    cover("inputs not rounded", any && !spec->weights.rounds);
}

void cover_spec(FeSpec *spec) {
    for (int64_t i = 0; i < spec->n_blocks; i++) cover_block(&spec->blocks[i]);
    cover_weights(spec);
    cover(ir_dtype_word(spec->weights.dtype), true);
    cover(spec->tie_embeddings ? "tied" : "untied", true);
    cover("layer norm", spec->norm.kind == FE_NORM_LAYER);
}

bool covered(void) {
    bool all = true;
    for (int i = 0; i < N_COVERAGE; i++) {
        printf("%s%s %lld", i > 0 ? ", " : "drawn: ", coverage[i].name, (long long)coverage[i].count);
        all = all && coverage[i].count >= coverage[i].least;
    }
    printf("\n");
    return all;
}
