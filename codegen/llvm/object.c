#include "codegen/llvm/object.h"

#include <stdlib.h>
#include <llvm-c/Object.h>
#include <string.h>
#include <unistd.h>

#include "codegen/build_id.h"
#include "support/alloc.h"

/* ---------------------------------------------------------------------------------------------- who makes the code */

/* The build ids of what holds our emitters and of what holds LLVM, so that a cache never hands a new build what an old one made. The
 * linker makes them from contents (CMakeLists.txt asks for one; distributions do for LLVM, whose version stands for it otherwise). */
static void add_generator(SuDigestStream *stream) {
    unsigned version[3];
    LLVMGetVersion(&version[0], &version[1], &version[2]);
    su_digest_add(stream, version, sizeof version);
    cg_add_build_id(stream, (const void *)(uintptr_t)&cg_object_key);
    cg_add_build_id(stream, (const void *)(uintptr_t)&LLVMGetVersion);
}

/* ---------------------------------------------------------------------------------------------- keys and names */

/* NULL counts as "". */
static void add_text(SuDigestStream *stream, const char *text) {
    if (text == NULL) text = "";
    su_digest_add(stream, text, strlen(text) + 1);
}

/* Whoever adds a pointer to CgTarget adds its text to add_target; then the size here. */
_Static_assert(sizeof(CgTarget) == 360, "every pointer in a target has its text in the key");

/* Bytes, not fields, so that a field that is new cannot be forgotten here; texts in place of pointers, which differ in every
 * process. */
static void add_target(SuDigestStream *stream, const CgTarget *target) {
    CgTarget facts;
    memcpy(&facts, target, sizeof facts);
    facts.features = NULL;
    facts.abs_greater = facts.tune[PG_ROW] = facts.tune[PG_BLOCK] = NULL;
    su_digest_add(stream, &facts, sizeof facts);
    add_text(stream, target->features);
    add_text(stream, target->abs_greater);
    for (int mode = 0; mode < PG_MODES; mode++) add_text(stream, target->tune[mode]);
}

/* Debug information holds the directory too. */
static void add_spec_line(SuDigestStream *stream, const CgSpecLine *at) {
    char directory[4096];
    if (at->path == NULL) return;
    add_text(stream, at->path);
    add_text(stream, getcwd(directory, sizeof directory));
    su_digest_add(stream, &at->line, sizeof at->line);
}

SuDigest cg_object_key(const CgTarget *target, const PgKernel *kernel, const CgSchedule *schedule, const CgSpecLine *at) {
    SuDigestStream *stream = su_digest_start();
    add_generator(stream);
    add_target(stream, target);
    su_digest_add(stream, kernel, sizeof *kernel);
    su_digest_add(stream, schedule, sizeof *schedule);
    add_spec_line(stream, at);
    SuDigest key = su_digest_now(stream);
    su_digest_end(stream);
    return key;
}

SuDigest cg_tuning_key(const CgTarget *target, const PgKernel *kernel) {
    SuDigestStream *stream = su_digest_start();
    add_generator(stream);
    add_target(stream, target);
    su_digest_add(stream, kernel, sizeof *kernel);
    SuDigest key = su_digest_now(stream);
    su_digest_end(stream);
    return key;
}

void cg_object_symbol(const PgKernel *kernel, const SuDigest *key, char out[CG_KERNEL_NAME]) {
    enum { DIGITS = 8 };
    char hex[SU_HEX];
    cg_kernel_words(kernel, out, CG_KERNEL_NAME - 1 - DIGITS);
    size_t length = strlen(out);
    snprintf(out + length, CG_KERNEL_NAME - length, "_%.*s", DIGITS, su_digest_hex(key, hex));
}

/* ---------------------------------------------------------------------------------------------- the cache */

bool cg_object_find(CgCache *cache, const SuDigest *key, CgObject *object) {
    size_t size;
    uint8_t *payload = cg_cache_find(cache, key, &size);
    CgModuleInfo info = {.groups = 0};
    if (payload != NULL && size > sizeof info) memcpy(&info, payload, sizeof info);
    bool ok = strncmp(info.name, object->info.name, sizeof info.name) == 0 && info.groups > 0 && info.claim > 0;
    if (ok) {
        const char *code = (const char *)payload + sizeof info;
        object->info = info;
        object->code = LLVMCreateMemoryBufferWithMemoryRangeCopy(code, size - sizeof info, info.name);
    }
    su_free(payload);
    return ok;
}

void cg_object_store(CgCache *cache, const SuDigest *key, const CgObject *object) {
    cg_cache_store(cache, key, &object->info, sizeof object->info, LLVMGetBufferStart(object->code),
                   LLVMGetBufferSize(object->code));
}

static bool is_loaded(const char *section) {
    return section && (strncmp(section, ".text", 5) == 0 || strncmp(section, ".rodata", 7) == 0);
}

uint64_t cg_object_code_bytes(const CgObject *object) {
    char *error = NULL;
    LLVMBinaryRef binary = LLVMCreateBinary(object->code, NULL, &error); /* does not take the buffer */
    uint64_t bytes = 0;
    if (binary == NULL) {
        LLVMDisposeMessage(error);
        return 0;
    }
    LLVMSectionIteratorRef section = LLVMObjectFileCopySectionIterator(binary);
    for (; !LLVMObjectFileIsSectionIteratorAtEnd(binary, section); LLVMMoveToNextSection(section))
        if (is_loaded(LLVMGetSectionName(section))) bytes += LLVMGetSectionSize(section);
    LLVMDisposeSectionIterator(section);
    LLVMDisposeBinary(binary);
    return bytes;
}
