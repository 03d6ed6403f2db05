/* ir/vmath.inc printed: a value is the name of a float that the text has computed, and each operation prints the line that makes the
 * next one. A function of that file which calls another prints the other's lines in their place. */
#include "codegen/cuda/vmath.h"

#include <stdarg.h>
#include <stdio.h>

typedef struct Value {
    char name[24]; /* "x", "t12", or a constant "0.5f" */
} Value;

typedef struct Lines {
    SuText *out;
    int count;
} Lines;

__attribute__((format(printf, 2, 3))) static Value line(Lines *lines, const char *format, ...) {
    char expression[128];
    Value v;
    va_list args;
    va_start(args, format);
    vsnprintf(expression, sizeof expression, format, args);
    va_end(args);
    snprintf(v.name, sizeof v.name, "t%d", ++lines->count);
    su_text_add(lines->out, "    const float %s = %s;\n", v.name, expression);
    return v;
}

static Value constant(const char *text) {
    Value v;
    snprintf(v.name, sizeof v.name, "%s", text);
    return v;
}

#define VM_T Value
#define VM_FN(name) print_##name
#define VM_PARAMS Lines *lines,
#define VM_ARGS lines,
#define VM_C(c) constant(#c)
#define VM_ADD(a, b) line(lines, "%s + %s", (a).name, (b).name)
#define VM_SUB(a, b) line(lines, "%s - %s", (a).name, (b).name)
#define VM_MUL(a, b) line(lines, "%s * %s", (a).name, (b).name)
#define VM_DIV(a, b) line(lines, "%s / %s", (a).name, (b).name)
#define VM_FMA(a, b, c) line(lines, "fmaf(%s, %s, %s)", (a).name, (b).name, (c).name)
#define VM_NEG(a) line(lines, "-%s", (a).name)
#define VM_ABS(a) line(lines, "fabsf(%s)", (a).name)
#define VM_SEL_LT(a, b, x, y) line(lines, "%s < %s ? %s : %s", (a).name, (b).name, (x).name, (y).name)
#define VM_EXPONENT(t) line(lines, "__uint_as_float(__float_as_uint(%s) << 23)", (t).name)
#include "ir/vmath.inc"

static void open_function(SuText *out, const char *name, const char *params) {
    su_text_add(out, "static __device__ __forceinline__ float vm_%s(%s) {\n", name, params);
}

static void close_function(SuText *out, Value result) { su_text_add(out, "    return %s;\n}\n\n", result.name); }

typedef struct Function {
    const char *name;
    Value (*print)(Lines *, Value);
} Function;

static void print_function(SuText *out, const Function *f) {
    open_function(out, f->name, "float x");
    close_function(out, f->print(&(Lines){.out = out}, constant("x")));
}

static bool among(const Function *functions, size_t n, const Function *f) {
    for (size_t i = 0; i < n; i++)
        if (functions[i].print == f->print) return true;
    return false;
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* What scans and routers use as well comes first, then the other activations. */
void cg_cuda_print_vmath(SuText *out) {
    static const Function first[] = {
        {"exp", print_exp}, {"exp_down", print_exp_down}, {"softplus", print_softplus}, {"sigmoid", print_sigmoid}};
    static const Function activations[] = {
#define IR_ACTIVATION(name, NAME, flops, exps, exact) {#name, print_##name},
#include "ir/activation.def"
    };
    static const Function last[] = {{"cut", print_cut}, {"wrap", print_wrap}, {"log1p", print_log1p}};
    su_text_add(out, "/* The functions of the bits, operation by operation. */\n\n");
    open_function(out, "max", "float a, float b");
    close_function(out, print_max(&(Lines){.out = out}, constant("a"), constant("b")));
    for (size_t i = 0; i < COUNT(first); i++) print_function(out, &first[i]);
    for (size_t i = 0; i < COUNT(activations); i++)
        if (!among(first, COUNT(first), &activations[i])) print_function(out, &activations[i]);
    for (size_t i = 0; i < COUNT(last); i++) print_function(out, &last[i]);
}
