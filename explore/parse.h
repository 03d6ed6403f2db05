/* What the parts of ex_space_parse share. Within explore/. */
#ifndef MOSSC_EXPLORE_PARSE_H
#define MOSSC_EXPLORE_PARSE_H

#include "explore/keys.h"
#include "explore/space.h"

typedef struct ExParse {
    FeReader reader;
    ExSpace *space;
    ExNames names;    /* once the axes are read */
    bool names_known; /* no axis has a broken name: what expressions call unknown is unknown */
} ExParse;

/* axes.c: the axes, their names and their order. */
void ex_read_axes(ExParse *parse, const FeNode *list);

/* values.c: the values of an axis, whose map is `map`. Its set template. */
void ex_read_values(const ExParse *parse, const ExMap *map, ExAxis *axis);
void ex_read_set(const ExParse *parse, const ExMap *map, ExAxis *axis);
/* The scalar $, which stands for the value. */
bool ex_is_dollar(const FeNode *node);

/* The expression of a key, whose value is one of `types` (EX_IS_…); NULL: absent, or reported. */
const ExExpr *ex_read_expression(const ExParse *parse, const FeNode *node, ExKey key, uint32_t types);
/* One path; `key` is that of the path or of the list in which it is. false: absent, or reported. */
bool ex_read_path(const ExParse *parse, const FeNode *node, ExKey key, ExTarget *out);

#endif
