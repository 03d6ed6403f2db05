#include "import/pieces.h"

#include "mossc/moss.h"
#include "runtime/weights.h"

enum { RUN = 1 << 16 };

uint64_t im_piece_numbers(const ImPiece *piece) { return piece->rows * (piece->from ? piece->from->K : 1); }

void im_piece_read(const ImPiece *piece, uint64_t first, uint64_t count, float *out) {
    const ImTensor *from = piece->from;
    for (uint64_t i = 0; !from && i < count; i++) out[i] = 1;
    if (from && piece->order.kind == IM_IN_ORDER) im_read(from, piece->first * from->K + first, count, out);
    for (uint64_t done = 0, n; from && piece->order.kind != IM_IN_ORDER && done < count; done += n) {
        uint64_t row = (first + done) / from->K, at = (first + done) % from->K;
        n = from->K - at < count - done ? from->K - at : count - done;
        im_read(from, (piece->first + im_order_row(&piece->order, row)) * from->K + at, n, out + done);
    }
    for (uint64_t i = 0; piece->factor != 1 && i < count; i++) out[i] *= piece->factor;
    for (uint64_t i = 0; piece->plus && i < count; i++) {
        float more;
        im_read(piece->plus, piece->plus_first + first + i, 1, &more);
        out[i] += more;
    }
}

uint64_t im_output_run(const ImOutput *output) {
    uint64_t run = RUN;
    for (size_t i = 0; i < output->count; i++)
        if (output->pieces[i].from && output->pieces[i].from->K > run) run = output->pieces[i].from->K;
    return run;
}

/* ---- blocks */

ImBlockRows im_block_rows(const ImOutput *output, IrDtype dtype, uint64_t K, SuArena *arena) {
    uint64_t *ends = SU_NEW_ARRAY(arena, uint64_t, output->count), rows = 0;
    for (size_t i = 0; i < output->count; i++) ends[i] = rows += im_piece_numbers(&output->pieces[i]) / K;
    return (ImBlockRows){.output = output, .dtype = dtype, .K = K, .ends = ends};
}

/* The piece that row `row` lies in; its number there. */
static const ImPiece *piece_of(const ImBlockRows *r, uint64_t row, uint64_t *out_row) {
    size_t low = 0, high = r->output->count - 1;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (row < r->ends[middle])
            high = middle;
        else
            low = middle + 1;
    }
    *out_row = row - (low ? r->ends[low - 1] : 0);
    return &r->output->pieces[low];
}

/* Whether the bytes of the source become this row as they are. */
static bool is_kept(const ImBlockRows *r, const ImPiece *piece) {
    IrDtype kept;
    return piece->from && piece->factor == 1 && !piece->plus && !piece->from->minus_exp &&
           im_form_is_kept(piece->from->form, &kept) && kept == r->dtype && piece->from->K == r->K;
}

ImRowWay im_block_row(const ImBlockRows *r, uint64_t row, float *w, const IrRow *to) {
    uint64_t in;
    const ImPiece *piece = piece_of(r, row, &in);
    if (!is_kept(r, piece)) {
        im_piece_read(piece, in * r->K, r->K, w);
        const bool good = moss_all_finite(w, (int64_t)r->K) && ir_quantise(r->dtype, w, NULL, r->K, to);
        return good ? IM_ROW_ROUNDED : IM_ROW_BAD;
    }
    const uint8_t *bytes = im_row(piece->from, piece->first + im_order_row(&piece->order, in));
    IrBlocks blocks = {.dtype = r->dtype, .rows = 1, .K = r->K};
    for (int p = 0; p < IR_PARTS; p++) blocks.part[p] = to->part[p];
    im_form_to_row(piece->from->form, bytes, r->K, to);
    if (ir_blocks_check(&blocks, 0) != IR_ROW_GOOD) return IM_ROW_BAD;
    if (!im_form_is_low(piece->from->form, bytes, r->K)) return IM_ROW_KEPT;
    im_piece_read(piece, in * r->K, r->K, w);
    return IM_ROW_LOW;
}
