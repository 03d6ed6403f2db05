/* Rows of numbers as files hold them (form.def): floats of three widths, and the blocks of GGUF. A row is K weights, the last
 * dimension of a tensor, and begins at a block. */
#ifndef MOSSC_IMPORT_FORM_H
#define MOSSC_IMPORT_FORM_H

#include "ir/quant.h"

typedef enum ImForm {
#define IM_FORM(NAME, gguf, weights, bytes, kept) IM_##NAME,
#include "import/form.def"
    IM_FORMS
} ImForm;

typedef struct ImFormInfo {
    const char *word;        /* "Q4_K" */
    uint32_t gguf;           /* its number in GGUF files */
    uint32_t weights, bytes; /* of a block */
    IrDtype kept;            /* what holds its rows exactly; IR_I32: nothing but f32 does */
} ImFormInfo;

const ImFormInfo *im_form(ImForm form);
/* The form that GGUF files give the number `gguf`. false: it is none of ours; *out_word is then its name, or NULL. */
bool im_form_of_gguf(uint32_t gguf, ImForm *out, const char **out_word);

/* Bytes of a row of K weights. 0: there is no such row, whose K is not a multiple of the block's weights. */
uint64_t im_form_row_bytes(ImForm form, uint64_t K);
/* The K numbers of a row, `bytes` [im_form_row_bytes] of no particular alignment. They are exact but for Q4_1, Q5_1, Q2_K, Q4_K and
 * Q5_K, where the difference of two exact numbers is rounded once: GGUF's own readers give the same floats. */
void im_form_to_floats(ImForm form, const uint8_t *bytes, uint64_t K, float *out);

/* Whether a row becomes a row of q8 or q4 exactly, and which. */
bool im_form_is_kept(ImForm form, IrDtype *out_dtype);
/* Whether a row of such a form holds a -128, which Q8_0 has and q8 has not. */
bool im_form_is_low(ImForm form, const uint8_t *bytes, uint64_t K);
/* A row of such a form. A -128 becomes -127. */
void im_form_to_row(ImForm form, const uint8_t *bytes, uint64_t K, const IrRow *out);

#endif
