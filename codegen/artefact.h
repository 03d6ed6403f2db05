/* Artefacts: all of a program as one relocatable object, which runtime/ runs where no compiler is; or, where a GPU has the code, its
 * tables as C. */
#ifndef MOSSC_CODEGEN_ARTEFACT_H
#define MOSSC_CODEGEN_ARTEFACT_H

#include <stdio.h>

#include "codegen/target.h"
#include "support/str.h"

typedef enum CgEmission { CG_OBJECT, CG_ASSEMBLY, CG_IR } CgEmission;

/* Writes the program's tables and all its kernels: the object itself, or what it would be made of. Two symbols are visible,
 *     const PgProgram SYMBOL_program;   (without PgProgram.kernels, which only a compiler reads)
 *     const PgCode SYMBOL_codes[];
 * everything else is local, so that objects of several models link into one program. It needs nothing but memset and memcpy. */
bool cg_llvm_artefact(const CgTarget *target, const PgProgram *program, const char *symbol, CgEmission emission, FILE *out,
                      SuDiags *diags);

/* The program's tables alone, as C that any compiler takes beside ir/program.h:
 *     const PgProgram SYMBOL_program;   (without PgProgram.kernels too) */
void cg_print_tables(const PgProgram *program, const char *symbol, SuText *out);

#endif
