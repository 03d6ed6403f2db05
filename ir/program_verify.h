/* The rules of programs, as ir_verify() has those of graphs. */
#ifndef MOSSC_IR_PROGRAM_VERIFY_H
#define MOSSC_IR_PROGRAM_VERIFY_H

#include "ir/program.h"
#include "support/diag.h"

/* false, after a message, for a program that breaks a rule. Nothing of a program is trusted but that its pointers and counts belong
 * together. Without kernels (the tables of an artefact) what needs them is not checked. */
bool pg_verify(const PgProgram *program, SuDiags *diags);

#endif
