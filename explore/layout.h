/* What the axes of a space reach in the base spec: so that points which have a block alike share what is known of it.
 *
 * A *unit* is a block of the stack where it is written: one entry, whatever `repeat` stands around it. Its cost depends on what the axes
 * put into it and into those keys outside the stack that blocks know of. Where that cannot be told (an axis replaces a group, a block shares the weights
 * of another), the layout is *opaque*: a point is then built whole. */
#ifndef MOSSC_EXPLORE_LAYOUT_H
#define MOSSC_EXPLORE_LAYOUT_H

#include "explore/space.h"

enum { EX_MAX_UNITS = 256, EX_MAX_STACK = 4096 }; /* blocks of a spec, as the language has it */

/* Sets of axes and of derives: bit i for number i. */
typedef struct ExReach {
    uint64_t axes, derives;
} ExReach;

typedef struct ExEntry {
    const struct ExEntry *entries; /* [n_entries], of a group */
    size_t n_entries;
    uint32_t unit;      /* of a block */
    bool group;
    const char *path;   /* "stack[0].repeat", of a group */
    int64_t repeat;     /* as the base has it; 0: something that is no number above 0, which the front end reports */
    int32_t axis, derive; /* that sets `repeat` instead, the last one; -1: none */
} ExEntry;

typedef struct ExLayout {
    const ExEntry *entries; /* [n_entries] of the stack */
    size_t n_entries;
    uint32_t n_units;
    ExReach outside;             /* what reaches anything outside the blocks */
    ExReach units[EX_MAX_UNITS]; /* what reaches this one */
    const FeEdit *once;           /* [n_once] edits that make every group stand once */
    size_t n_once;
    bool opaque;
} ExLayout;

/* Lies in `arena`. `base` must live as long. */
ExLayout *ex_layout(const ExSpace *space, const FeBase *base, SuArena *arena);

/* The units of a point's blocks in their order: out_units [EX_MAX_STACK]. 0: a repeat is no number that the language allows, or there are
 * too many blocks; the front end says so. Not for opaque layouts. */
size_t ex_expand(const ExLayout *layout, const ExSpace *space, const uint32_t *choices, const ExValue *derived,
                 uint16_t *out_units);

#endif
