/* The text of a program: tables of its phases, a function for each kernel, the entries. */
#include "codegen/cuda/kernels.h"
#include "codegen/cuda/library.h"
#include "codegen/cuda/linear.h"
#include "codegen/target.h"
#include "ir/rope.h"
#include "support/dmath.h"
#include "support/table.h"

#include <stdio.h>
#include <string.h>

enum { KERNEL_WORDS = 160, CG_MAX_PARTS = 4 };

typedef void (*Emitter)(CgCuda *c);

static const Emitter emitters[PG_KIND_COUNT] = {
#define PG_KERNEL(NAME, name) [PG_##NAME] = cg_cuda_##name,
#include "ir/kernel_kinds.def"
};

/* A list of phases as it is printed. */
typedef struct List {
    const char *name; /* "row", "block", "few": of its table */
    const PgStep *step;
    CgWordPlan words; /* of PG_BLOCK's kernels */
    uint32_t *tile0;  /* [n_phases] of PG_FEW: Phase.tile0; NULL: 0 */
} List;

/* ---------------------------------------------------------------------------------------------- phases */

static int last_operand(const PgPhase *phase) {
    int last = PG_MAX_OPERANDS - 1;
    while (last >= 0 && phase->operands[last].space == PG_NOWHERE) last--;
    return last;
}

static const char *space_name(uint64_t space) {
    static const char *const names[] = {
#define PG_SPACE_ROW(NAME, word) #NAME,
#include "ir/words.def"
    };
    SU_TABLE_FULL(names, PG_STATE + 1);
    return names[space];
}

/* x: where words lie that take the place of PG_LINEAR_X; NULL or PG_NOWHERE: there are none. */
static void print_operands(const PgPhase *phase, const PgRef *x, SuText *out) {
    int last = last_operand(phase);
    for (int i = 0; i <= last; i++) {
        const PgRef *ref = i == PG_LINEAR_X && x != NULL && x->space != PG_NOWHERE ? x : &phase->operands[i];
        su_text_add(out, "%s{%s, %llu, %llu}",
                    i == 0       ? ""
                    : i % 6 == 0 ? ",\n      "
                                 : ", ",
                    space_name(ref->space), (unsigned long long)ref->per_row, (unsigned long long)ref->fixed);
    }
}

static void print_table(const List *list, SuText *out) {
    static const char *const counts[] = {
#define PG_COUNT_ROW(NAME, word) #NAME,
#include "ir/words.def"
    };
    SU_TABLE_FULL(counts, PG_PER_POSITION_BLOCK + 1);
    const PgStep *step = list->step;
    const CgWordPlan *words = &list->words;
    su_text_add(out,
                "/* kernel, more in the stage, tiles per, fixed, E, k, block, first shared tile; where operands lie */\nTABLE "
                "Phase %s_table[%u] = {\n",
                list->name, step->n_phases);
    for (uint32_t i = 0; i < step->n_phases; i++) {
        const PgPhase *p = &step->phases[i];
        su_text_add(out, "    /* %u: %s, line %u */\n    {%u, %u, %s, %u, %u, %u, %d, %u,\n     {", i, p->name, p->line, p->kernel,
                    i + 1 < step->n_phases && p[1].stage == p->stage, counts[p->count], p->fixed, p->E, p->k, p->block,
                    list->tile0 != NULL ? list->tile0[i] : 0);
        print_operands(p, words->x != NULL ? &words->x[i] : NULL, out);
        su_text_add(out, "}");
        if (words->places != NULL && words->places[i].space != PG_NOWHERE)
            su_text_add(out, ", %llu, %llu", (unsigned long long)words->places[i].per_row,
                        (unsigned long long)words->places[i].fixed);
        su_text_add(out, "},\n");
    }
    su_text_add(out, "};\n\n");
}

/* ---------------------------------------------------------------------------------------------- kernels */

/* A kernel in one form: its parts' texts, without the names, and what they take. */
typedef struct Printed {
    SuText texts[CG_MAX_PARTS];
    CgCuda made[CG_MAX_PARTS];
    int parts;
} Printed;

/* The program that is being printed. */
typedef struct Printing {
    const CgCudaTarget *target;
    const PgProgram *program;
    SuText *out;
    Printed *many; /* [n_kernels] CG_ONE or CG_MANY */
    bool *in_few; /* [n_kernels]: rows_step runs it */
    bool *own_few; /* [n_kernels]: there is a kN_few */
    bool *ahead; /* [n_kernels]: there is a kN_ahead */
    List lists[PG_LISTS];
    bool shares; /* blocks of rows_step share tiles */
    bool *whole_k; /* [n_kernels]: those that may not, as their stages have too many tiles that are shared */
    CgCudaPlan plan;
} Printing;

/* NULL: none runs the kernel. */
static const PgPhase *find_phase(const PgStep *step, uint32_t kernel) {
    for (uint32_t i = 0; i < step->n_phases; i++)
        if (step->phases[i].kernel == kernel) return &step->phases[i];
    return NULL;
}

/* Of the lists that are printed. NULL: none runs it, as where a target does not take PG_FEW. */
static const PgPhase *first_phase(const Printing *p, uint32_t kernel) {
    for (int list = 0; list < PG_LISTS; list++) {
        const PgPhase *phase = find_phase(p->lists[list].step, kernel);
        if (phase != NULL) return phase;
    }
    return NULL;
}

static void check_spaces(const PgStep *step, uint32_t kernel, const PgPhase *first) {
    for (const PgPhase *phase = step->phases; phase < step->phases + step->n_phases; phase++) {
        if (phase->kernel != kernel) continue;
        for (int i = 0; i < PG_MAX_OPERANDS; i++)
            if (phase->operands[i].space != first->operands[i].space)
                SU_BUG("phases of kernel %u have operand %d in different spaces", kernel, i);
    }
}

/* The type PN of kernel N's phases: where operands lie is the kernel's own. */
static void print_phase_type(const Printing *p, uint32_t kernel) {
    SuText *out = p->out;
    const PgPhase *first = first_phase(p, kernel);
    int last = last_operand(first);
    for (int list = 0; list < PG_LISTS; list++) check_spaces(p->lists[list].step, kernel, first);
    su_text_add(out, "typedef PhaseOf<");
    for (int i = 0; i <= last; i++) su_text_add(out, "%s%s", i == 0 ? "" : ", ", space_name(first->operands[i].space));
    su_text_add(out, "> P%u;\n", kernel);
}

/* Adds a function's lines, indented by the braces around them. Emitters print without. */
static void add_indented(const char *text, SuText *out) {
    int depth = 0;
    for (const char *line = text; *line != '\0';) {
        size_t size = strcspn(line, "\n");
        depth -= line[0] == '}';
        if (size > 0) su_text_add(out, "%*s%.*s", 4 * depth, "", (int)size, line);
        su_text_add(out, "\n");
        for (size_t i = 0; i < size; i++) depth += (line[i] == '{') - (line[i] == '}' && i > 0);
        line += size + (line[size] == '\n');
    }
}

static Printed print_form(const Printing *p, uint32_t index, CgCudaForm form) {
    Printed printed = {.parts = 1};
    const CgWordPlan *words = &p->lists[form == CG_FEW ? PG_FEW : PG_BLOCK].words;
    const PgKernel *kernel = &p->program->kernels[index];
    for (int part = 0; part < printed.parts; part++) {
        CgCuda *c = &printed.made[part];
        *c = (CgCuda){.target = p->target,
                      .kernel = kernel,
                      .out = &printed.texts[part],
                      .form = form,
                      .part = part,
                      .whole_k = p->whole_k[index],
                      .x_words = words->read[index],
                      .y_words = (CgWords)words->written[index],
                      .words_panels = words->panels[index],
                      .words_of = words->types[index],
                      .parts = 1};
        emitters[kernel->kind](c);
        if (part == 0) printed.parts = c->parts;
        if (printed.parts > (form == CG_MANY ? CG_MAX_PARTS : 1)) SU_BUG("a kernel in %d parts", printed.parts);
    }
    return printed;
}

static void free_printed(Printed *printed) {
    for (int part = 0; part < printed->parts; part++) su_text_free(&printed->texts[part]);
}

static bool same_text(const Printed *a, const Printed *b) {
    return a->parts == 1 && b->parts == 1 && strcmp(a->texts[0].text, b->texts[0].text) == 0;
}

/* "k7", "k7_few", "k7_1". What the persistent entries call stands apart: as one function they would take NVRTC several times as long. */
static void print_function(const char *about, uint32_t index, const char *suffix, bool apart, const Printed *printed, int part,
                           SuText *out) {
    SuText text = {0};
    su_text_add(&text,
                "/* %s */\n%s u32 k%u%s(const P%u *phase, u32 first) {\n"
                "%sconst Step *step = held_step();\nASSUME_SHARED(phase);\n%s}\n\n",
                about, apart ? "CALLED" : "DEVICE", index, suffix, index, printed->made[part].shared > 0 ? "SHARED(shared);\n" : "",
                printed->texts[part].text);
    add_indented(text.text, out);
    su_text_free(&text);
}

static void part_suffix(int part, char out[8]) {
    if (part == 0)
        out[0] = '\0';
    else
        snprintf(out, 8, "_%d", part);
}

static void print_block_entry(uint32_t index, const char *suffix, const CgCuda *made, SuText *out) {
    su_text_add(out,
                "%s(block_k%u%s)(const Step *step, u32 phase) {\n"
                "    k%u%s((const P%u *)hold_phase(step, &block_table[phase]), blockIdx.x);\n"
                "}\n\n",
                made->warpgroups   ? "ENTRY_OF_WARPGROUPS"
                : made->two_blocks ? "ENTRY_OF_TWO"
                                   : "ENTRY",
                index, suffix, index, suffix, index);
}

/* ---------------------------------------------------------------------------------------------- the program */

static uint32_t larger(uint32_t a, uint64_t b) { return a > b ? a : (uint32_t)b; }

static void note_scratch(RtCudaImage *image, const CgCuda *c) {
    image->scratch_per_row = larger(image->scratch_per_row, c->scratch_per_row);
    image->scratch_per_segment = larger(image->scratch_per_segment, c->scratch_per_segment);
    image->scratch_fixed = larger(image->scratch_fixed, c->scratch_fixed);
}

static void print_parts(Printing *p, uint32_t index, bool apart, const char *about) {
    Printed *many = &p->many[index];
    for (int part = 0; part < many->parts; part++) {
        char suffix[8];
        part_suffix(part, suffix);
        print_function(about, index, suffix, apart, many, part, p->out);
        note_scratch(&p->plan.image, &many->made[part]);
        if (p->program->kernels[index].mode == PG_ROW) continue;
        print_block_entry(index, suffix, &many->made[part], p->out);
        p->plan.n_entries++;
    }
}

/* kN_ahead, for linear layers whose weights are known before. */
static void print_ahead(Printing *p, uint32_t index) {
    const PgKernel *kernel = &p->program->kernels[index];
    if (kernel->mode == PG_BLOCK && !p->in_few[index]) return;
    SuText body = {0}, text = {0};
    CgCuda c = {.target = p->target,
                .kernel = kernel,
                .out = &body,
                .form = kernel->mode == PG_ROW ? CG_ONE : CG_FEW,
                .whole_k = p->whole_k[index],
                .parts = 1};
    p->ahead[index] = cg_cuda_linear_ahead(&c);
    if (p->ahead[index]) {
        su_text_add(&text, "DEVICE u32 k%u_ahead(const P%u *phase, u32 first) {\nconst Step *step = held_step();\n%s}\n\n", index,
                    index, body.text);
        add_indented(text.text, p->out);
    }
    su_text_free(&body);
    su_text_free(&text);
}

static void print_kernel(Printing *p, uint32_t index) {
    char words[KERNEL_WORDS], about[KERNEL_WORDS + 256];
    const PgKernel *kernel = &p->program->kernels[index];
    const PgPhase *phase = first_phase(p, index);
    RtCudaImage *image = &p->plan.image;
    print_phase_type(p, index);
    cg_kernel_words(kernel, words, sizeof words);
    snprintf(about, sizeof about, "%s; first in line %u: %s", words, phase->line, phase->name);
    bool in_many = kernel->mode == PG_ROW || find_phase(p->lists[PG_BLOCK].step, index) != NULL;
    p->in_few[index] = find_phase(p->lists[PG_FEW].step, index) != NULL;
    print_ahead(p, index);
    if (in_many) p->many[index] = print_form(p, index, kernel->mode == PG_ROW ? CG_ONE : CG_MANY);
    if (kernel->mode == PG_ROW) {
        print_parts(p, index, true, about);
        image->row_shared = larger(image->row_shared, CG_CUDA_HELD + p->many[index].made[0].shared);
        return;
    }
    Printed few = {0};
    if (p->in_few[index]) few = print_form(p, index, CG_FEW);
    p->own_few[index] = p->in_few[index] && !same_text(&few, &p->many[index]);
    print_parts(p, index, p->in_few[index] && !p->own_few[index], about);
    if (!p->in_few[index]) return;
    if (p->own_few[index]) print_function(about, index, "_few", true, &few, 0, p->out);
    image->few_shared = larger(image->few_shared, CG_CUDA_HELD + few.made[0].shared);
    if (few.made[0].scratch_per_row + few.made[0].scratch_per_segment + few.made[0].scratch_fixed > 0)
        SU_BUG("kernel %u takes scratch memory, where tiles are shared in rows_step", index);
    free_printed(&few);
}

/* Of the lists that persistent launches take. */
static const char *launch_name(int list) { return list == PG_ROW ? "row" : "rows"; }
static bool runs_kernel(const Printing *p, int list, uint32_t kernel) {
    return list == PG_ROW ? p->program->kernels[kernel].mode == PG_ROW : p->in_few[kernel];
}

/* What a block asks for between two stages: the weights that its first tiles of the next one read. */
static void print_look_ahead(const Printing *p, int list) {
    const char *table = p->lists[list].name;
    su_text_add(p->out,
                "/* Phase i begins a stage, for which the block waits. */\n"
                "CALLED void look_ahead_%s(u32 i) {\n"
                "    u32 dealt = 0;\n"
                "    for (bool more = true; more; more = %s_table[i++].more) {\n"
                "        const Phase *phase = &%s_table[i];\n"
                "        const u32 first = (blockIdx.x + gridDim.x - dealt %% gridDim.x) %% gridDim.x;\n"
                "        switch (phase->kernel) {\n",
                launch_name(list), table, table);
    for (uint32_t i = 0; i < p->program->n_kernels; i++)
        if (runs_kernel(p, list, i) && p->ahead[i])
            su_text_add(p->out, "        case %u: dealt += k%u_ahead((const P%u *)phase, first); break;\n", i, i, i);
    su_text_add(p->out, "        default: return;\n        }\n    }\n}\n\n");
}

/* All phases of a step, by all blocks. Phases of a stage are dealt out to blocks one behind the other, so that small ones fall to
 * different blocks. While one runs, the next one's operands come to shared memory. */
static void print_phase_loop(const Printing *p, int list) {
    const char *name = launch_name(list), *table = p->lists[list].name;
    su_text_add(p->out,
                "CALLED void %s_phases(Control *control, u32 *barriers) {\n"
                "    enum { PHASES = %u };\n"
                "    u32 dealt = 0;\n"
                "    fetch_phase(%s_table, 0);\n"
                "    CP_ASYNC_WAIT(0);\n"
                "    __syncthreads();\n%s"
                "    for (u32 i = 0; i < PHASES; i++) {\n"
                "        const Phase *phase = &held()->phases[i %% 2];\n"
                "        if (i + 1 < PHASES) fetch_phase(%s_table, i + 1);\n"
                "        const u32 first = (blockIdx.x + gridDim.x - dealt %% gridDim.x) %% gridDim.x;\n"
                "        switch (phase->kernel) {\n",
                name, p->lists[list].step->n_phases, table,
                list == PG_FEW && p->shares ? "    begin_sharing(held_step()->scratch);\n" : "", table);
    for (uint32_t i = 0; i < p->program->n_kernels; i++)
        if (runs_kernel(p, list, i))
            su_text_add(p->out, "        case %u: dealt += k%u%s((const P%u *)phase, first); break;\n", i, i,
                        p->own_few[i] ? "_few" : "", i);
    su_text_add(p->out,
                "        }\n"
                "        CP_ASYNC_WAIT(0);\n"
                "        if (i + 1 == PHASES) break;\n"
                "        if (phase->more) {\n"
                "            __syncthreads(); /* the next phase's operands are there */\n"
                "            continue;\n"
                "        }\n"
                "        arrive(&control->barrier);\n"
                "        look_ahead_%s(i + 1);\n"
                "        wait_for_all(&control->barrier, ++*barriers, i + 1);\n"
                "        dealt = 0;\n"
                "    }\n}\n\n",
                name);
}

/* Whether row_step's logits come with the best of each block. */
static bool notes_best(const Printing *p) {
    const PgStep *step = &p->program->steps[PG_ROW];
    const PgKernel *last = &p->program->kernels[step->phases[step->n_phases - 1].kernel];
    CgCuda c = {.target = p->target, .kernel = last, .form = CG_ONE};
    return last->kind == PG_LINEAR && cg_linear_notes_best(&(CgLinear){.c = &c, .k = last});
}

/* The persistent launch: picks tokens if it is told to, takes the step, and so on. One row is nothing but loads, of which two blocks a
 * multiprocessor have twice as many on their way; it needs no more registers than they leave. */
static void print_step_entry(Printing *p, int list) {
    const char *name = launch_name(list), *table = p->lists[list].name;
    bool ropes = p->program->n_ropes > 0, noted = list == PG_ROW && notes_best(p);
    print_look_ahead(p, list);
    print_phase_loop(p, list);
    su_text_add(p->out,
                "%s(%s_step)(Step *step, Control *control) {\n"
                "    Turn now = {};\n"
                "    hold_step(step);\n%s"
                "    for (; now.turn < control->steps; now.turn++) {\n"
                "        if (now.turn > 0) grid_barrier(&control->barrier, ++now.barriers); /* logits are there */\n"
                "        if (control->picking%s) {\n"
                "            %s;\n"
                "            grid_barrier(&control->barrier, ++now.barriers);\n"
                "            if (has_ended(step, control)) break;\n"
                "            take_tokens(step, control, now.turn);\n"
                "            grid_barrier(&control->barrier, ++now.barriers);\n"
                "        }\n",
                list == PG_ROW ? "ENTRY_OF_TWO" : "ENTRY", name, noted ? "    hold_picking(control);\n" : "",
                noted ? " && !picks_noted(control, now.turn)" : "",
                list == PG_ROW ? "pick_together(step, control, now.turn, &now.barriers)" : "pick_tokens(step, control, now.turn)");
    if (noted)
        su_text_add(p->out,
                    "        else if (control->picking) {\n"
                    "            if (!take_noted(step, control, now.turn)) break;\n%s"
                    "        }\n",
                    ropes ? "            grid_barrier(&control->barrier, ++now.barriers); /* the row's position is there */\n"
                          : "");
    if (ropes)
        su_text_add(p->out, "        fill_%s_ropes(step);\n        grid_barrier(&control->barrier, ++now.barriers);\n", table);
    su_text_add(p->out,
                "        %s_phases(control, &now.barriers);\n"
                "    }\n"
                "    if (blockIdx.x == 0 && threadIdx.x == 0) control->done = now.turn;\n"
                "    leave(&control->barrier, now.barriers);\n"
                "}\n\n",
                name);
    p->plan.n_entries++;
}

/* ---------------------------------------------------------------------------------------------- ropes */

static void print_rates(const PgProgram *program, SuText *out) {
    for (uint32_t r = 0; r < program->n_ropes; r++) {
        const PgRope *rope = &program->ropes[r];
        su_text_add(out, "/* turns a position, theta = %g */\nTABLE double rope_%u[%lld] = {", rope->theta, r,
                    (long long)rope->dim / 2);
        for (int64_t i = 0; i < rope->dim / 2; i++) {
            double rate = ir_rope_rate(su_dpow(rope->theta, (double)(-2 * i) / (double)rope->dim), rope->factor, rope->low,
                                       rope->high, rope->original);
            su_text_add(out, "%s%.17g", i == 0 ? "" : i % 6 == 0 ? ",\n    " : ", ", rate / 6.283185307179586476925);
        }
        su_text_add(out, "};\n");
    }
}

static void print_fill_ropes(const Printing *p, int list) {
    const PgProgram *program = p->program;
    SuText *out = p->out;
    su_text_add(out, "CALLED void fill_%s_ropes(const Step *step) {\n", p->lists[list].name);
    for (uint32_t r = 0; r < program->n_ropes; r++) {
        const PgRope *rope = &program->ropes[r];
        const PgRef *ref = &rope->table[p->lists[list].step - program->steps];
        if (ref->space != PG_ARENA) continue;
        su_text_add(out, "    fill_rope(step, (float *)(step->arena + %lluull * step->ld + %lluull), rope_%u, %lld);\n",
                    (unsigned long long)ref->per_row, (unsigned long long)ref->fixed, r, (long long)rope->dim / 2);
    }
    su_text_add(out, "}\n\n");
}

static void print_ropes(Printing *p) {
    if (p->program->n_ropes == 0) return;
    print_rates(p->program, p->out);
    for (int list = 0; list < PG_LISTS; list++) print_fill_ropes(p, list);
    su_text_add(p->out, "ENTRY(fill_ropes)(const Step *step) { fill_block_ropes(step); }\n\n");
    p->plan.n_entries++;
}

/* ---------------------------------------------------------------------------------------------- weights */

/* Entries are for panels of 16 bits alone, which tensor cores read. */
static void print_arrangement(Printing *p) {
    uint32_t *n = &p->plan.image.n_arranged;
    for (uint32_t i = 0; i < p->program->n_weights; i++) {
        const PgWeight *w = &p->program->weights[i];
        const IrDtypeInfo *dtype = ir_dtype((IrDtype)w->dtype);
        uint64_t panel = ir_panel_bytes((IrDtype)w->dtype, w->K);
        if (w->pack != PG_PANELS || dtype->mma != IR_MMA_16) continue;
        if (w->bytes % panel != 0) SU_BUG("weight %u is not whole panels", i);
        su_text_add(p->out, "%s    {%llu, %llu, %llu},\n",
                    (*n)++ == 0 ? "/* where panels of 16 bits lie: offset, panels, lines of each */\nTABLE Panels arranged[] = {\n"
                                : "",
                    (unsigned long long)w->offset, (unsigned long long)(w->bytes / panel),
                    (unsigned long long)ir_groups(dtype, (uint64_t)w->K));
    }
    if (*n == 0) return;
    su_text_add(p->out,
                "};\n\nENTRY(arrange_weights)(u8 *weights) {\n"
                "    for (u32 i = 0; i < %u; i++) arrange(weights, &arranged[i]);\n"
                "}\n\n",
                *n);
    p->plan.n_entries++;
}

/* ---------------------------------------------------------------------------------------------- the image */

static void plan_launches(Printing *p, SuArena *arena) {
    const PgStep *step = &p->program->steps[PG_BLOCK];
    uint32_t n = 0;
    p->plan.launches = SU_NEW_ARRAY(arena, RtCudaLaunch, (size_t)step->n_phases * CG_MAX_PARTS);
    for (uint32_t i = 0; i < step->n_phases; i++) {
        const PgPhase *phase = &step->phases[i];
        const Printed *printed = &p->many[phase->kernel];
        for (int part = 0; part < printed->parts; part++) {
            const CgCuda *made = &printed->made[part];
            char suffix[8];
            RtCudaLaunch *launch = &p->plan.launches[n++];
            *launch = (RtCudaLaunch){.phase = i,
                                     .shared = CG_CUDA_HELD + (uint32_t)made->shared,
                                     .threads = made->warpgroups ? CG_CUDA_WARPGROUP_THREADS : (uint32_t)p->target->threads,
                                     .count = phase->count,
                                     .E = phase->E,
                                     .k = phase->k,
                                     .per_tile = (uint32_t)made->per_tile,
                                     .fixed = phase->fixed * (uint32_t)made->groups,
                                     .surplus = (uint32_t)made->surplus};
            part_suffix(part, suffix);
            snprintf(launch->entry, sizeof launch->entry, "block_k%u%s", phase->kernel, suffix);
        }
    }
    p->plan.image.n_launches = n;
}

static void print_words(const void *data, size_t bytes, SuText *out) {
    for (size_t at = 0; at < bytes; at += sizeof(uint32_t)) {
        uint32_t word;
        memcpy(&word, (const uint8_t *)data + at, sizeof word);
        su_text_add(out, "%s%u,", at % 64 == 0 ? "\n    " : " ", word);
    }
}

static void print_image(Printing *p, SuArena *arena) {
    RtCudaImage *image = &p->plan.image;
    plan_launches(p, arena);
    image->magic = RT_CUDA_MAGIC;
    image->format = RT_CUDA_FORMAT;
    image->numerics = PG_NUMERICS;
    memcpy(image->spec_hash, p->program->spec_hash, sizeof image->spec_hash);
    image->threads = (uint32_t)p->target->threads;
    image->few_rows = CG_CUDA_FEW_ROWS;
    image->few_list = (uint32_t)(p->lists[PG_FEW].step - p->program->steps);
    image->n_ropes = p->program->n_ropes;
    su_text_add(p->out, "/* for the host: what is launched, and with how much shared memory */\nEXPORTED u32 mossc_image[] = {");
    print_words(image, sizeof *image, p->out);
    print_words(p->plan.launches, image->n_launches * sizeof *p->plan.launches, p->out);
    su_text_add(p->out, "\n};\n");
}

/* Phase.tile0 of PG_FEW: tiles of a stage whose k blocks share lie one behind the other in scratch memory (product.cuh). False where a
 * kernel's do not fit, or no barrier stands before them: its k stays whole. */
static bool place_shared_tiles(Printing *p, uint32_t *tile0) {
    const PgStep *step = p->lists[PG_FEW].step;
    uint32_t next = 0;
    for (uint32_t i = 0; i < step->n_phases; i++) {
        uint32_t kernel = step->phases[i].kernel;
        if (i > 0 && step->phases[i].stage != step->phases[i - 1].stage) next = 0;
        tile0[i] = next;
        if (p->whole_k[kernel]) continue;
        uint32_t tiles = cg_linear_shared_tiles(p->target, &p->program->kernels[kernel]);
        if (tiles == 0) continue;
        if (next + tiles > CG_CUDA_SHARED_TILES || step->phases[i].stage == 0) {
            p->whole_k[kernel] = true;
            return false;
        }
        next += tiles;
        uint32_t bytes = 4 * CG_CUDA_SHARED_TILES + next * (uint32_t)(p->target->threads / 32) * 2 * CG_CUDA_FEW_ROWS * 64;
        p->plan.image.scratch_fixed = larger(p->plan.image.scratch_fixed, bytes);
        p->shares = true;
    }
    return true;
}

static void share_tiles(Printing *p, SuArena *arena) {
    List *few = &p->lists[PG_FEW];
    few->tile0 = SU_NEW_ARRAY(arena, uint32_t, few->step->n_phases);
    while (!place_shared_tiles(p, few->tile0)) {}
}

/* rows_step takes PG_FEW where tiles have all its rows, which those of tensor cores have; else it takes PG_BLOCK's phases. */
static void plan_lists(Printing *p, SuArena *arena) {
    const PgStep *steps = p->program->steps;
    bool few = steps[PG_FEW].n_phases > 0 && p->target->tensor_cores;
    p->lists[PG_ROW] = (List){.name = "row", .step = &steps[PG_ROW]};
    p->lists[PG_BLOCK] = (List){.name = "block", .step = &steps[PG_BLOCK]};
    p->lists[PG_FEW] = (List){.name = "few", .step = &steps[few ? PG_FEW : PG_BLOCK]};
    p->lists[PG_BLOCK].words = cg_words_plan(p->target, p->program, &steps[PG_BLOCK], p->program->max_rows, arena);
    p->lists[PG_FEW].words = cg_words_plan(p->target, p->program, p->lists[PG_FEW].step, CG_CUDA_FEW_ROWS, arena);
    share_tiles(p, arena);
}

/* What the text takes more than the program's PG_BLOCK: its words; and for rows_step, whose steps are small, a fixed part. */
static void note_arena(Printing *p) {
    const PgStep *block = p->lists[PG_BLOCK].step, *few = p->lists[PG_FEW].step;
    uint64_t per_row = block->arena_per_row + p->lists[PG_BLOCK].words.arena_per_row, most = pg_ld(CG_CUDA_FEW_ROWS);
    p->plan.few_per_row = few->arena_per_row + p->lists[PG_FEW].words.arena_per_row;
    p->plan.few_fixed = few->arena_fixed;
    p->plan.image.arena_per_row = (uint32_t)p->lists[PG_BLOCK].words.arena_per_row;
    uint64_t grows = p->plan.few_per_row > per_row ? (p->plan.few_per_row - per_row) * most : 0;
    uint64_t stays = few->arena_fixed > block->arena_fixed ? few->arena_fixed - block->arena_fixed : 0;
    p->plan.image.arena_fixed = (uint32_t)(grows + stays);
}

/* ---------------------------------------------------------------------------------------------- the text */

CgCudaPlan cg_cuda_print_program(const CgCudaTarget *target, const PgProgram *program, SuArena *arena, SuText *out) {
    SuArena scratch = {0};
    Printing p = {.target = target, .program = program, .out = out};
    p.many = SU_NEW_ARRAY(&scratch, Printed, program->n_kernels);
    p.in_few = SU_NEW_ARRAY(&scratch, bool, program->n_kernels);
    p.own_few = SU_NEW_ARRAY(&scratch, bool, program->n_kernels);
    p.ahead = SU_NEW_ARRAY(&scratch, bool, program->n_kernels);
    p.whole_k = SU_NEW_ARRAY(&scratch, bool, program->n_kernels);
    p.plan.image.row_shared = p.plan.image.few_shared = CG_CUDA_HELD + CG_CUDA_PICK_BYTES;
    p.plan.image.scratch_fixed =
        larger(CG_CUDA_FEW_ROWS * 4 * 4 * CG_CUDA_MOST_KEPT, 4 * (2 * CG_CUDA_MOST_SLICES + 4 * (uint64_t)program->vocab_size));
    plan_lists(&p, &scratch);
    note_arena(&p);
    for (int list = 0; list < PG_LISTS; list++) print_table(&p.lists[list], out);
    print_ropes(&p);
    for (uint32_t i = 0; i < program->n_kernels; i++)
        if (first_phase(&p, i) != NULL) print_kernel(&p, i);
    print_step_entry(&p, PG_ROW);
    print_step_entry(&p, PG_FEW);
    print_arrangement(&p);
    print_image(&p, arena);
    for (uint32_t i = 0; i < program->n_kernels; i++) free_printed(&p.many[i]);
    su_arena_free(&scratch);
    return p.plan;
}

CgCudaPlan cg_cuda_print(const CgCudaTarget *target, const PgProgram *program, SuArena *arena, SuText *out) {
    su_text_add(out, "/* %s for %s, printed by mossc %s. */\n\n", program->name, target->name, MOSSC_VERSION);
    cg_cuda_print_library(target, out);
    return cg_cuda_print_program(target, program, arena, out);
}
