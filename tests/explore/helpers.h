/* What the tests of spaces share: cmocka, the example of docs/explore.md, and messages as one text. */
#ifndef MOSSC_TESTS_EXPLORE_HELPERS_H
#define MOSSC_TESTS_EXPLORE_HELPERS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "explore/space.h"

static const char example[] = "mossc_space: 1\n"
                              "name: phone-500mb\n"
                              "spec: mossnet-8x200m-outputs.yaml\n"
                              "axes:\n"
                              "  - {name: depth, path: \"stack[0].repeat\", values: [8, 12, 16, 24]}\n"
                              "  - {name: d, path: d_model, from: 512, to: 1024, step: 128}\n"
                              "  - name: experts\n"
                              "    values: [none, 4, 8, 16]\n"
                              "    paths: [\"stack[0].blocks[0].ssm.experts\", \"stack[0].blocks[1].mlp.experts\"]\n"
                              "    set: {count: $}\n"
                              "  - {name: k, path: defaults.router.top_k, values: [1, 2, 4], when: experts != none}\n"
                              "  - {name: n, path: \"stack[0].blocks[0].ssm.d_state\", from: 8, to: 64, times: 2}\n"
                              "  - {name: dtype, path: weights.dtype, values: [bf16, q8, q4]}\n"
                              "derive:\n"
                              "  - {path: \"stack[0].blocks[1].mlp.d_ff\", value: \"64 * ceil(8 * d / 3 / 64)\"}\n"
                              "require: [\"experts == none or k <= experts\", \"depth * d <= 20000\"]\n"
                              "devices: [galaxy-s24-ultra, host]\n"
                              "workload: {prefill: 512, decode: 128, batch: 1, threads: 2}\n"
                              "budgets: {weight_bytes: 500 MiB, decode_ms: 25}\n"
                              "objectives: [-active_parameters, decode_ms]\n"
                              "quality: {command: \"python -m mossc.train {spec} --tokens 2e7 --report bits_per_byte\"}\n"
                              "seed: 1\n";

typedef struct Parsed {
    ExSpace space;
    SuDiags diags;
    bool ok;
} Parsed;

static inline Parsed parse_space(const char *text) {
    Parsed p = {0};
    p.ok = ex_space_parse("dir/t.yaml", text, strlen(text), &p.space, &p.diags);
    assert_int_equal(p.ok, p.diags.errors == 0);
    return p;
}

/* A space that must be good. */
static inline Parsed parse_good(const char *text) {
    Parsed p = parse_space(text);
    if (!p.ok) su_diags_print(&p.diags, stderr);
    assert_true(p.ok);
    return p;
}

static inline void free_parsed(Parsed *p) {
    ex_space_free(&p->space);
    su_diags_free(&p->diags);
}

/* "LINE:COLUMN+LENGTH: MESSAGE (HINT)\n" of each message; whoever asks frees it. */
static inline SuText messages(const SuDiags *diags) {
    SuText text = {0};
    su_text_add(&text, "%s", "");
    for (size_t i = 0; i < diags->count; i++) {
        const SuDiag *d = &diags->items[i];
        su_text_add(&text, "%u:%u+%u: %s", (unsigned)d->span.line, (unsigned)d->span.column, (unsigned)d->span.length, d->message);
        su_text_add(&text, d->hint ? " (%s)\n" : "\n", d->hint);
    }
    return text;
}

/* What is reported, and nothing else. */
static inline void assert_messages(const SuDiags *diags, const char *expected) {
    SuText text = messages(diags);
    if (strcmp(text.text, expected) != 0) fail_msg("expected\n%sgot\n%s", expected, text.text);
    su_text_free(&text);
}

#endif
