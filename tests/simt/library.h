/* CUDA C as a library that runs it: compiled behind simt.h, at run time. */
#ifndef MOSSC_TESTS_SIMT_LIBRARY_H
#define MOSSC_TESTS_SIMT_LIBRARY_H

#include "launch.h"
#include "support/str.h"

typedef struct SimtLibrary {
    char *directory; /* temporary: the text and what the compiler made of it */
    void *handle;
    bool (*run)(const SimtLaunch *launch);
    const SimtProgram *programs; /* what the text calls simt_programs */
} SimtLibrary;

/* NULL handle, after a message, if the compiler refuses the text. */
SimtLibrary simt_library(const char *compiler, const SuText *text);
/* The same with races.h: launches find accesses that nothing orders. */
SimtLibrary simt_library_that_watches(const char *compiler, const SuText *text);
/* keep: the directory stays, and its name is printed. */
void simt_library_free(SimtLibrary *library, bool keep);

#endif
