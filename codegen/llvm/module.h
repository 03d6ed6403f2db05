/* One kernel as an LLVM module: made, optimised, emitted, dumped. Everything belongs to the module's own context, so that
 * different threads can work on different modules. */
#ifndef MOSSC_CODEGEN_LLVM_MODULE_H
#define MOSSC_CODEGEN_LLVM_MODULE_H

#include <llvm-c/Core.h>
#include <llvm-c/TargetMachine.h>

#include "codegen/llvm/emit.h"
#include "codegen/target.h"

enum { CG_KERNEL_NAME = 160 };

typedef struct CgModuleInfo {
    char name[CG_KERNEL_NAME]; /* of the function */
    uint32_t groups, claim;
    uint64_t scratch;
} CgModuleInfo;

typedef struct CgModule {
    LLVMContextRef context;
    LLVMModuleRef module;
    LLVMTargetMachineRef machine; /* the caller's */
    CgModuleInfo info;
} CgModule;

/* LLVM ends the process when it gets no memory. Under a limit of the address space it would not: whether there are so many MiB of it
 * left for LLVM, which whoever begins to work with it asks first. */
enum { CG_ADDRESS_SPACE_MIB = 96 };
bool cg_has_address_space(void);

/* A machine for the target, to be used by one thread at a time; NULL and a message (LLVMDisposeMessage) if LLVM has none. */
LLVMTargetMachineRef cg_machine(const CgTarget *target, char **out_error);

/* A module with one function, open for emitting until cg_module_end; invalid IR is a bug of ours. */
CgModule cg_module_begin(const CgTarget *target, LLVMTargetMachineRef machine, const char *name, const PgKernel *kernel,
                         CgEmit *out_emit);
void cg_module_end(CgModule *module, CgEmit *emit);
/* Both, with the kernel's emitter between them; and the same, named by cg_kernel_name. schedule NULL: the default. */
CgModule cg_module_open_as(const CgTarget *target, LLVMTargetMachineRef machine, const char *name, const PgKernel *kernel,
                           const CgSchedule *schedule);
CgModule cg_module_open(const CgTarget *target, LLVMTargetMachineRef machine, const PgKernel *kernel, uint32_t index);
void cg_module_close(CgModule *module);

/* These return NULL, or a message to su_free. Emitting changes the module. */
char *cg_module_optimise(CgModule *module);
char *cg_module_emit(CgModule *module, LLVMCodeGenFileType type, LLVMMemoryBufferRef *out_buffer);

/* Adds debug information: the function stands on that line of that file. */
void cg_module_place(CgModule *module, const char *path, uint32_t line);

void cg_module_print(const CgModule *module, FILE *out);
/* Writes dir/NAME.STAGE.ll, dir/NAME.s; nothing if dir is NULL. */
void cg_module_dump(const CgModule *module, const char *dir, const char *stage);
void cg_module_dump_assembly(const CgModule *module, const char *dir);

#endif
