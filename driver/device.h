/* Devices: what models run on and code is made for. One row a kind (device.c lists them); nobody else knows them by name. */
#ifndef MOSSC_DRIVER_DEVICE_H
#define MOSSC_DRIVER_DEVICE_H

#include "codegen/cache.h"
#include "driver/build.h"
#include "frontend/device.h"

/* Options that only some kinds take. */
typedef enum DrDeviceOption {
    DR_ISA = 1 << 0,      /* --isa */
    DR_DEBUGGER = 1 << 1, /* --debug-info */
    DR_THREADS = 1 << 2,  /* --threads, where it is not loading that they do */
    DR_CPUS = 1 << 3,     /* --cpus of an artefact */
    DR_EXPLAIN = 1 << 4,  /* its workers' time is known phase by phase, and what keeps them waiting */
} DrDeviceOption;

enum { DR_TITLE = 160, DR_MOST_FACTS = 8 };

/* What is known of a device that is open: for reports. */
typedef struct DrFacts {
    char title[DR_TITLE]; /* "NVIDIA H200 (sm_90, 132 multiprocessors, driver of CUDA 13.0)" */
    struct {
        const char *key; /* as in JSON: "memory_bytes" */
        char text[64];   /* empty: it is a number */
        double number;
    } items[DR_MOST_FACTS];
    int count;
    uint64_t memory; /* bytes; 0: not known */
} DrFacts;

/* Takes a file of an artefact, of the model's name and this suffix (".cubin"). */
typedef bool (*DrWriteFile)(void *context, const char *suffix, const char *bytes, size_t size);

/* What an artefact (driver/artefact/) for a kind of device has of its own. */
typedef struct DrArtefactKind {
    const char *templates; /* where its templates are: "cuda/", or "" */
    const char *runtime;   /* part of the runtime that no other kind needs: "runtime/cuda/"; NULL: none */
    const char *code;      /* the file with the code, behind the model's name: ".o", ".cubin" */
    const char *sources;   /* what the compiler is given of it, behind the model's name: ".o" */
    const char *libraries; /* and the linker: "-lm -pthread" */
    const char *(*target_name)(const DrBuild *build);
} DrArtefactKind;

struct DrDeviceKind {
    const char *name;        /* "cpu", "cuda" */
    bool numbered;           /* NAME:N is the N-th, NAME the first */
    /* Whether NAME:WORD and NAME:N:WORD are such devices too, with the code that WORD names ("sm_90a"). NULL: no. */
    bool (*is_code)(const char *word);
    unsigned takes;          /* DrDeviceOptions */
    /* Whether the device of the options (target NULL), or `target`, can do what `fast` asks for; else an error. */
    bool (*check_fast)(DrBuild *build, const DrBuildOptions *options, const CgTarget *target);
    bool bf16_inputs; /* `fast` is of the program: PsOptions.bf16_inputs */
    int64_t max_rows;        /* PsOptions.max_rows */
    const PgFew *few;        /* PsOptions.few */
    /* Opens the N-th into build->device, with what the code generator must know of it. NULL: nothing is to be opened. */
    bool (*open)(DrBuild *build, int ordinal, const DrBuildOptions *options);
    /* Whether a target (no device's name) is of this kind, and finding it (build->target, build->gpu). fast: DrBuildOptions.fast. */
    bool (*is_target)(const char *name);
    bool (*find_target)(DrBuild *build, const char *name, bool fast);
    CgTargetName (*target_name)(int index); /* the known ones from 0 on; after the last one the name is NULL */
    /* The code of build->program, looked for in the cache first (NULL: none), into this process or build->device. */
    bool (*compile)(DrBuild *build, const DrBuildOptions *options, CgCache *cache);
    /* The generated code as text or bytes in one of `forms` (NULL-terminated; the first is the default). */
    const char *const *forms;
    bool (*print)(DrBuild *build, int form, FILE *out);
    /* The files that an artefact has in place of an object, whose tables are named after `symbol`. NULL: it has an object. */
    bool (*write_code)(DrBuild *build, const char *symbol, DrWriteFile write, void *context);
    DrArtefactKind artefact;
    void (*describe)(const DrBuild *build, DrFacts *out);
};

/* device_cpu.c, device_cuda.c */
extern const DrDeviceKind dr_cpu, dr_cuda;

/* The kinds, by a number from 0 on; after the last one NULL. The first is this process and its CPUs. */
const DrDeviceKind *dr_device_kind(int index);
/* What the build is for. */
static inline const DrDeviceKind *dr_kind(const DrBuild *build) { return build->kind ? build->kind : &dr_cpu; }

/* Finds the device that options->device names, sees that it takes the other options, and opens it; before dr_build_program. */
bool dr_build_device(DrBuild *build, const DrBuildOptions *options);
/* The kind of what --device names (NULL: the first); NULL: there is none. */
const DrDeviceKind *dr_kind_of_device(const char *name);
/* The kind of a target, or of the device that it names (dr_device_of_target); the first where none has such names. */
const DrDeviceKind *dr_kind_of_target(const char *name);
/* Finds a target of any kind, or that of a device: code is then made for it, and not run. fast: DrBuildOptions.fast. out_device (may be
 * NULL): see dr_device_of_target. */
bool dr_build_target(DrBuild *build, const char *name, bool fast, FeDevice *out_device);

#endif
