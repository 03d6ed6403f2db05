/* What a back end says of steps of few rows, for the list PG_FEW (ir/program.h): its linear layers that have all rows of the step in a
 * tile, and what x they multiply. */
#ifndef MOSSC_IR_FEW_H
#define MOSSC_IR_FEW_H

#include "ir/dtype.h"

typedef struct PgFew {
    int64_t rows;  /* of a step that takes the list, at most */
    int64_t chunk; /* k that a tile takes at a time; of whole chunks x can be written as the tiles read it */
    bool rounding; /* layers that round x to 8 bits (PgKernel.rounds) are in such tiles */
    bool tiles[IR_STORED_DTYPES]; /* and others with weights of these dtypes */
    bool any_x[IR_STORED_DTYPES]; /* of them, those whose x may be any float, as x times a norm's weight is */
} PgFew;

#endif
