/* Grouped linear maps in bf16 on AMX tiles: row p of the output is W[idx[p]]
 * applied to row p / (P/R) of the input, summed in f32. With one expert this is
 * a plain linear layer; with experts it is the whole of a mixture's arithmetic,
 * and costs what the chosen experts cost.
 *
 *     forward    y[p]    = W[e] x[p']                 p' = p / (P/R), e = idx[p]
 *     backward   dx[p'] += W[e]^T dy[p]
 *                dW[e]  += dy[p] x[p']^T
 *
 * Rows are handled in chunks; inside a chunk they are sorted by expert, packed
 * into tiles of 16 rows x 32 bf16, multiplied, and scattered back.
 */
#include <immintrin.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "ffi.h"

typedef uint16_t bf16;

enum { TILE = 512, CHUNK = 1024, MAX_EXPERTS = 256 }; /* bf16 per tile; most rows p per chunk */

struct linear {
    int64_t rows_in, pairs, experts, out, in;
    int64_t share; /* rows p per input row */
    int64_t chunk; /* rows p per chunk; a multiple of share, so that no input row lies in two */
    const float *x;     /* [rows_in][in] */
    const int32_t *idx; /* [pairs] */
    const float *w;     /* [experts][out][in] */
    const float *gy;    /* [pairs][out], backward only */
};

static int64_t tiles(int64_t n, int64_t size) { return (n + size - 1) / size; }
static int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- tiles ---- */

/* Linux grants the tile registers on request, once per process. */
static void tiles_allow(void) { syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18); }

static void tiles_open(void) {
    struct {
        uint8_t palette, start, pad[14];
        uint16_t colsb[16];
        uint8_t rows[16];
    } cfg = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        cfg.colsb[i] = 64;
        cfg.rows[i] = 16;
    }
    _tile_loadconfig(&cfg);
}

static __mmask16 mask_of(int64_t n) { return (__mmask16)(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1); }

/* Up to 16 rows of floats, k contiguous -> tiles [k/32][16 rows][32 k]. */
static void pack_rows(bf16 *dst, const float *const rows[16], int n, int64_t len) {
    for (int64_t kt = 0; kt < tiles(len, 32); kt++, dst += TILE)
        for (int r = 0; r < 16; r++) {
            __m512 lo = _mm512_setzero_ps(), hi = lo;
            if (r < n) {
                lo = _mm512_maskz_loadu_ps(mask_of(len - kt * 32), rows[r] + kt * 32);
                hi = _mm512_maskz_loadu_ps(mask_of(len - kt * 32 - 16), rows[r] + kt * 32 + 16);
            }
            _mm512_store_si512(dst + r * 32, (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
        }
}

/* 32 rows of floats (k goes down, `cols` <= 16 columns) -> one tile [16 k pairs][16 columns][2]. */
static void pack_pairs(bf16 *dst, const float *const rows[32], int n, int64_t col, int64_t cols) {
    const __m512i zip = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
                                         19, 3, 18, 2, 17, 1, 16, 0);
    __mmask16 m = mask_of(cols);
    for (int k = 0; k < 32; k += 2) {
        __m512 lo = k < n ? _mm512_maskz_loadu_ps(m, rows[k] + col) : _mm512_setzero_ps();
        __m512 hi = k + 1 < n ? _mm512_maskz_loadu_ps(m, rows[k + 1] + col) : _mm512_setzero_ps();
        __m512i two = (__m512i)_mm512_cvtne2ps_pbh(hi, lo);
        _mm512_store_si512(dst + k * 16, _mm512_permutexvar_epi16(zip, two));
    }
}

/* 16 x 16 words of 32 bits, transposed in place: turns either packing into the other. */
static void transpose(bf16 *tile) {
    const __m512i down =
        _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), _mm512_set1_epi32(16));
    __m512i col[16];
    for (int i = 0; i < 16; i++) col[i] = _mm512_i32gather_epi32(down, (int *)tile + i, 4);
    for (int i = 0; i < 16; i++) _mm512_store_si512(tile + i * 32, col[i]);
}

/* out[2][2][16][16] (+)= two tile rows of A times two tile columns of B; a second that is not there
 * may repeat the first. */
static void multiply(float *out, const bf16 *a0, const bf16 *a1, const bf16 *b0, const bf16 *b1, int64_t depth) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = 0; k < depth * TILE; k += TILE) {
        _tile_loadd(4, a0 + k, 64);
        _tile_loadd(6, b0 + k, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b1 + k, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a1 + k, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, out, 64);
    _tile_stored(1, out + 256, 64);
    _tile_stored(2, out + 512, 64);
    _tile_stored(3, out + 768, 64);
}

/* Rows of the product go to rows[i] + column; `add` sums instead of storing. */
static void deliver(const float *c, float *const *rows, int64_t n, int64_t col, int64_t cols, int add) {
    __mmask16 m = mask_of(cols - col);
    for (int64_t r = 0; r < min(n, 16); r++) {
        __m512 v = _mm512_load_ps(c + r * 16);
        if (add) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, rows[r] + col));
        _mm512_mask_storeu_ps(rows[r] + col, m, v);
    }
}

/* rows [m][n] of the result = A [m/16] tile rows x B [n/16] tile columns, each `depth` tiles deep. */
static void product(float *const *rows, int64_t m, int64_t n, const bf16 *a, const bf16 *b, int64_t depth, int add) {
    float c[1024] __attribute__((aligned(64)));
    int64_t mt = tiles(m, 16), nt = tiles(n, 16);
    for (int64_t j = 0; j < nt; j += 2)
        for (int64_t i = 0; i < mt; i += 2) {
            const bf16 *a0 = a + i * depth * TILE, *a1 = i + 1 < mt ? a0 + depth * TILE : a0;
            const bf16 *b0 = b + j * depth * TILE, *b1 = j + 1 < nt ? b0 + depth * TILE : b0;
            multiply(c, a0, a1, b0, b1, depth);
            for (int64_t q = 0; q < 4; q++) {
                int64_t r = i + q / 2, s = j + q % 2;
                if (r < mt && s < nt) deliver(c + q * 256, rows + r * 16, m - r * 16, s * 16, n, add);
            }
        }
}

/* ---- memory ---- */

static void *scratch(int64_t bytes) { return aligned_alloc(64, (size_t)(bytes + 63) / 64 * 64); }

/* ---- weights ---- */

/* W [out][in] as B of y = x W^T: tile columns run over out, depth over in. */
static void pack_forward(bf16 *dst, const float *w, int64_t out, int64_t in) {
    int64_t depth = tiles(in, 32);
    for (int64_t j = 0; j < tiles(out, 16); j++, dst += depth * TILE) {
        const float *rows[16] = {0};
        int n = (int)min(16, out - j * 16);
        for (int r = 0; r < n; r++) rows[r] = w + (j * 16 + r) * in;
        pack_rows(dst, rows, n, in);
        for (int64_t k = 0; k < depth; k++) transpose(dst + k * TILE);
    }
}

/* W [out][in] as B of dx = dy W: tile columns run over in, depth over out. */
static void pack_backward(bf16 *dst, const float *w, int64_t out, int64_t in) {
    for (int64_t j = 0; j < tiles(in, 16); j++)
        for (int64_t k = 0; k < tiles(out, 32); k++, dst += TILE) {
            const float *rows[32] = {0};
            int n = (int)min(32, out - k * 32);
            for (int r = 0; r < n; r++) rows[r] = w + (k * 32 + r) * in;
            pack_pairs(dst, rows, n, j * 16, in - j * 16);
        }
}

static int64_t packed_size(int64_t columns, int64_t depth) { return tiles(columns, 16) * tiles(depth, 32) * TILE; }

static bf16 *pack_experts(const struct linear *l, int backward) {
    int64_t size = backward ? packed_size(l->in, l->out) : packed_size(l->out, l->in);
    bf16 *all = scratch(l->experts * size * 2);
#pragma omp parallel for schedule(dynamic)
    for (int64_t e = 0; e < l->experts; e++)
        (backward ? pack_backward : pack_forward)(all + e * size, l->w + e * l->out * l->in, l->out, l->in);
    return all;
}

/* ---- chunks ---- */

/* The pairs of one chunk in the order of their experts. */
struct sorted {
    int64_t start[MAX_EXPERTS + 1];
    int64_t pair[CHUNK];
};

static void sort_chunk(struct sorted *s, const struct linear *l, int64_t first) {
    int64_t last = min(first + l->chunk, l->pairs), next[MAX_EXPERTS + 1] = {0};
    for (int64_t p = first; p < last; p++) next[l->idx[p] + 1]++;
    for (int64_t e = 0; e < l->experts; e++) next[e + 1] += next[e];
    memcpy(s->start, next, sizeof next);
    for (int64_t p = first; p < last; p++) s->pair[next[l->idx[p]]++] = p;
}

/* dst rows = src rows of these pairs through B, 64 at a time. */
static void run_rows(const float *const *src, float *const *dst, int64_t n, int64_t in, int64_t out, const bf16 *b, bf16 *a,
                     int add) {
    int64_t depth = tiles(in, 32);
    for (int64_t i = 0; i < n; i += 64) {
        int64_t m = min(64, n - i);
        for (int64_t r = 0; r < m; r += 16) pack_rows(a + r / 16 * depth * TILE, src + i + r, (int)min(16, m - r), in);
        product(dst + i, m, out, a, b, depth, add);
    }
}

static void linear_forward(const struct linear *l, float *y) {
    bf16 *w = pack_experts(l, 0);
    int64_t size = packed_size(l->out, l->in);
#pragma omp parallel
    {
        bf16 *a = scratch(packed_size(64, l->in) * 2);
        struct sorted s;
        const float *src[CHUNK];
        float *dst[CHUNK];
        tiles_open();
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < l->pairs; first += l->chunk) {
            sort_chunk(&s, l, first);
            for (int64_t i = 0; i < s.start[l->experts]; i++) {
                src[i] = l->x + s.pair[i] / l->share * l->in;
                dst[i] = y + s.pair[i] * l->out;
            }
            for (int64_t e = 0; e < l->experts; e++) {
                int64_t i = s.start[e], n = s.start[e + 1] - i;
                run_rows(src + i, dst + i, n, l->in, l->out, w + e * size, a, 0);
            }
        }
        _tile_release();
        free(a);
    }
    free(w);
}

/* dW (+)= dy^T x over n pairs of one expert. */
static void weight_gradient(float *gw, const float *const *gy, const float *const *x, int64_t n, int64_t out, int64_t in,
                            bf16 *mem) {
    int64_t depth = tiles(n, 32);
    bf16 *a = mem, *b = mem + tiles(out, 16) * depth * TILE;
    for (int64_t k = 0; k < depth; k++) {
        int rows = (int)min(32, n - k * 32);
        for (int64_t i = 0; i < tiles(out, 16); i++) {
            pack_pairs(a + (i * depth + k) * TILE, gy + k * 32, rows, i * 16, out - i * 16);
            transpose(a + (i * depth + k) * TILE);
        }
        for (int64_t j = 0; j < tiles(in, 16); j++) pack_pairs(b + (j * depth + k) * TILE, x + k * 32, rows, j * 16, in - j * 16);
    }
    float *rows[out];
    for (int64_t i = 0; i < out; i++) rows[i] = gw + i * in;
    product(rows, out, in, a, b, depth, 1);
}

static void linear_backward(const struct linear *l, float *gx, float *gw) {
    int threads = omp_get_max_threads();
    int64_t size = packed_size(l->in, l->out), all = l->experts * l->out * l->in;
    bf16 *w = pack_experts(l, 1);
    float *parts = calloc((size_t)(threads * all), 4);
#pragma omp parallel num_threads(threads)
    {
        float *mine = parts + omp_get_thread_num() * all;
        bf16 *a = scratch(packed_size(64, l->out) * 2);
        bf16 *mem = scratch((packed_size(l->out, CHUNK) + packed_size(l->in, CHUNK)) * 2);
        struct sorted s;
        const float *x[CHUNK], *gy[CHUNK];
        float *dst[CHUNK];
        tiles_open();
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < l->pairs; first += l->chunk) {
            sort_chunk(&s, l, first);
            int64_t count = s.start[l->experts];
            if (l->share > 1) memset(gx + first / l->share * l->in, 0, (size_t)(tiles(count, l->share) * l->in) * 4);
            for (int64_t i = 0; i < count; i++) {
                x[i] = l->x + s.pair[i] / l->share * l->in;
                dst[i] = gx + s.pair[i] / l->share * l->in;
                gy[i] = l->gy + s.pair[i] * l->out;
            }
            for (int64_t e = 0; e < l->experts; e++) {
                int64_t i = s.start[e], n = s.start[e + 1] - i;
                if (!n) continue;
                run_rows(gy + i, dst + i, n, l->out, l->in, w + e * size, a, l->share > 1);
                weight_gradient(mine + e * l->out * l->in, gy + i, x + i, n, l->out, l->in, mem);
            }
        }
        _tile_release();
        free(mem);
        free(a);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < all; i++) {
            float sum = 0;
            for (int th = 0; th < threads; th++) sum += parts[th * all + i];
            gw[i] = sum;
        }
    }
    free(parts);
    free(w);
}

/* ---- the two XLA handlers ---- */

static struct linear read_linear(const XLA_FFI_CallFrame *call) {
    tiles_allow();
    struct linear l = {
        .rows_in = arg(call, 0)->dims[0],
        .pairs = arg(call, 1)->dims[0],
        .experts = arg(call, 2)->dims[0],
        .out = arg(call, 2)->dims[1],
        .in = arg(call, 2)->dims[2],
        .x = arg(call, 0)->data,
        .idx = arg(call, 1)->data,
        .w = arg(call, 2)->data,
    };
    l.share = l.pairs / l.rows_in;
    l.chunk = CHUNK / l.share * l.share;
    return l;
}

/* (x, idx, W) -> y */
XLA_FFI_Error *moss_linear(XLA_FFI_CallFrame *call) {
    if (only_metadata(call)) return NULL;
    struct linear l = read_linear(call);
    linear_forward(&l, result(call, 0)->data);
    return NULL;
}

/* (x, idx, W, dy) -> (dx, dW) */
XLA_FFI_Error *moss_linear_back(XLA_FFI_CallFrame *call) {
    if (only_metadata(call)) return NULL;
    struct linear l = read_linear(call);
    l.gy = arg(call, 3)->data;
    linear_backward(&l, result(call, 0)->data, result(call, 1)->data);
    return NULL;
}
