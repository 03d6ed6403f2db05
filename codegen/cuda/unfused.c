/* The operations as they are when fusion is off: elementwise ones, slices, and the scan in parts. A thread takes an element of the
 * result; a tile is eight rows with all their planes, eight positions, or the one row with all its planes or positions. */
#include "codegen/cuda/kernels.h"

#include <math.h>
#include <stdio.h>

typedef struct Elements {
    CgCuda *c;
    const PgKernel *k;
    PgLayout layout;  /* of the result */
    uint64_t panels, N;
} Elements;

/* Elements of a result of O channels with N values each. */
static Elements elements_of(CgCuda *c, PgLayout layout, int64_t O, int64_t N) {
    return (Elements){.c = c, .k = c->kernel, .layout = layout, .panels = pg_panels(O), .N = N > 0 ? (uint64_t)N : 1};
}

static int places(const Elements *e) {
    if (e->k->mode == PG_BLOCK) return PG_ROW_BLOCK;
    return e->layout == PG_POSITIONS ? (int)e->k->k : 1;
}

/* Row, position and expert of a place: `at` counts the tile's. */
static void print_place(const Elements *e) {
    CgCuda *c = e->c;
    bool row_mode = e->k->mode == PG_ROW;
    if (e->layout != PG_POSITIONS) {
        cg_cu(c, "const u64 row = %s;\n", row_mode ? "0" : "(u64)tile * 8 + at");
        if (!row_mode) cg_cu(c, "if (row >= step->rows) continue;\n");
        if (e->layout == PG_PLANES) cg_cu(c, "const u64 expert = plane;\n");
    } else if (row_mode) {
        cg_cu(c, "const u64 row = 0, position = at, expert = expert_indices[at];\n");
    } else {
        cg_cu(c, "const u64 position = (u64)tile * 8 + at;\n"
                 "if (position >= groups.start[E]) continue; /* surplus */\n"
                 "const u64 row = groups.row_of[position], expert = groups.expert_of[tile];\n");
    }
}

/* Opens the function up to a loop over the elements: panel, n, lane and their place. Pointers go between the two. */
static void open_function(const Elements *e) {
    CgCuda *c = e->c;
    cg_cu(c, "enum { PANELS = %llu, N = %llu, PLACES = %d, PLANES = %lld, E = %lld, WIDTH = %lld };\n",
          (unsigned long long)e->panels, (unsigned long long)e->N, places(e), e->layout == PG_PLANES ? (long long)e->k->E : 1LL,
          (long long)e->k->E, (long long)e->k->O);
    cg_cuda_strides(c);
    if (e->layout != PG_POSITIONS) return;
    if (e->k->mode == PG_ROW)
        cg_cu(c, "const i32 *expert_indices = ints(step, phase, %d);\n", PG_OP_EXPERTS);
    else
        cg_cuda_groups(c, PG_OP_GROUPS);
}

static void open_elements(const Elements *e) {
    cg_cuda_tiles(e->c, 1);
    cg_cu(e->c, "for (u32 i = threadIdx.x; i < PLANES * PANELS * PLACES * N * 16; i += THREADS) {\n"
                "const u32 lane = i %% 16, n = i / 16 %% N, at = i / (16 * N) %% PLACES;\n"
                "const u64 panel = i / (16 * N * PLACES) %% PANELS, plane = i / (16 * N * PLACES * PANELS);\n");
    print_place(e);
}

static void close_elements(const Elements *e) {
    cg_cu(e->c, "}\n");
    cg_cuda_end_tiles(e->c);
}

static void print_pointer(const Elements *e, const char *name, int slot) {
    cg_cu(e->c, "float *%s = floats(step, phase, %d);\n", name, slot);
}

/* "name[index]" at this element, of an operand with this layout and N values a channel. */
typedef struct Operand {
    char text[320];
} Operand;

static Operand operand_at(const Elements *e, const char *name, PgLayout layout, uint64_t N) {
    Operand o;
    CgCudaPlace at = cg_cuda_index(layout, e->panels, N, "panel", "n", "lane");
    snprintf(o.text, sizeof o.text, "%s[%s]", name, at.text);
    return o;
}

static Operand result_at(const Elements *e) { return operand_at(e, "y", e->layout, e->N); }

/* The parameter of this channel, [E][panels][N][16]; N is 1 or the element's. */
static Operand parameter_at(bool own, uint64_t N) {
    Operand o;
    const char *panel = own ? "(expert * PANELS + panel)" : "panel";
    if (N > 1)
        snprintf(o.text, sizeof o.text, "w[(%s * N + n) * 16 + lane]", panel);
    else
        snprintf(o.text, sizeof o.text, "w[%s * 16 + lane]", panel);
    return o;
}

/* Element n of a row of Z in the channel's group: B or C. Needs print_group before. */
static Operand broadcast_at(const Elements *e) {
    Operand o;
    CgCudaPlace at =
        cg_cuda_index(e->k->z_layout, pg_panels(e->k->groups * e->k->N), 1, "(group + n) / 16", "0", "(group + n) % 16");
    snprintf(o.text, sizeof o.text, "z[%s]", at.text);
    return o;
}

/* ---------------------------------------------------------------------------------------------- PG_ELEMENTWISE, PG_SLICE */

static void print_operation(const Elements *e, const char *x) {
    CgCuda *c = e->c;
    const PgKernel *k = e->k;
    char scale[48];
    Operand z = k->z_repeats ? (Operand){"z[element(ld, row, 0)]"} : operand_at(e, "z", k->z_layout, e->N);
    Operand w = parameter_at(k->per_expert, 1);
    switch (k->ew) {
    case PG_EW_UNARY: cg_cu(c, "%s(%s);\n", cg_cuda_act(k->act), x); return;
    case PG_EW_SCALE: cg_cu(c, "%s * %s;\n", x, cg_cuda_float(k->scale, scale)); return;
    case PG_EW_CLAMP:
        cg_cuda_held(c, x);
        cg_cu(c, ";\n");
        return;
    case PG_EW_ADD: cg_cu(c, "%s + %s;\n", x, z.text); return;
    case PG_EW_MUL: cg_cu(c, "%s * %s;\n", x, z.text); return;
    case PG_EW_ADD_PARAM: cg_cu(c, "%s + %s;\n", x, w.text); return;
    case PG_EW_MUL_PARAM: cg_cu(c, "%s * %s;\n", x, w.text); return;
    }
}

void cg_cuda_elementwise(CgCuda *c) {
    const PgKernel *k = c->kernel;
    Elements e = elements_of(c, k->y_layout, k->O, k->N);
    open_function(&e);
    print_pointer(&e, "x", PG_OP_X);
    if (pg_ew_is_binary(k->ew)) print_pointer(&e, "z", PG_OP_Z);
    if (pg_ew_has_parameter(k->ew)) print_pointer(&e, "w", PG_OP_W);
    if (c->y_words != CG_WORDS_ALONE) print_pointer(&e, "y", PG_OP_Y);
    cg_cuda_words(c);
    open_elements(&e);
    cg_cu(c, "const float v = ");
    print_operation(&e, operand_at(&e, "x", k->x_layout, e.N).text);
    bool planes = e.layout == PG_PLANES;
    CgCudaPlace at = cg_cuda_index(planes ? PG_ROWS : e.layout, e.panels, e.N, "panel", "n", "lane");
    cg_cuda_put(c, planes ? "plane * (PANELS * ld * N * 16)" : "", cg_cuda_stride(e.layout), at.text,
                e.layout == PG_POSITIONS ? "position" : "row", "panel * 16 + lane", "v");
    close_elements(&e);
}

/* Elements start + [0, O) of rows of K. Lanes past O hold whatever lies behind. */
void cg_cuda_slice(CgCuda *c) {
    const PgKernel *k = c->kernel;
    Elements e = elements_of(c, k->y_layout, k->O, 1);
    CgCudaPlace from = cg_cuda_index(k->x_layout, pg_panels(k->K), 1, "from / 16", "0", "from % 16");
    bool splits = k->y_layout == PG_PLANES && k->x_layout == PG_ROWS; /* into planes of O each */
    open_function(&e);
    print_pointer(&e, "x", PG_OP_X);
    print_pointer(&e, "y", PG_OP_Y);
    open_elements(&e);
    cg_cu(c, "const u64 from = %lld + panel * 16 + lane%s;\n", (long long)k->start, splits ? " + plane * WIDTH" : "");
    cg_cu(c, "%s = from < %llu ? x[%s] : 0;\n", result_at(&e).text, (unsigned long long)pg_panels(k->K) * PG_LANES, from.text);
    close_elements(&e);
}

/* Every run `times` times. */
void cg_cuda_repeat(CgCuda *c) {
    const PgKernel *k = c->kernel;
    Elements e = elements_of(c, k->y_layout, k->O, 1);
    CgCudaPlace from = cg_cuda_index(k->x_layout, pg_panels(k->K), 1, "from / 16", "0", "from % 16");
    open_function(&e);
    print_pointer(&e, "x", PG_OP_X);
    print_pointer(&e, "y", PG_OP_Y);
    open_elements(&e);
    cg_cu(c,
          "const u64 lanes = panel * 16 + lane, to = lanes < WIDTH ? lanes : WIDTH - 1;\n"
          "const u64 from = to / %lld * %lld + to %% %lld;\n%s = x[%s];\n",
          (long long)(k->run * k->times), (long long)k->run, (long long)k->run, result_at(&e).text, from.text);
    close_elements(&e);
}

/* ---------------------------------------------------------------------------------------------- mixed parameters, the scan in parts */

void cg_cuda_mix(CgCuda *c) {
    const PgKernel *k = c->kernel;
    Elements e = elements_of(c, PG_ROWS, k->O, k->N);
    open_function(&e);
    print_pointer(&e, "w", PG_OP_W);
    print_pointer(&e, "combine_weights", PG_OP_COMBINE_W);
    print_pointer(&e, "y", PG_OP_Y);
    cg_cu(c, "const i32 *expert_indices = ints(step, phase, %d);\n", PG_OP_EXPERTS);
    open_elements(&e);
    cg_cu(c,
          "float v = 0;\n"
          "for (u32 j = 0; j < %lld; j++) {\n"
          "const u64 chosen = expert_indices[row * %lld + j];\n"
          "v = fmaf(combine_weights[row * %lld + j], w[((chosen * PANELS + panel) * N + n) * 16 + lane], v);\n"
          "}\n"
          "%s = v;\n",
          (long long)k->k, (long long)k->k, (long long)k->k, result_at(&e).text);
    close_elements(&e);
}

/* y_n = d · A_n; A is plain, the expert's, or mixed for the row. */
void cg_cuda_outer(CgCuda *c) {
    const PgKernel *k = c->kernel;
    Elements e = elements_of(c, k->y_layout, k->O, k->N);
    open_function(&e);
    print_pointer(&e, "x", PG_OP_X);
    print_pointer(&e, "w", PG_OP_W);
    print_pointer(&e, "y", PG_OP_Y);
    open_elements(&e);
    cg_cu(c, "%s = %s * %s;\n", result_at(&e).text, operand_at(&e, "x", k->x_layout, 1).text,
          k->mixed ? operand_at(&e, "w", PG_ROWS, e.N).text : parameter_at(k->per_expert, e.N).text);
    close_elements(&e);
}

/* group: where the elements of the channel's group begin in a row of Z. Lanes past O are in the last one. */
static void print_group(const Elements *e) {
    const PgKernel *k = e->k;
    if (k->groups == 1)
        cg_cu(e->c, "const u64 group = 0;\n");
    else
        cg_cu(e->c, "const u64 of = (panel * 16 + lane) / %lld, group = (of < %lld ? of : %lld) * %lld;\n",
              (long long)(k->O / k->groups), (long long)k->groups, (long long)(k->groups - 1), (long long)k->N);
}

/* Opens a function of x and a row of Z in groups, up to an element and its group. */
static Elements open_grouped(CgCuda *c, PgLayout layout, int64_t N) {
    Elements e = elements_of(c, layout, c->kernel->O, N);
    open_function(&e);
    print_pointer(&e, "x", PG_OP_X);
    print_pointer(&e, "z", PG_OP_Z);
    if (c->kernel->addend) print_pointer(&e, "w", PG_OP_W);
    print_pointer(&e, "y", PG_OP_Y);
    open_elements(&e);
    print_group(&e);
    return e;
}

/* y_n = v · B_n */
void cg_cuda_inject(CgCuda *c) {
    const PgKernel *k = c->kernel;
    Elements e = open_grouped(c, k->y_layout, k->N);
    cg_cu(c, "%s = %s * %s;\n", result_at(&e).text, operand_at(&e, "x", k->x_layout, 1).text, broadcast_at(&e).text);
    close_elements(&e);
}

/* y_n = addend_n, or +0, and then fma(v, B_n, y_n) over the planes in order */
void cg_cuda_inject_sum(CgCuda *c) {
    const PgKernel *k = c->kernel;
    Elements e = open_grouped(c, PG_ROWS, k->N);
    cg_cu(c, "float sum = %s;\n", k->addend ? operand_at(&e, "w", PG_ROWS, e.N).text : "0");
    cg_cu(c, "for (u64 expert = 0; expert < %lld; expert++) sum = fmaf(%s, %s, sum);\n%s = sum;\n",
          k->x_layout == PG_PLANES ? (long long)k->E : 1LL, operand_at(&e, "x", k->x_layout, 1).text, broadcast_at(&e).text,
          result_at(&e).text);
    close_elements(&e);
}

/* y = Σ_n s_n · C_n */
void cg_cuda_contract(CgCuda *c) {
    const PgKernel *k = c->kernel;
    Elements e = open_grouped(c, k->y_layout, 1);
    cg_cu(c, "float sum = 0;\nfor (u32 n = 0; n < %lld; n++) sum = fmaf(%s, %s, sum);\n%s = sum;\n", (long long)k->N,
          operand_at(&e, "x", k->x_layout, (uint64_t)k->N).text, broadcast_at(&e).text, result_at(&e).text);
    close_elements(&e);
}

/* ---------------------------------------------------------------------------------------------- PG_RECUR */

/* The places of a row: the row itself, its planes, or its positions. */
static void open_places(const Elements *e) {
    CgCuda *c = e->c;
    const PgKernel *k = e->k;
    if (e->layout == PG_ROWS) {
        cg_cu(c, "{\nconst u64 expert = 0;\n");
        return;
    }
    cg_cu(c, "for (u32 j = 0; j < %lld; j++) {\n", (long long)(e->layout == PG_PLANES ? k->E : k->k));
    if (e->layout == PG_PLANES) {
        cg_cu(c, "const u64 expert = j;\n");
    } else {
        cg_cu(c, "const u64 expert = expert_indices[row * %lld + j], position = %s;\n", (long long)k->k,
              k->mode == PG_ROW ? "j" : "groups.pos_of[row * ROUTED + j]");
    }
}

/* s_n = cut(a s_n + b) over the rows of a segment, (panel, segment) a tile; a thread takes a channel's state elements. */
void cg_cuda_recur(CgCuda *c) {
    const PgKernel *k = c->kernel;
    Elements e = elements_of(c, k->y_layout, k->O, k->N);
    cg_cu(c, "enum { PANELS = %llu, N = %lld, ROUTED = %lld };\n", (unsigned long long)e.panels, (long long)k->N, (long long)k->k);
    cg_cuda_strides(c);
    print_pointer(&e, "x", PG_OP_X);
    print_pointer(&e, "z", PG_OP_Z);
    print_pointer(&e, "y", PG_OP_Y);
    if (k->held || k->y_layout == PG_POSITIONS) cg_cu(c, "const i32 *expert_indices = ints(step, phase, %d);\n", PG_OP_EXPERTS);
    if (k->y_layout == PG_POSITIONS && k->mode == PG_BLOCK) cg_cuda_groups(c, PG_OP_GROUPS);
    cg_cuda_tiles(c, 1);
    cg_cu(c,
          "const Segment *segment = step->segments + tile / PANELS;\n"
          "const u64 panel = tile %% PANELS, end = segment->first_row + segment->count;\n"
          "for (u32 i = threadIdx.x; i < N * 16; i += THREADS) {\n"
          "const u32 lane = i %% 16, n = i / 16;\n"
          "float *state = state_floats(segment, phase, %d) + (panel * N + n) * 16 + lane;\n"
          "for (u64 row = segment->first_row; row < end; row++) {\n",
          PG_OP_STATE);
    open_places(&e);
    cg_cu(c, "float s = state[expert * (PANELS * N * 16)];\n");
    if (k->held) {
        cg_cu(c, "bool moves = false;\n"
                 "for (u32 r = 0; r < ROUTED; r++) moves = moves || expert_indices[row * ROUTED + r] == expert;\n"
                 "if (moves) ");
    }
    cg_cu(c, "s = vm_cut(fmaf(%s, s, %s));\n", operand_at(&e, "x", k->x_layout, k->one_a ? 1 : e.N).text,
          operand_at(&e, "z", k->z_layout, e.N).text);
    cg_cu(c, "state[expert * (PANELS * N * 16)] = s;\n%s = s;\n}\n}\n}\n", result_at(&e).text);
    cg_cuda_end_tiles(c);
}

/* The convolution of each place with its expert's history, a thread a channel. */
void cg_cuda_conv_each(CgCuda *c) {
    const PgKernel *k = c->kernel;
    Elements e = elements_of(c, k->y_layout, k->O, 1);
    bool past = k->taps > 1;
    cg_cu(c, "enum { PANELS = %llu, PAST = %lld, ROUTED = %lld };\n", (unsigned long long)e.panels, (long long)k->taps - 1,
          (long long)k->k);
    cg_cuda_strides(c);
    print_pointer(&e, "x", PG_OP_X);
    print_pointer(&e, "w", PG_OP_W);
    print_pointer(&e, "y", PG_OP_Y);
    if (k->held || k->y_layout == PG_POSITIONS) cg_cu(c, "const i32 *expert_indices = ints(step, phase, %d);\n", PG_OP_EXPERTS);
    if (k->y_layout == PG_POSITIONS && k->mode == PG_BLOCK) cg_cuda_groups(c, PG_OP_GROUPS);
    cg_cuda_tiles(c, 1);
    cg_cu(c, "const Segment *segment = step->segments + tile / PANELS;\n"
             "const u64 panel = tile %% PANELS, end = segment->first_row + segment->count;\n"
             "if (threadIdx.x < 16) {\n"
             "const u32 lane = threadIdx.x, n = 0;\n");
    if (past) cg_cu(c, "float *histories = state_floats(segment, phase, %d) + panel * (PAST * 16) + lane;\n", PG_OP_STATE);
    cg_cu(c, "for (u64 row = segment->first_row; row < end; row++) {\n");
    open_places(&e);
    cg_cu(c, "const float input = %s;\nfloat v = 0;\n", operand_at(&e, "x", k->x_layout, 1).text);
    if (past) {
        cg_cu(c, "float *history = histories + expert * (PANELS * PAST * 16);\nbool moves = %s;\n", k->held ? "false" : "true");
        if (k->held) cg_cu(c, "for (u32 r = 0; r < ROUTED; r++) moves = moves || expert_indices[row * ROUTED + r] == expert;\n");
        cg_cu(c, "for (u32 t = 0; t < PAST; t++) {\n"
                 "v = fmaf(w[(panel * (PAST + 1) + t) * 16 + lane], history[t * 16], v);\n"
                 "if (moves) history[t * 16] = t + 1 < PAST ? history[(t + 1) * 16] : input;\n"
                 "}\n");
    }
    cg_cu(c, "%s = fmaf(w[(panel * (PAST + 1) + PAST) * 16 + lane], input, v);\n}\n}\n}\n", result_at(&e).text);
    cg_cuda_end_tiles(c);
}

/* ---------------------------------------------------------------------------------------------- the row before, angles */

/* y is what the state holds, which then becomes x; a thread a channel. */
void cg_cuda_delay(CgCuda *c) {
    const PgKernel *k = c->kernel;
    Elements e = elements_of(c, k->y_layout, k->O, 1);
    cg_cu(c, "enum { PANELS = %llu };\n", (unsigned long long)e.panels);
    cg_cuda_strides(c);
    print_pointer(&e, "x", PG_OP_X);
    print_pointer(&e, "y", PG_OP_Y);
    cg_cuda_tiles(c, 1);
    cg_cu(c,
          "const Segment *segment = step->segments + tile / PANELS;\n"
          "const u64 panel = tile %% PANELS, end = segment->first_row + segment->count;\n"
          "if (threadIdx.x < 16) {\n"
          "const u32 lane = threadIdx.x, n = 0;\n"
          "float *state = state_floats(segment, phase, %d) + panel * 16 + lane;\n"
          "for (u64 row = segment->first_row; row < end; row++) {\n",
          PG_OP_STATE);
    open_places(&e);
    cg_cu(c, "const float held = state[expert * (PANELS * 16)];\nstate[expert * (PANELS * 16)] = %s;\n%s = held;\n}\n}\n}\n",
          operand_at(&e, "x", k->x_layout, 1).text, result_at(&e).text);
    cg_cuda_end_tiles(c);
}

/* s = wrap(fma(w, d, s)), which is also y; a thread an angle. */
void cg_cuda_angle(CgCuda *c) {
    const PgKernel *k = c->kernel;
    Elements e = elements_of(c, PG_ROWS, k->O, 1);
    cg_cu(c, "enum { PANELS = %llu, WIDTH = %lld, S = %lld };\n", (unsigned long long)e.panels, (long long)k->O,
          (long long)(k->O / k->heads));
    cg_cuda_strides(c);
    print_pointer(&e, "x", PG_OP_X);
    print_pointer(&e, "z", PG_OP_Z);
    print_pointer(&e, "y", PG_OP_Y);
    cg_cuda_tiles(c, 1);
    cg_cu(c,
          "const Segment *segment = step->segments + tile / PANELS;\n"
          "const u64 panel = tile %% PANELS, end = segment->first_row + segment->count;\n"
          "if (threadIdx.x < 16) {\n"
          "const u32 lane = threadIdx.x;\n"
          "const u64 all = panel * 16 + lane, of = all < WIDTH ? all : WIDTH - 1; /* lanes past O */\n"
          "float *state = state_floats(segment, phase, %d) + panel * 16 + lane;\n"
          "for (u64 row = segment->first_row; row < end; row++) {\n"
          "*state = vm_wrap(fmaf(x[element(ld, row, of %% S)], z[element(ld, row, of / S)], *state));\n"
          "%s = *state;\n}\n}\n",
          PG_OP_STATE, result_at(&e).text);
    cg_cuda_end_tiles(c);
}

/* Components 2i and 2i + 1 of the first rope_dim of each head turn by its angle i; the others stay. */
void cg_cuda_rotate(CgCuda *c) {
    const PgKernel *k = c->kernel;
    Elements e = elements_of(c, k->y_layout, k->O, 1);
    open_function(&e);
    print_pointer(&e, "x", PG_OP_X);
    print_pointer(&e, "z", PG_OP_Z);
    print_pointer(&e, "w", PG_OP_W);
    print_pointer(&e, "y", PG_OP_Y);
    open_elements(&e);
    CgCudaPlace other = cg_cuda_index(k->x_layout, e.panels, 1, "panel", "n", "(lane ^ 1)");
    cg_cu(c,
          "const u64 all = panel * 16 + lane, head = all / %lld, m = all %% %lld;\n"
          "const float own = %s;\nfloat turned = own;\n"
          "if (all < WIDTH && m < %lld) {\n"
          "const u64 angle = head * %lld + m / 2;\n"
          "const float cosine = z[element(ld, row, angle)], sine = w[element(ld, row, angle)], other = x[%s];\n"
          "turned = m %% 2 == 0 ? own * cosine - other * sine : own * cosine + other * sine;\n}\n"
          "%s = turned;\n",
          (long long)(k->O / k->heads), (long long)(k->O / k->heads), operand_at(&e, "x", k->x_layout, 1).text,
          (long long)k->rope_dim, (long long)(k->rope_dim / 2), other.text, result_at(&e).text);
    close_elements(&e);
}
