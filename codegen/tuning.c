#include "codegen/tuning.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/alloc.h"
#include "support/cpus.h"

static const char suffix[] = ".schedule";

enum {
    ROW_CLAIM_BYTES = 64 * 1024,
    BLOCK_CLAIM_FMAS = 1 << 17,
    BLOCKS_OF_TILE = 4,
    RUN_INPUTS = 64, /* of three panels 12 KB of weights */
    TILE_PANELS = 3,
    MOST_SUMS = 32,
    MOST_ROW_PANELS = 12,
    STREAM_BYTES = 32 * 1024, /* that a stream of small panels should read at least */
    MOST_SPAN = 8,
    MANY_TILES = 64, /* among which a few that overlap do not count */
    MOST_BYTES = 1 << 20 /* of all entries, which are some ten thousand */
};

/* ---------------------------------------------------------------------------------------------- defaults */

/* How many panels side by side leave the smallest part of the last group unused; more is better among equals. */
static unsigned fitting_panels(uint64_t panels, unsigned most) {
    unsigned best = most;
    uint64_t least = UINT64_MAX;
    for (unsigned p = most; 2 * p >= most && p > 0; p--) {
        uint64_t waste = (panels + p - 1) / p * p - panels;
        if (waste < least) {
            least = waste;
            best = p;
        }
    }
    return panels < best ? (unsigned)panels : best;
}

static int32_t row_panels(const CgTarget *target, const PgKernel *k) {
    uint64_t panels = pg_panels(k->O);
    if (cg_widens(k)) /* few panels at a time, which stay in the first cache */
        return (int32_t)fitting_panels(panels, (unsigned)target->block_panels);
    bool pairs = ir_dtype(k->dtype)->group > 1;
    unsigned most = (unsigned)(k->rounds ? target->dot_row_panels : pairs ? target->pair_panels : target->row_panels);
    while (most > 4 && panels < 4 * most) /* a small linear layer still feeds several workers */
        most /= 2;
    return (int32_t)fitting_panels(panels, most);
}

/* Panels of q8 and q4 are so small that streams of one would end before the processor reads ahead of them. */
static int32_t span_of(const PgKernel *k, int32_t panels) {
    uint64_t all = pg_panels(k->O), bytes = ir_panel_bytes(k->dtype, k->K), span = (STREAM_BYTES + bytes - 1) / bytes;
    if (!k->rounds || panels == 1) return 1;
    if (span > MOST_SPAN) span = MOST_SPAN;
    while (span > 1 && all % (span * (uint64_t)panels) != 0 && all < MANY_TILES * span * (uint64_t)panels) span--;
    return (int32_t)span;
}

static bool has_tiles(const CgTarget *target, const PgKernel *k) {
    return k->kind == PG_LINEAR && pg_reads_rounded(k) && (k->rounds ? target->amx_bytes : target->amx_bf16);
}

/* Sums of bf16 stay in tiles for a run, so that it is long. */
static CgSchedule with_tiles(const PgKernel *k, CgSchedule s) {
    s.tiles = 1;
    s.panels = (int32_t)fitting_panels(pg_panels(k->O), TILE_PANELS);
    s.rows = PG_ROW_BLOCK;
    if (k->bf16_x) s.run = PG_SEGMENT_K;
    return s;
}

CgSchedule cg_schedule_default(const CgTarget *target, const PgKernel *k) {
    CgSchedule s = {0};
    bool pairs = !ir_is_blocks(k->dtype) && ir_dtype(k->dtype)->group > 1;
    if (k->kind == PG_ROUTE && k->mode == PG_ROW && pairs) s.ahead = target->pairs_ahead;
    if (k->kind != PG_LINEAR) return s;
    if (k->mode == PG_ROW) {
        s = (CgSchedule){.panels = row_panels(target, k),
                         .rows = 1,
                         .ahead = k->rounds ? target->dot_ahead
                                  : pairs   ? target->pairs_ahead
                                            : 0,
                         .claim = ROW_CLAIM_BYTES,
                         .blocks = 1};
        s.span = span_of(k, s.panels);
    } else {
        unsigned most = (unsigned)(k->rounds ? target->dot_block_panels : k->bf16_x ? target->bf16_panels : target->block_panels);
        s = (CgSchedule){.panels = (int32_t)fitting_panels(pg_panels(k->O), most),
                         .rows = k->rounds   ? target->dot_block_rows
                                 : k->bf16_x ? target->bf16_rows
                                             : target->block_rows,
                         .span = 1,
                         .claim = BLOCK_CLAIM_FMAS,
                         .blocks = k->y_layout == PG_POSITIONS ? 1 : BLOCKS_OF_TILE};
    }
    if (!k->rounds && (k->mode == PG_BLOCK || cg_widens(k))) s.run = RUN_INPUTS;
    return target->amx_in_ir && has_tiles(target, k) ? with_tiles(k, s) : s;
}

/* ---------------------------------------------------------------------------------------------- the space */

typedef struct Space {
    CgSchedule *items;
    unsigned count;
} Space;

bool cg_schedule_equal(const CgSchedule *a, const CgSchedule *b) { return memcmp(a, b, sizeof *a) == 0; }

static void add(Space *space, CgSchedule schedule) {
    for (unsigned i = 0; i < space->count; i++)
        if (cg_schedule_equal(&space->items[i], &schedule)) return;
    if (space->count < CG_MOST_SCHEDULES) space->items[space->count++] = schedule;
}

static void add_claims(Space *space) {
    CgSchedule s = space->items[0];
    s.claim = space->items[0].claim / 4;
    add(space, s);
    s.claim = space->items[0].claim * 4;
    add(space, s);
}

/* One row: streams and how far each is fetched ahead; weights that are widened are not. */
static void add_rows(Space *space, const PgKernel *k) {
    static const int32_t panels[] = {1, 2, 4, 8, MOST_ROW_PANELS}, ahead[] = {0, 512, 1024, 2048};
    bool fetches = !cg_widens(k);
    int32_t most = ir_is_blocks(k->dtype) ? 4 : MOST_ROW_PANELS;
    for (size_t p = 0; p < sizeof panels / sizeof *panels && panels[p] <= most; p++) {
        for (size_t a = 0; a < (fetches ? sizeof ahead / sizeof *ahead : 1); a++) {
            CgSchedule s = space->items[0];
            s.panels = (uint64_t)panels[p] > pg_panels(k->O) ? (int32_t)pg_panels(k->O) : panels[p];
            s.span = span_of(k, s.panels);
            s.ahead = ahead[a];
            add(space, s);
        }
    }
    add_claims(space);
}

/* Blocks of rows: microkernels whose sums fill the registers at least by half and leave some for weights and inputs. */
static void add_blocks(Space *space, const CgTarget *target, const PgKernel *k) {
    int32_t registers = target->vector_lanes == 8 ? 16 : 32, vectors = registers * target->vector_lanes / PG_LANES;
    int32_t most = vectors * 7 / 8 < MOST_SUMS ? vectors * 7 / 8 : MOST_SUMS;
    CgSchedule s;
    for (int32_t rows = PG_ROW_BLOCK; rows >= 2; rows /= 2) {
        for (int32_t panels = 1; panels <= 8 && (uint64_t)panels <= pg_panels(k->O); panels++) {
            if (panels * rows > most || 2 * panels * rows < most) continue;
            s = space->items[0];
            s.tiles = 0;
            s.panels = panels;
            s.rows = rows;
            add(space, s);
        }
    }
    for (int32_t blocks = BLOCKS_OF_TILE / 2; space->items[0].blocks > 1 && blocks <= 2 * BLOCKS_OF_TILE; blocks *= 4) {
        s = space->items[0];
        s.blocks = blocks;
        add(space, s);
    }
    for (int32_t run = 2 * RUN_INPUTS; space->items[0].run > 0 && !ir_is_blocks(k->dtype) && run <= PG_SEGMENT_K; run *= 2) {
        s = space->items[0];
        s.run = run;
        add(space, s);
    }
    add_claims(space);
}

static void add_tiles(Space *space, const PgKernel *k) {
    for (int32_t blocks = space->items[0].blocks; blocks <= 2 * BLOCKS_OF_TILE; blocks *= 2) {
        CgSchedule s = with_tiles(k, space->items[0]);
        s.blocks = blocks;
        add(space, s);
        if (blocks == 1) break;
    }
}

unsigned cg_schedule_space(const CgTarget *target, const PgKernel *k, bool tiles, CgSchedule out[CG_MOST_SCHEDULES]) {
    Space space = {out, 1};
    out[0] = cg_schedule_default(target, k);
    if (k->kind != PG_LINEAR) return 1;
    if (k->mode == PG_ROW)
        add_rows(&space, k);
    else
        add_blocks(&space, target, k);
    if (tiles && k->mode == PG_BLOCK && has_tiles(target, k)) add_tiles(&space, k);
    return space.count;
}

bool cg_may_use_tiles(const CgTarget *target) {
    if (!target->amx_bytes && !target->amx_bf16) return false;
    return target->amx_in_ir || (target->native && su_may_use_tiles());
}

void cg_schedule_words(const PgKernel *k, const CgSchedule *s, char *out, size_t size) {
    int n = snprintf(out, size, "%d panel%s", (int)s->panels, s->panels > 1 ? "s" : "");
    size_t used = n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
    if (s->span > 1) {
        n = snprintf(out + used, size - used, " %d apart", (int)s->span);
        used += n < 0 ? 0 : (size_t)n < size - used ? (size_t)n : size - used - 1;
    }
    if (k->mode == PG_ROW)
        snprintf(out + used, size - used, ", %d bytes ahead, claims of %d KiB", (int)s->ahead, (int)s->claim / 1024);
    else
        snprintf(out + used, size - used, " x %d rows, %d blocks, runs of %d, claims of %d K%s", (int)s->rows, (int)s->blocks,
                 (int)s->run, (int)s->claim / 1024, s->tiles ? ", by AMX" : "");
}

/* ---------------------------------------------------------------------------------------------- entries */

CgCache *cg_tuning_open(const char *directory) { return cg_cache_open_as(directory, suffix, MOST_BYTES); }

/* Whether what an entry says is possible: it stands under a digest, but a schedule outside the space would be a bug in the
 * emitters. */
static bool is_possible(const CgTarget *target, const PgKernel *kernel, const CgTuned *tuned) {
    CgSchedule space[CG_MOST_SCHEDULES];
    if (tuned->best.tiles && !cg_may_use_tiles(target)) return false;
    unsigned count = cg_schedule_space(target, kernel, true, space);
    for (unsigned i = 0; i < count; i++)
        if (cg_schedule_equal(&space[i], &tuned->best)) return tuned->accepted <= 1 && isfinite(tuned->ratio) && tuned->ratio > 0;
    return false;
}

bool cg_tuned_find(CgCache *tuning, const CgTarget *target, const PgKernel *kernel, CgTuned *out) {
    SuDigest key = cg_tuning_key(target, kernel);
    size_t size = 0;
    uint8_t *payload = cg_cache_find(tuning, &key, &size);
    bool whole = payload != NULL && size == sizeof *out;
    if (whole) memcpy(out, payload, sizeof *out);
    su_free(payload);
    return whole && is_possible(target, kernel, out);
}

void cg_tuned_store(CgCache *tuning, const CgTarget *target, const PgKernel *kernel, const CgTuned *tuned) {
    SuDigest key = cg_tuning_key(target, kernel);
    cg_cache_store(tuning, &key, tuned, sizeof *tuned, NULL, 0);
}

uint32_t cg_tuned_schedules(CgCache *tuning, const CgTarget *target, const PgProgram *program, CgSchedule *schedules) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < program->n_kernels; i++) {
        const PgKernel *kernel = &program->kernels[i];
        CgTuned tuned;
        schedules[i] = cg_schedule_default(target, kernel);
        if (kernel->kind != PG_LINEAR || !cg_tuned_find(tuning, target, kernel, &tuned) || tuned.accepted != 1) continue;
        schedules[i] = tuned.best;
        count++;
    }
    return count;
}

SuEntries cg_tuning_list(const char *directory) { return su_entries_list(directory, suffix); }

size_t cg_tuning_clear(const char *directory) { return su_entries_make_room(directory, suffix, 0); }
