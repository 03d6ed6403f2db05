/* The cache stands around NVRTC. What comes from mossc is all in the text, so its own build is no part of a key. */
#include "codegen/cuda/compile.h"

#include <stdlib.h>
#include <string.h>

#include "support/alloc.h"
#include "support/clock.h"

/* What stands before the image in an entry. */
typedef struct Header {
    uint16_t form, suffix;
    uint32_t architecture;
    SuDigest compiler; /* cg_nvrtc_identity */
} Header;
_Static_assert(sizeof(Header) == 24, "no padding");

/* A program on its way. */
typedef struct Compiling {
    const CgCudaTarget *target;
    const CgCudaOptions *options;
    SuText text;
    SuDigest key;
    CgNvrtc *nvrtc; /* NULL: there is none */
    CgCudaCode *out;
    SuDiags *diags;
} Compiling;

static SuDigest key_of(const Compiling *c) {
    static const char what[] = "CUDA image 2: " CG_NVRTC_OPTIONS;
    const CgCudaArchitecture architecture = c->target->architecture;
    const uint32_t facts[] = {(uint32_t)c->options->output, (uint32_t)architecture.number, (uint32_t)architecture.suffix};
    SuDigestStream *stream = su_digest_start();
    su_digest_add(stream, what, sizeof what);
    su_digest_add(stream, facts, sizeof facts);
    su_digest_add(stream, c->text.text, c->text.size);
    SuDigest key = su_digest_now(stream);
    su_digest_end(stream);
    return key;
}

/* ---------------------------------------------------------------------------------------------- the cache */

/* Whether an entry is of the NVRTC at hand, if any is. */
static bool is_current(const Compiling *c, const Header *header) {
    if (c->nvrtc == NULL) return true;
    SuDigest compiler = cg_nvrtc_identity(c->nvrtc);
    return su_digest_equal(&header->compiler, &compiler);
}

static bool find(Compiling *c) {
    Header header;
    size_t size = 0;
    uint8_t *payload = cg_cache_find(c->options->cache, &c->key, &size);
    bool whole = payload != NULL && size > sizeof header;
    if (whole) memcpy(&header, payload, sizeof header);
    if (!whole || !is_current(c, &header)) {
        su_free(payload);
        return false;
    }
    c->out->size = size - sizeof header;
    c->out->image = (char *)payload;
    memmove(payload, payload + sizeof header, c->out->size);
    c->out->form = (CgNvrtcForm)header.form;
    c->out->architecture = (CgCudaArchitecture){(int)header.architecture, (char)header.suffix};
    c->out->found = true;
    return true;
}

static void store(const Compiling *c) {
    const CgCudaCode *code = c->out;
    Header header = {.form = (uint16_t)code->form,
                     .suffix = (uint16_t)code->architecture.suffix,
                     .architecture = (uint32_t)code->architecture.number};
    header.compiler = cg_nvrtc_identity(c->nvrtc);
    cg_cache_store(c->options->cache, &c->key, &header, sizeof header, code->image, code->size);
    cg_cache_trim(c->options->cache);
}

/* ---------------------------------------------------------------------------------------------- compiling */

enum { FIRST_WITH_SUFFIXES = 12 }; /* CUDA 11.8 knows sm_90, and sm_90a not */

/* What NVRTC is asked for: the target's own architecture, or the newest below it as PTX, which a text for a suffix cannot become. */
static bool choose(Compiling *c) {
    const CgCudaArchitecture architecture = c->target->architecture;
    int major, minor, asked = architecture.number, newest = cg_nvrtc_newest(c->nvrtc, asked);
    CgCudaCode *code = c->out;
    code->architecture = (CgCudaArchitecture){newest, architecture.suffix};
    code->form = c->options->output == CG_CUDA_PTX || newest != asked ? CG_NVRTC_PTX : CG_NVRTC_CUBIN;
    cg_nvrtc_version(c->nvrtc, &major, &minor);
    if (newest == 0) {
        return su_error(c->diags, (SuSpan){0}, "set MOSSC_NVRTC to an older NVRTC",
                        "NVRTC %d.%d does not support sm_%d, only newer GPUs", major, minor, asked);
    }
    if (architecture.suffix != '\0' && (code->form != CG_NVRTC_CUBIN || major < FIRST_WITH_SUFFIXES)) {
        return su_error(c->diags, (SuSpan){0}, "use a newer NVRTC, or the target without its suffix",
                        "NVRTC %d.%d cannot generate machine code for sm_%d%c", major, minor, asked, architecture.suffix);
    }
    if (c->options->output == CG_CUDA_CUBIN && code->form != CG_NVRTC_CUBIN) {
        return su_error(c->diags, (SuSpan){0}, "use a newer NVRTC, or PTX for an older GPU, which also runs on it",
                        "NVRTC %d.%d cannot generate machine code for sm_%d", major, minor, asked);
    }
    return true;
}

static bool make(Compiling *c) {
    if (c->nvrtc == NULL) c->nvrtc = cg_nvrtc_open(c->diags);
    if (c->nvrtc == NULL || !choose(c)) return false;
    CgCudaTarget target = *c->target;
    SuText image = {0};
    target.architecture = c->out->architecture;
    double start = su_seconds();
    bool ok = cg_nvrtc_compile(c->nvrtc, &target, c->text.text, c->out->form, &image, c->options->log, c->diags);
    c->out->seconds = su_seconds() - start;
    c->out->image = image.text;
    c->out->size = image.size;
    return ok;
}

static bool cuda_compile_unguarded(const CgCudaTarget *target, const PgProgram *program, const CgCudaOptions *options,
                                   CgCudaCode *out, SuDiags *diags) {
    static const CgCudaOptions none = {0};
    const CgCudaTarget portable = cg_cuda_portable_target(target);
    Compiling c = {.target = target, .options = options == NULL ? &none : options, .out = out, .diags = diags};
    if (c.options->output == CG_CUDA_PTX) c.target = &portable;
    *out = (CgCudaCode){0};
    out->plan = cg_cuda_print(c.target, program, &out->arena, &c.text);
    c.key = key_of(&c);
    bool cached = c.options->cache != NULL;
    if (cached) c.nvrtc = cg_nvrtc_try();
    bool ok = (cached && find(&c)) || make(&c);
    if (ok && cached && !out->found) store(&c);
    cg_nvrtc_close(c.nvrtc);
    su_text_free(&c.text);
    if (!ok) cg_cuda_code_free(out);
    return ok;
}

bool cg_cuda_compile(const CgCudaTarget *target, const PgProgram *program, const CgCudaOptions *options, CgCudaCode *out,
                     SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "compiling kernels")) return false;
    bool result = cuda_compile_unguarded(target, program, options, out, diags);
    su_guard_end(&guard);
    return result;
}

void cg_cuda_code_free(CgCudaCode *code) {
    su_free(code->image);
    su_arena_free(&code->arena);
    *code = (CgCudaCode){0};
}
