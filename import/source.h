/* The tensors of a checkpoint, as Hugging Face would name, shape and order them, whatever file they lie in.
 *
 * A tensor is rows of K numbers in some form (form.h); what GGUF stores otherwise is turned back by reading: another order of rows,
 * -exp(A_log) for A_log. The bytes are someone else's, mapped: nothing is read before a row is asked for. */
#ifndef MOSSC_IMPORT_SOURCE_H
#define MOSSC_IMPORT_SOURCE_H

#include "import/form.h"
#include "support/diag.h"

/* Rows in runs of `run` (a head's): row c·run/2 + i of the view is row 2i + c of the data (IM_FROM_PAIRS), or the reverse. */
typedef enum ImOrderKind { IM_IN_ORDER, IM_FROM_PAIRS, IM_TO_PAIRS } ImOrderKind;
typedef struct ImOrder {
    ImOrderKind kind;
    uint64_t run; /* even */
} ImOrder;

uint64_t im_order_row(const ImOrder *order, uint64_t row);

typedef struct ImTensor {
    const char *name; /* as Hugging Face calls it */
    const char *file; /* for messages */
    const char *alien; /* the name of a form that is none of ours: an error once it is taken; else NULL */
    ImForm form;
    int rank; /* 1..4 */
    int64_t shape[4]; /* slowest first */
    uint64_t rows, K; /* a vector has rows of one number */
    const uint8_t *data;
    ImOrder order; /* of rows */
    bool minus_exp; /* what is stored is -exp(x) of the numbers x that reading gives */
    bool taken;
    size_t number; /* of one that was invented */
} ImTensor;

typedef struct ImSource {
    const char *path; /* of the folder or file, for messages */
    ImTensor *tensors; /* sorted by name, once settled */
    size_t count, capacity;
    SuArena arena; /* the caller's: of tensors and names */
    bool
        invents; /* for exports: there are no tensors; each that is taken is made then, with no data, and rows 0 until they are known */
    bool joins; /* of those: what folders have as one tensor and GGUF files as several is one */
    ImTensor **invented; /* [n_invented], in the order in which they were taken */
    size_t n_invented, invented_capacity;
} ImSource;

/* Adds a tensor, which the caller may change until im_source_settle; alien: see above. The data are rank numbers' worth of bytes, which
 * the caller has checked against im_form_row_bytes. Texts are copied. NULL after an error: a rank or shape that none can have. */
ImTensor *im_source_add(ImSource *source, const char *name, const char *file, const char *alien, ImForm form, const int64_t *shape,
                        int rank, const uint8_t *data, SuDiags *diags);
/* Sorts; a name that is there twice is an error. */
bool im_source_settle(ImSource *source, SuDiags *diags);
/* Of a source that invents. */
ImTensor *im_source_invent(ImSource *source, const char *name);
/* NULL if there is none. */
ImTensor *im_source_find(const ImSource *source, const char *name);
/* An error for each tensor that was not taken and is not known to be without meaning (inverse frequencies of RoPE). */
bool im_source_all_taken(const ImSource *source, SuDiags *diags);

/* Numbers first .. first + count of the view, row-major; whole rows where the form is one of blocks. */
void im_read(const ImTensor *tensor, uint64_t first, uint64_t count, float *out);
/* The bytes of a row of the view. */
const uint8_t *im_row(const ImTensor *tensor, uint64_t row);

#endif
