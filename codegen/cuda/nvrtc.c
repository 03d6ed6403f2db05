/* Calls NVRTC through pointers: its few functions are declared here, as they stand in NVIDIA's documentation. */
#include "codegen/cuda/nvrtc.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/build_id.h"
#include "support/alloc.h"

typedef struct Program *NvrtcProgram;
typedef int NvrtcResult; /* 0: success */

enum { MOST_ARCHITECTURES = 256 };

/* name, type of the result, types of the parameters */
#define NVRTC_SYMBOLS(ROW)                                                                                                         \
    ROW(nvrtcVersion, NvrtcResult, (int *, int *))                                                                                 \
    ROW(nvrtcGetErrorString, const char *, (NvrtcResult))                                                                          \
    ROW(nvrtcGetNumSupportedArchs, NvrtcResult, (int *))                                                                           \
    ROW(nvrtcGetSupportedArchs, NvrtcResult, (int *))                                                                              \
    ROW(nvrtcCreateProgram, NvrtcResult,                                                                                           \
        (NvrtcProgram *, const char *, const char *, int, const char *const *, const char *const *))                               \
    ROW(nvrtcDestroyProgram, NvrtcResult, (NvrtcProgram *))                                                                        \
    ROW(nvrtcCompileProgram, NvrtcResult, (NvrtcProgram, int, const char *const *))                                                \
    ROW(nvrtcGetPTXSize, NvrtcResult, (NvrtcProgram, size_t *))                                                                    \
    ROW(nvrtcGetPTX, NvrtcResult, (NvrtcProgram, char *))                                                                          \
    ROW(nvrtcGetCUBINSize, NvrtcResult, (NvrtcProgram, size_t *))                                                                  \
    ROW(nvrtcGetCUBIN, NvrtcResult, (NvrtcProgram, char *))                                                                        \
    ROW(nvrtcGetProgramLogSize, NvrtcResult, (NvrtcProgram, size_t *))                                                             \
    ROW(nvrtcGetProgramLog, NvrtcResult, (NvrtcProgram, char *))

struct CgNvrtc {
    void *library;
#define FIELD(name, result, params) result(*name) params;
    NVRTC_SYMBOLS(FIELD)
#undef FIELD
};

/* As the loader finds them, newest first; then where toolkits put it outside the loader's sight. */
static const char *const file_names[] = {"libnvrtc.so.13", "libnvrtc.so.12",   "libnvrtc.so.11.2",
                                         "libnvrtc.so",    "libnvrtc.so.11.8", "/usr/local/cuda/lib64/libnvrtc.so"};

static const char hint[] =
    "NVRTC comes with the CUDA toolkit, and alone with `pip install nvidia-cuda-nvrtc`; where the loader does "
    "not find it, set MOSSC_NVRTC to the file. It needs no GPU";

/* ---------------------------------------------------------------------------------------------- opening */

static void *open_library(void) {
    const char *path = getenv("MOSSC_NVRTC");
    if (path != NULL && path[0] != '\0') return dlopen(path, RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; i < sizeof file_names / sizeof file_names[0]; i++) {
        void *library = dlopen(file_names[i], RTLD_NOW | RTLD_LOCAL);
        if (library != NULL) return library;
    }
    return NULL;
}

/* false: out_missing names a symbol that the library lacks. */
static bool find_symbols(CgNvrtc *n, const char **out_missing) {
#define FIND(name, result, params)                                                                                                 \
    *(void **)&n->name = dlsym(n->library, #name);                                                                                 \
    if (n->name == NULL) {                                                                                                         \
        *out_missing = #name;                                                                                                      \
        return false;                                                                                                              \
    }
    NVRTC_SYMBOLS(FIND)
#undef FIND
    return true;
}

static CgNvrtc *open_nvrtc(const char **out_missing) {
    CgNvrtc *n = su_calloc(1, sizeof *n);
    if (n == NULL) return NULL;
    n->library = open_library();
    if (n->library != NULL && find_symbols(n, out_missing)) return n;
    cg_nvrtc_close(n);
    return NULL;
}

CgNvrtc *cg_nvrtc_try(void) {
    const char *missing = NULL;
    return open_nvrtc(&missing);
}

CgNvrtc *cg_nvrtc_open(SuDiags *diags) {
    const char *missing = NULL, *path = getenv("MOSSC_NVRTC");
    CgNvrtc *n = open_nvrtc(&missing);
    if (n != NULL) return n;
    if (missing != NULL)
        su_error(diags, (SuSpan){0}, hint, "NVRTC library is too old: it has no %s", missing);
    else if (path != NULL && path[0] != '\0')
        su_error(diags, (SuSpan){0}, hint, "MOSSC_NVRTC: cannot load the library %s", path);
    else
        su_error(diags, (SuSpan){0}, hint, "NVRTC library (%s to %s) was not found", file_names[0], file_names[2]);
    return NULL;
}

void cg_nvrtc_close(CgNvrtc *nvrtc) {
    if (nvrtc == NULL) return;
    if (nvrtc->library != NULL) dlclose(nvrtc->library);
    su_free(nvrtc);
}

void cg_nvrtc_version(const CgNvrtc *nvrtc, int *out_major, int *out_minor) {
    if (nvrtc->nvrtcVersion(out_major, out_minor)) *out_major = *out_minor = 0;
}

SuDigest cg_nvrtc_identity(const CgNvrtc *nvrtc) {
    int version[2];
    SuDigestStream *stream = su_digest_start();
    cg_nvrtc_version(nvrtc, &version[0], &version[1]);
    su_digest_add(stream, version, sizeof version);
    cg_add_build_id(stream, *(void *const *)&nvrtc->nvrtcVersion);
    SuDigest identity = su_digest_now(stream);
    su_digest_end(stream);
    return identity;
}

int cg_nvrtc_newest(const CgNvrtc *nvrtc, int architecture) {
    int known[MOST_ARCHITECTURES], count = 0, newest = 0;
    if (nvrtc->nvrtcGetNumSupportedArchs(&count) || count > MOST_ARCHITECTURES || nvrtc->nvrtcGetSupportedArchs(known))
        return architecture; /* compiling will say what is wrong */
    for (int i = 0; i < count; i++)
        if (known[i] <= architecture && known[i] > newest) newest = known[i];
    return newest;
}

/* ---------------------------------------------------------------------------------------------- compiling */

/* One call's size and content into out. */
static NvrtcResult take(NvrtcProgram program, NvrtcResult (*get_size)(NvrtcProgram, size_t *),
                        NvrtcResult (*get)(NvrtcProgram, char *), SuText *out) {
    size_t size = 0;
    NvrtcResult result = get_size(program, &size);
    char *bytes = result ? NULL : su_malloc(size + 1);
    if (bytes == NULL) return result ? result : 1;
    result = get(program, bytes);
    if (!result) su_text_append(out, bytes, size);
    su_free(bytes);
    return result;
}

/* The line of the text that the log's first error names; 0: none. It reads "name.cu(12): error: …". */
static int error_line(const char *log) {
    const char *place = strstr(log, ".cu(");
    return place == NULL ? 0 : atoi(place + strlen(".cu("));
}

/* The line of the spec that line `at` of the text comes from: what the nearest comment above says. 0: it belongs to no kernel. */
static int spec_line(const char *text, int at) {
    static const char mark[] = "first in line ";
    int found = 0;
    for (int line = 1; *text != '\0' && line <= at; line++) {
        size_t size = strcspn(text, "\n");
        const char *here = memmem(text, size, mark, sizeof mark - 1);
        if (here != NULL) found = atoi(here + sizeof mark - 1);
        text += size + (text[size] == '\n');
    }
    return found;
}

static void report(SuDiags *diags, const char *why, const char *text, const char *log) {
    int line = spec_line(text, error_line(log));
    if (line > 0)
        su_error(diags, (SuSpan){0}, NULL, "NVRTC: %s, in the code generated from line %d of the spec:\n%s", why, line, log);
    else
        su_error(diags, (SuSpan){0}, NULL, "NVRTC: %s:\n%s", why, log);
}

/* What one call makes of a text. */
typedef struct Made {
    NvrtcResult result;
    SuText code, log;
} Made;

static Made make(const CgNvrtc *n, const char *text, CgNvrtcForm form, const char *const *options, int n_options) {
    NvrtcProgram program = NULL;
    Made made = {.result = n->nvrtcCreateProgram(&program, text, "program.cu", 0, NULL, NULL)};
    bool cubin = form == CG_NVRTC_CUBIN;
    if (!made.result) made.result = n->nvrtcCompileProgram(program, n_options, options);
    if (program != NULL) take(program, n->nvrtcGetProgramLogSize, n->nvrtcGetProgramLog, &made.log);
    if (!made.result && cubin) made.result = take(program, n->nvrtcGetCUBINSize, n->nvrtcGetCUBIN, &made.code);
    if (!made.result && !cubin) made.result = take(program, n->nvrtcGetPTXSize, n->nvrtcGetPTX, &made.code);
    if (program != NULL) n->nvrtcDestroyProgram(&program);
    return made;
}

static void free_made(Made *made) {
    su_text_free(&made->code);
    su_text_free(&made->log);
}

/* Without --split-compile: it shares entries' functions among its pieces as it sees fit, and what row_step calls then saves registers
 * to memory at every call (16 KB of code for that in mamba-370m). */
static Made make_for(const CgNvrtc *n, const CgCudaTarget *target, const char *text, CgNvrtcForm form, bool report) {
    char architecture[48], suffix[2] = {target->architecture.suffix, '\0'};
    const char *options[4] = {architecture, CG_NVRTC_OPTIONS,
                              "--disable-warnings"}; /* a printed text has names that a case does not use */
    int count = 3;
    bool cubin = form == CG_NVRTC_CUBIN;
    snprintf(architecture, sizeof architecture, "--gpu-architecture=%s_%d%s", cubin ? "sm" : "compute", target->architecture.number,
             suffix);
    if (!cubin) return make(n, text, form, options, count);
    if (report) options[count++] = "--ptxas-options=-v";
    return make(n, text, form, options, count);
}

bool cg_nvrtc_compile(const CgNvrtc *n, const CgCudaTarget *target, const char *text, CgNvrtcForm form, SuText *out_code,
                      SuText *out_log, SuDiags *diags) {
    Made made = make_for(n, target, text, form, out_log != NULL);
    bool ok = made.result == 0;
    if (ok) su_text_append(out_code, made.code.text, made.code.size);
    if (!ok) report(diags, n->nvrtcGetErrorString(made.result), text, made.log.text == NULL ? "" : made.log.text);
    if (out_log != NULL && made.log.text != NULL) su_text_append(out_log, made.log.text, strlen(made.log.text));
    free_made(&made);
    return ok;
}
