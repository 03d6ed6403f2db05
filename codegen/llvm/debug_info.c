/* Names and spec lines of kernels for gdb and perf: DWARF that places a whole kernel on one line of the spec, since its code is
 * that of one phase. */
#include <llvm-c/DebugInfo.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/llvm/module.h"

static void add_flag(const CgModule *m, const char *name, unsigned value) {
    LLVMValueRef number = LLVMConstInt(LLVMInt32TypeInContext(m->context), value, 0);
    LLVMAddModuleFlag(m->module, LLVMModuleFlagBehaviorWarning, name, strlen(name), LLVMValueAsMetadata(number));
}

static LLVMMetadataRef describe_file(LLVMDIBuilderRef builder, const char *path) {
    char directory[4096];
    if (getcwd(directory, sizeof directory) == NULL) directory[0] = '\0';
    return LLVMDIBuilderCreateFile(builder, path, strlen(path), directory, strlen(directory));
}

static LLVMMetadataRef describe_function(LLVMDIBuilderRef builder, const CgModule *m, LLVMMetadataRef file, uint32_t line) {
    const char producer[] = "mossc " MOSSC_VERSION, *name = m->info.name;
    LLVMDIBuilderCreateCompileUnit(builder, LLVMDWARFSourceLanguageC, file, producer, strlen(producer), 1, "", 0, 0, "", 0,
                                   LLVMDWARFEmissionFull, 0, 0, 0, "", 0, "", 0);
    LLVMMetadataRef type = LLVMDIBuilderCreateSubroutineType(builder, file, NULL, 0, LLVMDIFlagZero);
    return LLVMDIBuilderCreateFunction(builder, file, name, strlen(name), name, strlen(name), file, line, type, 0, 1, line,
                                       LLVMDIFlagZero, 1);
}

static void place_instructions(LLVMValueRef function, LLVMMetadataRef place) {
    for (LLVMBasicBlockRef block = LLVMGetFirstBasicBlock(function); block != NULL; block = LLVMGetNextBasicBlock(block))
        for (LLVMValueRef i = LLVMGetFirstInstruction(block); i != NULL; i = LLVMGetNextInstruction(i))
            LLVMInstructionSetDebugLoc(i, place);
}

void cg_module_place(CgModule *m, const char *path, uint32_t line) {
    LLVMDIBuilderRef builder = LLVMCreateDIBuilder(m->module);
    LLVMValueRef function = LLVMGetNamedFunction(m->module, m->info.name);
    LLVMMetadataRef scope = describe_function(builder, m, describe_file(builder, path), line);
    LLVMSetSubprogram(function, scope);
    place_instructions(function, LLVMDIBuilderCreateDebugLocation(m->context, line, 0, scope, NULL));
    LLVMDIBuilderFinalize(builder);
    LLVMDisposeDIBuilder(builder);
    add_flag(m, "Debug Info Version", LLVMDebugMetadataVersion());
    add_flag(m, "Dwarf Version", 4);
}
