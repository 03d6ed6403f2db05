/* libFuzzer: any bytes as a spec, and what follows the first NUL as a --set. Nothing may crash, leak or hang; a spec that is
 * taken must give tensors and a hash, and every diagnostic must print.
 *
 *   fuzz_yaml -max_len=4096 -timeout=5 CORPUS tests/fuzz/corpus_yaml */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t text_size = nul ? (size_t)(nul - data) : size;
    char *set = nul ? strndup((const char *)nul + 1, size - text_size - 1) : NULL;
    const char *const sets[] = {set};
    FeSpec spec;
    SuDiags diags = {0};
    bool ok = fe_spec_parse("fuzz.yaml", (const char *)data, text_size, sets, set ? 1 : 0, &spec, &diags);
    if (ok != (diags.errors == 0)) abort();
    if (ok) {
        size_t count;
        const FeTensor *tensors = fe_tensors(&spec, &count);
        for (size_t i = 0; i < count; i++)
            if (tensors[i].active < 0 || tensors[i].active > (int64_t)1 << 48 || tensors[i].rank < 1) abort();
    }
    FILE *out = fopen("/dev/null", "w");
    if (out) {
        su_diags_print(&diags, out);
        fclose(out);
    }
    fe_spec_free(&spec);
    su_diags_free(&diags);
    free(set);
    return 0;
}
