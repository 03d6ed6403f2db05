#include "passes/pipeline.h"

#include <stdlib.h>
#include <string.h>

#include "passes/passes.h"
#include "support/clock.h"
#include "support/file.h"
#include "support/table.h"

static const struct {
    const char *name, *help;
} PASSES[] = {
    [PS_ROUTE_FUSION] = {"route-fusion", "compute only the chosen experts; a router is one kernel"},
    [PS_SCAN_FUSION] = {"scan-fusion", "convolution, and everything from delta to the gate, are one kernel each"},
    [PS_ELEMENTWISE_FUSION] = {"elementwise-fusion",
                               "norms, biases, activations, sums and residuals join the linear layers beside them"},
    [PS_WEIGHTS] = {"weights", "keep weights in their own dtype (off: widen all but q8 and q4 to f32)"},
    [PS_PLAN] = {"plan", "let buffers that do not live together share memory"},
    [PS_SCHEDULE] = {"schedule", "linear layers of one input share a phase, and phases that do not depend on each other a stage"},
};
SU_TABLE_FULL(PASSES, PS_PASS_COUNT);

const char *ps_pass_name(PsPass pass) { return PASSES[pass].name; }
const char *ps_pass_help(PsPass pass) { return PASSES[pass].help; }

PsPass ps_pass_by_name(const char *name) {
    int pass = 0;
    while (pass < PS_PASS_COUNT && strcmp(PASSES[pass].name, name) != 0) pass++;
    return (PsPass)pass;
}

/* ---- what happens around every graph pass: timing, dumps, checks */

static bool dump(const IrGraph *g, const PsOptions *options, int number, const char *name, SuDiags *diags) {
    if (options->dump_dir == NULL) return true;
    char path[4096];
    snprintf(path, sizeof path, "%s/%02d-%s.mir", options->dump_dir, number, name);
    SuOut out;
    if (!su_out_open(path, &out, diags)) return false;
    ir_print(g, out.file);
    return su_out_commit(&out, diags);
}

/* A graph as text, which is C's. */
typedef struct Text {
    FILE *file;
    char *bytes;
    size_t size;
} Text;

static void free_text(void *object) {
    Text *text = object;
    if (text->file) fclose(text->file);
    free(text->bytes);
}

static void print(const IrGraph *g, Text *text) {
    text->file = open_memstream(&text->bytes, &text->size);
    if (!text->file) su_fail(SU_OUT_OF_MEMORY, "out of memory while printing a graph");
    ir_print(g, text->file);
    bool full = fclose(text->file) != 0;
    text->file = NULL;
    if (full) su_fail(SU_OUT_OF_MEMORY, "out of memory while printing a graph");
}

/* The text form means the same graph. Errors point into the text: those that stay have a copy of it. */
static void check_text(const IrGraph *g, const Text *text, const char *pass, SuDiags *diags) {
    SuArena arena = {0};
    SuSource *source = SU_NEW(&diags->arena, SuSource);
    *source = (SuSource){su_printf(&diags->arena, "graph after %s", pass), text->bytes, text->size};
    const char *difference = NULL;
    IrGraph *again = ir_parse(&arena, source, diags);
    if (again == NULL) {
        source->text = su_strndup(&diags->arena, text->bytes, text->size);
        SU_BUG("the text of the graph after %s does not parse", pass);
    }
    if (!ir_graph_equal(g, again, &difference)) SU_BUG("the text of the graph after %s does not read back: %s", pass, difference);
    su_arena_free(&arena);
}

/* The graph is sound, and its text can be read back. A failure is a bug of the pass before; what is wrong stands in diags. */
static void check(const IrGraph *g, const char *pass, SuDiags *diags) {
    Text text = {0};
    SuCleanup cleanup;
    if (!ir_verify(g, diags)) SU_BUG("%s produced a graph that violates the rules above", pass);
    su_cleanup_add(&cleanup, free_text, &text);
    print(g, &text);
    check_text(g, &text, pass, diags);
    su_cleanup_done(&cleanup);
    free_text(&text);
}

static void fuse_routes(IrGraph *g, const PsOptions *options) {
    if (!options->off[PS_ROUTE_FUSION]) ps_route_fusion(g);
}

static void fuse_scans(IrGraph *g, const PsOptions *options) {
    if (!options->off[PS_SCAN_FUSION]) ps_scan_fusion(g);
}

static void fuse_elementwise(IrGraph *g, const PsOptions *options) {
    bool on = !options->off[PS_ELEMENTWISE_FUSION];
    if (on) ps_elementwise_fusion(g);
    ps_regions(g, on);
}

static bool run(IrGraph *g, PsPass pass, void (*apply)(IrGraph *, const PsOptions *), const PsOptions *options, SuDiags *diags) {
    double start = su_seconds();
    apply(g, options);
    if (options->seconds != NULL) options->seconds[pass] = su_seconds() - start;
    if (options->check) check(g, PASSES[pass].name, diags);
    return dump(g, options, (int)pass + 1, PASSES[pass].name, diags);
}

static bool fuse_unguarded(IrGraph *g, const PsOptions *options, SuDiags *diags) {
    if (g->level == IR_FUSED) { /* of text, perhaps of a graph between two passes */
        ps_regions(g, false);
        return true;
    }
    if (!dump(g, options, 0, "naive", diags)) return false;
    g->level = IR_FUSED;
    if (!run(g, PS_ROUTE_FUSION, fuse_routes, options, diags)) return false;
    if (options->stop_after == PS_ROUTE_FUSION + 1) return true;
    if (!run(g, PS_SCAN_FUSION, fuse_scans, options, diags)) return false;
    if (options->stop_after == PS_SCAN_FUSION + 1) return true;
    return run(g, PS_ELEMENTWISE_FUSION, fuse_elementwise, options, diags);
}

bool ps_fuse(IrGraph *g, const PsOptions *options, SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "fusing the graph")) return false;
    bool result = fuse_unguarded(g, options, diags);
    su_guard_end(&guard);
    return result;
}
