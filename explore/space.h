/* A space of specs (docs/explore.md), parsed and checked. A space never changes once it is read; any thread may use it.
 *
 * A point is a choice for every axis. Its index is the mixed-radix number of the choices, the first axis slowest. */
#ifndef MOSSC_EXPLORE_SPACE_H
#define MOSSC_EXPLORE_SPACE_H

#include <stdint.h>

#include "explore/expr.h"
#include "frontend/edit.h"
#include "support/str.h"

enum { EX_MAX_AXES = 64, EX_MAX_VALUES = 4096, EX_MAX_PATHS = 64, EX_MAX_RULES = 64, EX_MAX_DEVICES = 16 };

typedef enum ExMetric {
#define EX_METRIC(id, name, unit, better, on_device, help) EX_METRIC_##id,
#include "explore/metrics.def"
    EX_METRIC_COUNT
} ExMetric;

/* What is known of a metric (metrics.def). */
typedef struct ExMetricRow {
    const char *name, *unit, *help;
    bool larger_is_better; /* how reports colour it; objectives say it themselves */
    bool on_device;        /* depends on the device, not on the spec and the workload alone */
} ExMetricRow;

const ExMetricRow *ex_metric(ExMetric metric);
bool ex_find_metric(const char *name, ExMetric *out); /* by its name in files */

/* Where an axis puts its value, and in what form. */
typedef struct ExTarget {
    const char *path; /* as --set takes it */
    SuSpan span;
} ExTarget;

typedef struct ExAxis {
    const char *name;
    SuSpan span;            /* of the name */
    const ExTarget *targets; /* [n_targets], at least 1 */
    size_t n_targets;
    const FeNode *set; /* a map in which the scalar $ stands for the value; NULL: the value itself. With it `none` is put at the
                             * path in place of the map, and other values become the map's keys beside those that are there */
    const FeNode *const
        *nodes; /* [n_values] what is put into the spec: scalars of values, from … to as decimal texts, any YAML else */
    const ExValue *values; /* [n_values] what expressions see; EX_NONE with no meaning where `opaque` */
    size_t n_values;
    bool opaque; /* its values are lists or maps: expressions cannot name it */
    const ExExpr *when; /* or NULL: always */
    SuSpan value_span; /* of the key that gives the values */
} ExAxis;

typedef struct ExDerive {
    ExTarget target;
    const ExExpr *value;
} ExDerive;

/* At most, at least: infinite where there is none. In the units of the metric. */
typedef struct ExBudget {
    ExMetric metric;
    double low, high;
    SuSpan span;
} ExBudget;

typedef struct ExObjective {
    ExMetric metric;
    bool maximise;
    SuSpan span;
} ExObjective;

typedef struct ExWorkload {
    int64_t prefill, decode, batch, threads; /* tokens, tokens, sequences; threads 0: as many as the device has workers */
} ExWorkload;

typedef struct ExSpace {
    SuArena arena; /* owns everything below */
    const SuSource *source;
    const char *name;
    const char *spec; /* path of the base, relative to the working directory */
    SuSpan spec_span;
    const ExAxis *axes; /* [n_axes] */
    size_t n_axes;
    const uint32_t *order; /* [n_axes] axes so that each stands behind those that its `when` names */
    uint64_t n_indices; /* the product of the numbers of values; at most 2^62 */
    const ExDerive *derive;
    size_t n_derive;
    const ExExpr *const *require;
    size_t n_require;
    const char *const *devices; /* [n_devices] names or paths (relative to the working directory, ending in .yaml); at least one */
    const SuSpan *device_spans;
    size_t n_devices;
    ExWorkload workload;
    const ExBudget *budgets;
    size_t n_budgets;
    const ExObjective *objectives;
    size_t n_objectives;
    const char *quality_command, *quality_file; /* at most one; the file relative to the working directory */
    uint64_t seed;
} ExSpace;

/* Reads and checks a space; path "-" is standard input, and relative paths in it are relative to its own directory. Its base spec is not
 * read here. false: errors are in diags. The space must be freed either way. */
bool ex_space_load(const char *path, ExSpace *out, SuDiags *diags);
/* The same from memory; `name` stands for the path. */
bool ex_space_parse(const char *name, const char *text, size_t size, ExSpace *out, SuDiags *diags);
void ex_space_free(ExSpace *space);

/* JSON Schema (draft 2020-12) of space files. false: out of memory. */
bool ex_print_schema(SuText *out);
/* A page about the keys, for `mossc help space`. */
void ex_print_keys(SuText *out);

/* ---- points */

/* Choices of the raw index, by axis. */
void ex_choices(const ExSpace *space, uint64_t index, uint32_t *out_choices /* [n_axes] */);
uint64_t ex_index(const ExSpace *space, const uint32_t *choices);
/* The index of the point that `index` is the twin of (EX_TWIN): axes that are off have their first value. Itself where it is no twin. */
uint64_t ex_twin_of(const ExSpace *space, uint64_t index);

typedef enum ExPointState {
    EX_POINT, /* goes on to the front end */
    EX_TWIN, /* an axis whose `when` is false has not its first value: the same spec as another index, not a point */
    EX_EXCLUDED, /* by `require` */
    EX_INVALID /* an expression has no value there: out_why */
} ExPointState;

/* The state of the point with these choices. `values` [n_axes] become what expressions see, `derived` [n_derive] the derived values.
 * out_why (EX_INVALID) lives in `space` or is constant; out_where is the expression. Allocates nothing. */
ExPointState ex_point(const ExSpace *space, const uint32_t *choices, ExValue *values, ExValue *derived, const char **out_why,
                      const ExExpr **out_where);

/* The edits of the base spec that make the point (of state EX_POINT): of every axis, and then of every derive, in order. An axis whose
 * `when` is false has its first value, as far as the language has a place for it: a spec that is refused with such edits is that without
 * them (with_off false). Edits lie in `arena`. */
const FeEdit *ex_edits(const ExSpace *space, const uint32_t *choices, const ExValue *derived, bool with_off, SuArena *arena,
                       size_t *out_count);
/* Whether an axis of the point is off: else with_off makes no difference. */
bool ex_has_off(const ExSpace *space, const uint32_t *choices);

#endif
