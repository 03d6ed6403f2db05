#include "explore/sample.h"

#include <stdlib.h>

#include "support/alloc.h"
#include "support/random.h"

/* ---------------------------------------------------------------------------------------------- a random order of all indices */

enum { ROUNDS = 4 };

/* A permutation of the numbers below 2^(2·half): Feistel's, with a function of su_random. */
static uint64_t permute(uint64_t x, unsigned half, uint64_t seed) {
    uint64_t mask = ((uint64_t)1 << half) - 1, left = x >> half, right = x & mask;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t state = seed + 0x632BE59BD9B4E019u * (round + 1) + right;
        uint64_t next = left ^ (su_random(&state) & mask);
        left = right;
        right = next;
    }
    return left << half | right;
}

/* Number i of a permutation of the numbers below n. */
static uint64_t nth_of(uint64_t i, uint64_t n, uint64_t seed) {
    unsigned half = 1;
    while (half < 31 && (uint64_t)1 << 2 * half < n) half++;
    do i = permute(i, half, seed); /* the walk leaves what is too large again, since it is a cycle */
    while (i >= n);
    return i;
}

/* ---------------------------------------------------------------------------------------------- Sobol's sequence */

enum { BITS = 32, MOST_DEGREE = 9 };

/* Whether x generates the field of 2^degree elements: the polynomial is primitive over GF(2). */
static bool is_primitive(uint32_t polynomial, unsigned degree) {
    uint32_t order = ((uint32_t)1 << degree) - 1, x = 1;
    for (uint32_t power = 1; power <= order; power++) {
        x <<= 1;
        if (x >> degree & 1) x ^= polynomial;
        if (x == 1) return power == order;
    }
    return false;
}

/* Direction numbers of dimension `index` (from 0): the first is van der Corput's; each further one belongs to the next primitive
 * polynomial, with first numbers that are odd and drawn once and for all. */
static void directions(unsigned index, uint32_t out[BITS]) {
    for (unsigned bit = 0; bit < BITS; bit++) out[bit] = (uint32_t)1 << (BITS - 1 - bit);
    unsigned found = 0;
    for (unsigned degree = 1; index > 0 && degree <= MOST_DEGREE; degree++) {
        for (uint32_t p = ((uint32_t)1 << degree) | 1; p < (uint32_t)2 << degree; p += 2) {
            if (!is_primitive(p, degree) || ++found < index) continue;
            uint64_t state = 0xA5A5u + index;
            for (unsigned bit = 0; bit < BITS; bit++) {
                uint32_t m = (uint32_t)(su_random(&state) & (((uint32_t)2 << bit) - 1)) | 1;
                if (bit < degree) out[bit] = m << (BITS - 1 - bit);
                if (bit < degree) continue;
                out[bit] = out[bit - degree] ^ (out[bit - degree] >> degree);
                for (unsigned k = 1; k < degree; k++)
                    if (p >> (degree - k) & 1) out[bit] ^= out[bit - k];
            }
            return;
        }
    }
}

typedef struct Sobol {
    uint32_t (*directions)[BITS]; /* [n_axes] */
    uint32_t *at, *shift;         /* [n_axes] */
} Sobol;

static Sobol start_sobol(const ExSpace *space, SuArena *arena) {
    Sobol s = {.directions = su_alloc_array(arena, space->n_axes, sizeof *s.directions),
               .at = SU_NEW_ARRAY(arena, uint32_t, space->n_axes),
               .shift = SU_NEW_ARRAY(arena, uint32_t, space->n_axes)};
    uint64_t state = space->seed;
    for (size_t a = 0; a < space->n_axes; a++) {
        directions((unsigned)a, s.directions[a]);
        s.shift[a] = (uint32_t)(su_random(&state) >> 32);
    }
    return s;
}

/* The point behind number i, in the order of Gray codes. */
static void next_sobol(Sobol *s, const ExSpace *space, uint64_t i, uint32_t *choices) {
    unsigned bit = (unsigned)__builtin_ctzll(~i);
    for (size_t a = 0; a < space->n_axes; a++) {
        choices[a] = (uint32_t)(((uint64_t)(s->at[a] ^ s->shift[a]) * space->axes[a].n_values) >> 32);
        if (bit < BITS) s->at[a] ^= s->directions[a][bit];
    }
}

/* ---------------------------------------------------------------------------------------------- samples */

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Sorts and drops what is there twice. */
static size_t settle(uint64_t *indices, size_t n) {
    if (n > 1) qsort(indices, n, sizeof *indices, by_value);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || indices[i] != indices[i - 1]) indices[kept++] = indices[i];
    return kept;
}

static bool is_twin(const ExSpace *space, const uint32_t *choices, ExValue *values, ExValue *derived) {
    const char *why;
    const ExExpr *where;
    return ex_point(space, choices, values, derived, &why, &where) == EX_TWIN;
}

/* What a sample is drawn with. */
typedef struct Draw {
    const ExSpace *space;
    ExMethod method;
    Sobol sobol;
    uint32_t *choices;
    ExValue *values, *derived;
} Draw;

static Draw start_draw(const ExSpace *space, ExMethod method, SuArena *arena) {
    return (Draw){.space = space,
                  .method = method,
                  .sobol = start_sobol(space, arena),
                  .choices = SU_NEW_ARRAY(arena, uint32_t, space->n_axes),
                  .values = SU_NEW_ARRAY(arena, ExValue, space->n_axes),
                  .derived = SU_NEW_ARRAY(arena, ExValue, space->n_derive)};
}

/* The index that draw number i gives. false: it is a twin's. */
static bool draw(Draw *d, uint64_t i, uint64_t *out_index) {
    if (d->method == EX_SOBOL)
        next_sobol(&d->sobol, d->space, i, d->choices);
    else
        ex_choices(d->space, nth_of(i, d->space->n_indices, d->space->seed), d->choices);
    *out_index = ex_index(d->space, d->choices);
    return !is_twin(d->space, d->choices, d->values, d->derived);
}

const uint64_t *ex_sample(const ExSpace *space, ExMethod method, uint64_t count, SuArena *arena, size_t *out_count) {
    uint64_t limit = space->n_indices, tries = count > limit / 64 ? limit : 64 * count; /* twins may be most of a space */
    size_t n = 0, full = (size_t)(count < limit ? count : limit);
    uint64_t *indices = SU_NEW_ARRAY(arena, uint64_t, full);
    Draw d = start_draw(space, method, arena);
    for (uint64_t i = 0; i < tries && n < full; i++) {
        if (draw(&d, i, &indices[n])) n++;
        if (n == full) n = settle(indices, n);
    }
    *out_count = settle(indices, n);
    return indices;
}

const uint64_t *ex_sample_order(const ExSpace *space, ExMethod method, uint64_t tries, SuArena *arena, size_t *out_count) {
    size_t n = 0;
    if (method == EX_RANDOM && tries > space->n_indices) tries = space->n_indices;
    uint64_t *indices = SU_NEW_ARRAY(arena, uint64_t, tries);
    Draw d = start_draw(space, method, arena);
    for (uint64_t i = 0; i < tries; i++)
        if (draw(&d, i, &indices[n])) n++;
    *out_count = n;
    return indices;
}
