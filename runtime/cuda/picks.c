/* Tokens that are picked on the GPU: one cooperative launch takes all the steps, and nothing is read in between. */
#include <string.h>

#include "runtime/cuda/gpu.h"
#include "support/size.h"

/* Where things lie in gpu->picks: what goes up lies before what only comes down. */
typedef struct Layout {
    uint64_t gaps, picks, sent, random, picked, end;
} Layout;

static Layout lay_out(const RtDeviceStep *s, const RtDevicePicks *p) {
    Layout l;
    l.gaps = 0;
    l.picks = p->vocabulary->gaps ? su_round_up(su_ceil_div((uint64_t)p->vocabulary->limit, 32) * 4, 64) : 0;
    l.sent = l.random = l.picks + su_round_up(s->n_segments * sizeof(RtCudaPick), 64);
    l.picked = l.random + su_round_up(s->n_segments * sizeof(uint64_t), 64);
    l.end = l.picked + (uint64_t)p->count * s->n_segments * sizeof(int32_t);
    return l;
}

static void fill_picks(const RtDeviceStep *s, const RtDevicePicks *p, uint8_t *to) {
    for (uint32_t i = 0; i < s->n_segments; i++) {
        const MossSampler *sampler = p->sequences[i].sampler;
        RtCudaPick pick = {.random = sampler->state,
                           .temperature = sampler->temperature,
                           .top_p = sampler->top_p,
                           .top_k = sampler->top_k,
                           .from = p->from ? p->from[i] : i};
        memcpy(to + i * sizeof pick, &pick, sizeof pick);
    }
}

static MossError send_picks(RtCuda *gpu, const RtDeviceStep *s, const RtDevicePicks *p, const Layout *l) {
    SuArena arena = {0};
    uint8_t *host = SU_NEW_ARRAY(&arena, uint8_t, l->sent);
    if (p->vocabulary->gaps) memcpy(host, p->vocabulary->gaps, su_ceil_div((uint64_t)p->vocabulary->limit, 32) * 4);
    fill_picks(s, p, host + l->picks);
    MossError error = gpu->device.kind->put(&gpu->device, gpu->picks.address, host, l->sent);
    su_arena_free(&arena);
    return error;
}

static void tell(RtCuda *gpu, const RtDevicePicks *p, const Layout *l, RtCudaControl *control) {
    CuPointer base = gpu->picks.address;
    *control = (RtCudaControl){.stuck = control->stuck,
                               .steps = p->count,
                               .picking = 1,
                               .limit = (int32_t)p->vocabulary->limit,
                               .gaps = p->vocabulary->gaps ? base + l->gaps : 0,
                               .picks = base + l->picks,
                               .picked = base + l->picked,
                               .random = base + l->random};
    _Static_assert(sizeof control->eos == MOSS_MAX_ENDS * sizeof(int32_t), "room for all of them");
    for (uint32_t i = 0; i < MOSS_MAX_ENDS; i++)
        control->eos[i] = i == 0 ? p->vocabulary->eos : i <= p->vocabulary->n_more_eos ? p->vocabulary->more_eos[i - 1] : -1;
}

/* Samplers, ends and tokens as the GPU left them. */
static void take_results(const RtDeviceStep *s, RtDevicePicks *p, const uint8_t *host, const Layout *l) {
    for (uint32_t i = 0; i < s->n_segments; i++) {
        MossSequence *sequence = &p->sequences[i];
        RtCudaPick pick;
        memcpy(&pick, host + l->picks + i * sizeof pick, sizeof pick);
        sequence->sampler->state = pick.random;
        sequence->ended = pick.ended != 0;
        if (pick.no_number) p->no_number = i;
        for (uint32_t t = 0; t < p->done; t++) {
            memcpy(&sequence->tokens[p->first + t], host + l->picked + ((uint64_t)t * s->n_segments + i) * sizeof(int32_t),
                   sizeof(int32_t));
        }
    }
}

static MossError fetch(RtCuda *gpu, const RtDeviceStep *s, RtDevicePicks *p, const Layout *l, const RtCudaTables *tables) {
    MossError error = rt_cuda_receive(gpu, tables, s);
    if (error.code != MOSS_OK) return error;
    p->done = rt_cuda_control(gpu, tables)->done;
    memcpy(s->nonfinite, gpu->staging + tables->nonfinite, s->rows * sizeof *s->nonfinite);
    SuArena arena = {0};
    uint8_t *host = SU_NEW_ARRAY(&arena, uint8_t, l->end);
    error = gpu->device.kind->get(&gpu->device, host, gpu->picks.address, l->end);
    if (error.code == MOSS_OK) take_results(s, p, host, l);
    su_arena_free(&arena);
    return error;
}

uint32_t rt_cuda_most_picks(const MossDevice *device) {
    uint32_t few = ((const RtCuda *)device)->code.image.few_rows;
    return few ? few : 1;
}

MossError rt_cuda_generate(MossDevice *device, const RtDeviceStep *s, RtDevicePicks *p) {
    RtCuda *gpu = rt_cuda_of(device);
    RtCudaTables tables;
    Layout l = lay_out(s, p);
    MossError error = rt_cuda_enter(gpu);
    if (error.code == MOSS_OK) error = rt_cuda_has_weights(gpu);
    if (error.code == MOSS_OK) error = rt_cuda_describe(gpu, s, &tables);
    if (error.code == MOSS_OK) error = rt_cuda_grow(gpu, &gpu->picks, l.end, "picked tokens");
    if (error.code == MOSS_OK && !p->from)
        error = device->kind->put(device, gpu->logits.address, s->logits, s->n_out_rows * gpu->program->out_stride * sizeof(float));
    if (error.code == MOSS_OK) error = send_picks(gpu, s, p, &l);
    if (error.code != MOSS_OK) return error;
    tell(gpu, p, &l, rt_cuda_control(gpu, &tables));
    error = rt_cuda_send(gpu, &tables);
    RtCudaEntry *entry = s->mode == PG_ROW ? &gpu->code.row : &gpu->code.rows;
    if (error.code == MOSS_OK) error = rt_cuda_launch_together(gpu, entry, &tables);
    if (error.code != MOSS_OK) return rt_cuda_abandon(gpu, error);
    return fetch(gpu, s, p, &l, &tables);
}
