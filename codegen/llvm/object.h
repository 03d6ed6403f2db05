/* A compiled kernel: an object file in memory and what calling it takes; and its way into the cache and out of it. */
#ifndef MOSSC_CODEGEN_LLVM_OBJECT_H
#define MOSSC_CODEGEN_LLVM_OBJECT_H

#include <llvm-c/Core.h>

#include "codegen/cache.h"
#include "codegen/tuning.h"
#include "codegen/llvm/module.h"

/* Where debuggers and profilers say that a kernel stands. */
typedef struct CgSpecLine {
    const char *path; /* of the spec; NULL: the kernel carries no debug information */
    uint32_t line;
} CgSpecLine;

typedef struct CgObject {
    CgModuleInfo info;
    LLVMMemoryBufferRef code; /* NULL: there is none */
} CgObject;

/* The digest of all that the object's bytes depend on: this build of the code generator and of LLVM, the target, the kernel's
 * description, its schedule, the line. */
SuDigest cg_object_key(const CgTarget *target, const PgKernel *kernel, const CgSchedule *schedule, const CgSpecLine *at);
/* The name of its function: readable, and unique by digits of the key, whatever program it is linked into. */
void cg_object_symbol(const PgKernel *kernel, const SuDigest *key, char out[CG_KERNEL_NAME]);

/* Bytes of its sections of code and of constants; 0: it cannot be read. */
uint64_t cg_object_code_bytes(const CgObject *object);

/* Fills an object whose info.name is the symbol; false: not there, or not to be believed. May be called by several threads. */
bool cg_object_find(CgCache *cache, const SuDigest *key, CgObject *object);
void cg_object_store(CgCache *cache, const SuDigest *key, const CgObject *object);

#endif
