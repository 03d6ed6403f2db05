/* Targets: the seam between the program and the code generators.
 *
 * A target is a struct of facts; a back end (codegen/llvm, codegen/cuda) makes functions for the kernels of a program from them.
 * Back ends never match patterns: everything they need stands in PgKernel. */
#ifndef MOSSC_CODEGEN_TARGET_H
#define MOSSC_CODEGEN_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "ir/program.h"
#include "support/diag.h"

/* How four products of bytes are added to an integer of 32 bits. */
typedef enum CgDotWay {
    CG_DOT_MADD, /* AVX2: pairs in 16 bits, then pairs of these */
    CG_DOT_VNNI, /* AVX-512 VNNI, AVX-VNNI: one instruction, of bytes without a sign and with one */
    CG_DOT_SMLAL, /* NEON: products of 16 bits, neighbours added */
    CG_DOT_SDOT,  /* NEON with dotprod: one instruction */
    CG_DOT_SMMLA  /* with i8mm too: blocks of rows multiply two rows by two outputs in one instruction, eight products each */
} CgDotWay;

/* How products of bf16 are added to a float, of linear layers that round their inputs to bf16 (PgKernel.bf16_x). */
typedef enum CgBf16Way {
    CG_BF16_NONE, /* not at all: nothing is made for such layers */
    CG_BF16_PAIRS, /* AVX-512 BF16: two products in every lane */
    CG_BF16_MMLA /* NEON with bf16: two outputs by two rows, four products each */
} CgBf16Way;

typedef struct CgTarget {
    char name[64];       /* "host" or what the user asked for */
    char triple[96];     /* LLVM's */
    char cpu[64];        /* LLVM's name */
    char *features;      /* LLVM's list; malloced */
    const char *tune[PG_MODES]; /* LLVM's name of the core whose pipeline instructions are put in order for; NULL: cpu */
    bool native;         /* code that can run in this process */
    int vector_lanes;    /* float lanes of a register: 16 (AVX-512), 8 (AVX2), 4 (NEON); values are <16 x float> in any case */
    int row_panels;      /* panels walked side by side for one row (as many streams) */
    int pair_panels;     /* the same for bf16 and f16 weights, whose widening takes registers */
    int block_panels;    /* panels × rows of the microkernel for blocks of rows */
    int block_rows;      /* divides PG_ROW_BLOCK */
    int pairs_ahead; /* bytes that one row fetches ahead in every stream of bf16 or f16 weights; 0: the processor sees to it */
    int side; /* vectors of 16 values that elementwise code works on side by side, to fill the pipeline */
    int scan_lanes; /* channels of a panel whose states move side by side: 16, or fewer where registers hold no more */
    int scan_states; /* elements of their states written in a line: 16, or fewer where that would fill registers */
    int broadcast_lanes; /* inputs loaded at once, of which a multiplication picks one (NEON: 4); 1: each is broadcast from memory */
    CgDotWay dot; /* linear layers of q8 and q4 weights and rounded inputs */
    bool dot_in_ir; /* as plain instructions that mean the same, for tests where the processor lacks it */
    bool
        dot_arranges; /* blocks of rows lay out their weights once for all rows of a tile (codegen/llvm/arranged.h); smmla needs it */
    bool dot_scales_integers; /* one row of q4 multiplies integers by their scales as integers: less to convert */
    bool dot_dual; /* one row of such weights reads both matrices of a gate side by side, as two streams */
    int dot_lanes; /* integers of 32 bits that such an instruction adds to */
    int dot_row_panels, dot_block_panels, dot_block_rows; /* like those above */
    int dot_held_sums; /* panels × rows whose sums of floats stay in registers beside those of integers; more stand in memory */
    int dot_ahead; /* bytes that one row fetches ahead in every stream of such weights; 0: the processor sees to it */
    CgBf16Way bf16;
    bool bf16_in_ir; /* CG_BF16_PAIRS as plain instructions, for tests where the processor lacks it */
    int bf16_panels, bf16_rows; /* panels × rows of the microkernel for blocks of rows of such layers */
    bool amx_bytes, amx_bf16; /* the processor has tiles of bytes, of bf16, which schedules may ask for (cg_may_use_tiles) */
    bool amx_in_ir; /* tiles in memory and plain instructions, and schedules that ask for them by default: for tests */
    bool ieee_max; /* maximum and minimum that keep NaN are one instruction */
    const char *abs_greater; /* LLVM's intrinsic that compares magnitudes and gives a mask; NULL: none */
    bool far_offsets; /* a load reaches any constant distance from a pointer; else 1 KB, and every stream wants a pointer */
} CgTarget;

/* The machine mossc runs on. false (with a message that says what is needed) below x86-64-v3, or on an unknown machine.
 * `isa` may name a lower one on purpose, NULL takes the best: on x86 "avx2", "avx512" (without VNNI); on ARM "neon" (without
 * dotprod). For tests "vnni-in-ir", "bf16-in-ir" and "amx-in-ir": the kernels that AVX-512 with VNNI, with BF16 too, with AMX too,
 * gets, but as code for AVX2, these instructions as plain ones. */
bool cg_target_host(const char *isa, CgTarget *out_target, SuDiags *diags);
/* "host", "x86-64-v3" and "x86-64-v4", perhaps with "+vnni", "aarch64" with extensions ("aarch64+dotprod+fp16"), a core
 * ("aarch64:cortex-x4", "cortex-a720+i8mm"). An unknown name is an error that says which one is near. */
bool cg_target_by_name(const char *name, CgTarget *out_target, SuDiags *diags);
void cg_target_free(CgTarget *target);

/* What cg_target_by_name takes: "host", PCs, "aarch64", then cores; and the extensions that may follow all but the first. */
typedef struct CgTargetName {
    const char *name, *about;
} CgTargetName;

const CgTargetName *cg_target_names(size_t *out_count);
const CgTargetName *cg_target_extensions(size_t *out_count);

/* Kernels compiled and linked into this process. codes[i] belongs to program->kernels[i]. */
typedef struct CgCompiled CgCompiled;
const PgCode *cg_codes(const CgCompiled *compiled);
/* Bytes of machine code and of its constants, of all kernels together. */
uint64_t cg_code_bytes(const CgCompiled *compiled);
void cg_compiled_free(CgCompiled *compiled);

/* Who is told where kernels lie, how they are called and which line of the spec they come from. */
typedef enum CgDebugger { CG_NO_DEBUGGER, CG_GDB, CG_PERF } CgDebugger;

typedef struct CgCache CgCache; /* codegen/cache.h */
typedef struct CgSchedule CgSchedule; /* codegen/tuning.h */

typedef struct CgOptions {
    const char *dump_dir; /* NULL, or an existing directory: the IR before and after optimisation and the assembly go there */
    CgCache *cache; /* where kernels are looked for first and stored, or NULL; not used with a dump_dir */
    const CgSchedule *schedules; /* [n_kernels]; NULL: the defaults */
    CgDebugger debugger;
    const char *spec_path; /* for the debugger */
} CgOptions;

bool cg_llvm_compile(const CgTarget *target, const PgProgram *program, const CgOptions *options, CgCompiled **out_compiled,
                     SuDiags *diags);
/* Prints the generated code of every kernel: assembly, or LLVM IR after optimisation. */
bool cg_llvm_print(const CgTarget *target, const PgProgram *program, bool llvm_ir, FILE *out, SuDiags *diags);
/* Frees what LLVM holds for the process; call once at the end (leak checkers like it). */
void cg_llvm_shutdown(void);

/* What a kernel is, readable: "linear_row_768x1536_f32_norm_conv_silu". Writes at most `size` bytes. */
void cg_kernel_words(const PgKernel *kernel, char *out, size_t size);
/* The same with the kernel's index behind it, which makes it unique in its program. */
void cg_kernel_name(const PgKernel *kernel, uint32_t index, char *out, size_t size);

#endif
