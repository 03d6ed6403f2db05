/* The .npy header: magic, version, length of the dictionary, the dictionary padded so that data starts at a multiple of 64. */
#include "cli/npy.h"

#include <inttypes.h>

void cli_npy_header(FILE *out, uint64_t rows, uint64_t columns) {
    enum { PREFIX = 10, TOTAL = 128 }; /* the dictionary below has at most 104 characters */
    char dictionary[TOTAL - PREFIX + 1];
    snprintf(dictionary, sizeof dictionary, "{'descr': '<f4', 'fortran_order': False, 'shape': (%" PRIu64 ", %" PRIu64 "), }", rows,
             columns);
    const unsigned char prefix[PREFIX] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, TOTAL - PREFIX, 0};
    fwrite(prefix, 1, PREFIX, out);
    fprintf(out, "%-*s\n", TOTAL - PREFIX - 1, dictionary);
}
