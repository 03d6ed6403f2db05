/* The text of a program: tables of its phases, a function for each kernel, the entries. */
#include "codegen/cuda/kernels.h"
#include "codegen/cuda/vmath.h"
#include "codegen/target.h"

#include <string.h>

/* prelude.cuh as it lies in the source. */
__asm__(".section .rodata\n"
        "cg_cuda_prelude: .incbin \"" CG_CUDA_PRELUDE "\"\n"
        ".byte 0\n"
        ".previous\n");
extern const char cg_cuda_prelude[] __attribute__((visibility("hidden")));

enum { KERNEL_WORDS = 160 };

typedef void (*Emitter)(CgCuda *c);

static const Emitter emitters[PG_KIND_COUNT] = {
#define CG_ROW(kind, emitter) [kind] = emitter,
    CG_CUDA_KERNELS(CG_ROW)
#undef CG_ROW
};

/* ---------------------------------------------------------------------------------------------- phases */

static int last_operand(const PgPhase *phase) {
    int last = PG_MAX_OPERANDS - 1;
    while (last >= 0 && phase->operands[last].space == PG_NOWHERE) { last--; }
    return last;
}

static void print_operands(const PgPhase *phase, SuText *out) {
    static const char *const spaces[] = {
        [PG_NOWHERE] = "NOWHERE", [PG_ARENA] = "ARENA", [PG_WEIGHTS] = "WEIGHTS", [PG_STATE] = "STATE"};
    int last = last_operand(phase);
    for (int i = 0; i <= last; i++) {
        const PgRef *ref = &phase->operands[i];
        su_text_add(out, "%s{%s, %llu, %llu}",
                    i == 0       ? ""
                    : i % 6 == 0 ? ",\n      "
                                 : ", ",
                    spaces[ref->space], (unsigned long long)ref->per_row, (unsigned long long)ref->fixed);
    }
}

static void print_phases(const PgStep *step, const char *mode, SuText *out) {
    static const char *const counts[] = {[PG_ONCE] = "ONCE",
                                         [PG_PER_ROW] = "PER_ROW",
                                         [PG_PER_ROW_BLOCK] = "PER_ROW_BLOCK",
                                         [PG_PER_SEGMENT] = "PER_SEGMENT",
                                         [PG_PER_WANTED] = "PER_WANTED",
                                         [PG_PER_POSITION_BLOCK] = "PER_POSITION_BLOCK"};
    su_text_add(out, "/* kernel, stage, tiles per, fixed, E, k, block; where operands lie */\nTABLE Phase %s_phases[%u] = {\n",
                mode, step->n_phases);
    for (uint32_t i = 0; i < step->n_phases; i++) {
        const PgPhase *p = &step->phases[i];
        su_text_add(out, "    /* %u: %s, line %u */\n    {%u, %u, %s, %u, %u, %u, %d,\n     {", i, p->name, p->line, p->kernel,
                    p->stage, counts[p->count], p->fixed, p->E, p->k, p->block);
        print_operands(p, out);
        su_text_add(out, "}},\n");
    }
    su_text_add(out, "};\n\n");
}

/* ---------------------------------------------------------------------------------------------- kernels */

static const PgPhase *first_phase(const PgProgram *program, uint32_t kernel) {
    const PgStep *step = &program->steps[program->kernels[kernel].mode];
    for (uint32_t i = 0; i < step->n_phases; i++) {
        if (step->phases[i].kernel == kernel) { return &step->phases[i]; }
    }
    SU_BUG("no phase runs kernel %u", kernel);
}

/* Adds a function's lines, indented by the braces around them. Emitters print without. */
static void add_indented(const char *text, SuText *out) {
    int depth = 0;
    for (const char *line = text; *line != '\0';) {
        size_t size = strcspn(line, "\n");
        depth -= line[0] == '}';
        if (size > 0) { su_text_add(out, "%*s%.*s", 4 * depth, "", (int)size, line); }
        su_text_add(out, "\n");
        for (size_t i = 0; i < size; i++) { depth += (line[i] == '{') - (line[i] == '}' && i > 0); }
        line += size + (line[size] == '\n');
    }
}

/* Prints the function; returns the shared memory that it takes. */
static uint64_t print_kernel(const CgCudaTarget *target, const PgProgram *program, uint32_t index, SuText *out) {
    char words[KERNEL_WORDS];
    const PgPhase *phase = first_phase(program, index);
    SuText text = {0};
    CgCuda c = {.target = target, .kernel = &program->kernels[index], .out = &text};
    cg_kernel_words(c.kernel, words, sizeof words);
    su_text_add(out, "/* %s; first in line %u: %s */\n", words, phase->line, phase->name);
    cg_cu(&c, "DEVICE u32 k%u(const Step *step, const Phase *phase, u32 first, u8 *shared) {\n", index);
    emitters[c.kernel->kind](&c);
    cg_cu(&c, "}\n\n");
    add_indented(text.text, out);
    su_text_free(&text);
    return c.shared;
}

static void print_block_entry(uint32_t index, uint64_t shared, SuText *out) {
    su_text_add(out,
                "ENTRY block_k%u(const Step *step, u32 phase) {\n"
                "    SHARED(shared, %llu);\n"
                "    k%u(step, &block_phases[phase], blockIdx.x, shared);\n"
                "}\n\n",
                index, (unsigned long long)(shared ? shared : 16), index);
}

/* Phases of a stage are dealt out to blocks one behind the other, so that small ones fall to different blocks. */
static void print_row_entry(const PgProgram *program, uint64_t shared, SuText *out) {
    su_text_add(out,
                "ENTRY row_step(const Step *step, u32 *arrived) {\n"
                "    SHARED(shared, %llu);\n"
                "    u32 dealt = 0, meetings = 0;\n"
                "    for (u32 i = 0; i < %u; i++) {\n"
                "        const Phase *phase = &row_phases[i];\n"
                "        if (i > 0 && phase->stage != row_phases[i - 1].stage) {\n"
                "            meet(arrived, ++meetings);\n"
                "            dealt = 0;\n"
                "        }\n"
                "        const u32 first = (blockIdx.x + gridDim.x - dealt %% gridDim.x) %% gridDim.x;\n"
                "        switch (phase->kernel) {\n",
                (unsigned long long)(shared ? shared : 16), program->steps[PG_ROW].n_phases);
    for (uint32_t i = 0; i < program->n_kernels; i++) {
        if (program->kernels[i].mode == PG_ROW) {
            su_text_add(out, "        case %u: dealt += k%u(step, phase, first, shared); break;\n", i, i);
        }
    }
    su_text_add(out, "        }\n    }\n    leave(arrived, meetings);\n}\n");
}

/* ---------------------------------------------------------------------------------------------- the text */

void cg_cuda_print_prelude(const CgCudaTarget *target, SuText *out) {
    su_text_add(out, "enum { THREADS = %d, WARPS = THREADS / 32 };\n\n", target->threads);
    cg_cuda_print_vmath(out);
    su_text_add(out, "%s\n", cg_cuda_prelude);
}

void cg_cuda_print_program(const CgCudaTarget *target, const PgProgram *program, SuText *out) {
    uint64_t row_shared = 0;
    print_phases(&program->steps[PG_ROW], "row", out);
    print_phases(&program->steps[PG_BLOCK], "block", out);
    for (uint32_t i = 0; i < program->n_kernels; i++) {
        uint64_t shared = print_kernel(target, program, i, out);
        if (program->kernels[i].mode == PG_BLOCK) {
            print_block_entry(i, shared, out);
        } else if (shared > row_shared) {
            row_shared = shared;
        }
    }
    print_row_entry(program, row_shared, out);
}

void cg_cuda_print(const CgCudaTarget *target, const PgProgram *program, SuText *out) {
    su_text_add(out, "/* %s for %s, printed by mossc %s. */\n\n", program->name, target->name, MOSSC_VERSION);
    cg_cuda_print_prelude(target, out);
    cg_cuda_print_program(target, program, out);
}
