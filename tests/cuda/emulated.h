/* The emulated libraries as a test opens them: their functions, by the names of runtime/cuda/driver.h, and CUDA C compiled. */
#ifndef MOSSC_TESTS_CUDA_EMULATED_H
#define MOSSC_TESTS_CUDA_EMULATED_H

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cuda/driver.h"

/* Opens the driver with these settings (MOSSC_EMULATED_GPU); it reads them when it is loaded. */
static inline RtCudaDriver emulated_driver(const char *path, const char *settings) {
    RtCudaDriver d = {0};
    setenv("MOSSC_EMULATED_GPU", settings, 1);
    d.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (d.handle == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
#define FIND(name, symbol, params) *(void **)&d.name = dlsym(d.handle, #symbol);
    RT_CUDA_SYMBOLS(FIND)
#undef FIND
    return d;
}

/* An image, malloced; NULL: the text is refused. *out_log (malloced) gets what the compiler said. */
static inline char *emulated_compile(const char *path, const char *text, const char *architecture, char **out_log) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL), *program = NULL;
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    int (*create)(void **, const char *, const char *, int, const char *const *, const char *const *);
    int (*compile)(void *, int, const char *const *), (*log_bytes)(void *, size_t *), (*log_text)(void *, char *);
    int (*code_bytes)(void *, size_t *), (*code)(void *, char *), (*destroy)(void **);
    bool cubin = strncmp(architecture, "sm_", 3) == 0;
    *(void **)&create = dlsym(library, "nvrtcCreateProgram");
    *(void **)&compile = dlsym(library, "nvrtcCompileProgram");
    *(void **)&log_bytes = dlsym(library, "nvrtcGetProgramLogSize");
    *(void **)&log_text = dlsym(library, "nvrtcGetProgramLog");
    *(void **)&code_bytes = dlsym(library, cubin ? "nvrtcGetCUBINSize" : "nvrtcGetPTXSize");
    *(void **)&code = dlsym(library, cubin ? "nvrtcGetCUBIN" : "nvrtcGetPTX");
    *(void **)&destroy = dlsym(library, "nvrtcDestroyProgram");
    char option[64];
    size_t bytes = 0;
    char *image = NULL;
    snprintf(option, sizeof option, "--gpu-architecture=%s", architecture);
    create(&program, text, "program.cu", 0, NULL, NULL);
    bool good = compile(program, 1, (const char *const[]){option}) == 0;
    log_bytes(program, &bytes);
    *out_log = malloc(bytes);
    log_text(program, *out_log);
    if (good && code_bytes(program, &bytes) == 0) {
        image = malloc(bytes);
        code(program, image);
    }
    destroy(&program);
    dlclose(library);
    return image;
}

#endif
