/* The numbers and rows that the pieces of an output mean (plan.h): what is written, and what a file that was written is held against. */
#ifndef MOSSC_IMPORT_PIECES_H
#define MOSSC_IMPORT_PIECES_H

#include "import/plan.h"

uint64_t im_piece_numbers(const ImPiece *piece);
/* Numbers first .. first + count of a piece, in its order; whole rows where the source is in blocks. */
void im_piece_read(const ImPiece *piece, uint64_t first, uint64_t count, float *out);
/* Of an output of floats: as many numbers as one piece is read in at a time, RUN or a row of the longest. */
uint64_t im_output_run(const ImOutput *output);

/* An output that becomes rows of blocks. */
typedef struct ImBlockRows {
    const ImOutput *output;
    IrDtype dtype; /* IR_Q8 or IR_Q4 */
    uint64_t K;
    const uint64_t *ends; /* [pieces] the row behind each */
} ImBlockRows;

typedef enum ImRowWay {
    IM_ROW_KEPT, /* the very numbers of the source */
    IM_ROW_LOW, /* the same, but for a -128, which became -127 */
    IM_ROW_ROUNDED, /* quantised */
    IM_ROW_BAD /* it has a number that is not finite, or beyond the dtype */
} ImRowWay;

ImBlockRows im_block_rows(const ImOutput *output, IrDtype dtype, uint64_t K, SuArena *arena);
/* Makes a row in *to, each part with room for it. w [K]: the numbers that it comes from, but of IM_ROW_KEPT. */
ImRowWay im_block_row(const ImBlockRows *rows, uint64_t row, float *w, const IrRow *to);

#endif
