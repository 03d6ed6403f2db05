/* RoPE of a GGUF file. Llama 3's scaling is there as the divisors of the frequencies alone, rope_freqs.weight; what they come from is
 * found again: with the wavelength λ = 2π/ω the divisor is 1 for short ones, `factor` for long ones, and between them
 *
 *   1/divisor = (1 - σ)/factor + σ,  σ = (orig/λ - low)/(high - low) = a/λ - b
 *
 * Only a and b count, so that low is 1 without loss: b = 1/(high - 1), a = orig·b. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "import/gguf_view.h"

/* A factor of each frequency, as far as float32 has it. */
typedef struct Scaling {
    double factor, high, original;
} Scaling;

typedef struct Frequencies {
    const ImView *view;
    float *divisors; /* [count] */
    double theta;
    int64_t count;
} Frequencies;

static const double pi = 3.14159265358979323846, close_enough = 1e-5;

static double wavelength(const Frequencies *f, int64_t i) { return 2 * pi * pow(f->theta, (double)i / (double)f->count); }

static double divisor(const Frequencies *f, const Scaling *s, int64_t i) {
    const double turns = s->original / wavelength(f, i);
    if (turns > s->high) return 1;
    if (turns < 1) return s->factor;
    const double share = (turns - 1) / (s->high - 1);
    return 1 / ((1 - share) / s->factor + share);
}

static bool fits(const Frequencies *f, const Scaling *s) {
    for (int64_t i = 0; i < f->count; i++)
        if (!(fabs(divisor(f, s, i) / (double)f->divisors[i] - 1) <= close_enough)) return false;
    return true;
}

/* σ at a frequency between the two ends. */
static double share_of(const Frequencies *f, double factor, int64_t i) {
    return (1 / (double)f->divisors[i] - 1 / factor) / (1 - 1 / factor);
}

static bool is_between(const Frequencies *f, double factor, int64_t i) {
    return f->divisors[i] > 1 && (double)f->divisors[i] < factor;
}

/* The numbers as people choose them: 4 and 8192, where those are near. */
static double rounded(double x) { return fabs(x - round(x)) < 1e-3 * x ? round(x) : x; }

/* From two frequencies between the ends; from one, or none, high is Llama's 4. */
static bool find_scaling(const Frequencies *f, Scaling *out) {
    int64_t first = -1, last = -1;
    *out = (Scaling){.factor = f->divisors[f->count - 1], .high = 4};
    for (int64_t i = 0; i < f->count; i++) {
        if (!is_between(f, out->factor, i)) continue;
        first = first < 0 ? i : first;
        last = i;
    }
    if (first < 0) {
        for (int64_t i = 0; i + 1 < f->count; i++) /* the step lies between these */
            if (f->divisors[i] == 1 && f->divisors[i + 1] != 1) out->original = sqrt(wavelength(f, i) * wavelength(f, i + 1));
        out->high = 1.0001;
        return fits(f, out);
    }
    const double x = 1 / wavelength(f, first), y = 1 / wavelength(f, last), s = share_of(f, out->factor, first);
    if (first != last) {
        const double a = (s - share_of(f, out->factor, last)) / (x - y), b = a * x - s;
        const Scaling exact = {.factor = out->factor, .high = 1 + 1 / b, .original = a / b};
        *out = (Scaling){.factor = exact.factor, .high = rounded(exact.high), .original = rounded(exact.original)};
        if (fits(f, out)) return true;
        *out = exact;
        return b > 0 && fits(f, out);
    }
    out->original = rounded((s * (out->high - 1) + 1) / x);
    return fits(f, out);
}

static void add_real(SuText *json, const char *key, double value) {
    char text[SU_REAL];
    su_text_add(json, ",\"%s\":%s", key, su_real_text(value, text));
}

/* Of `turned` components. */
static bool add_llama3(const ImView *v, const ImGgufTensor *t, int64_t turned, SuText *json) {
    Frequencies f = {.view = v, .theta = im_view_real(v, "rope.freq_base", 10000), .count = (int64_t)t->K};
    Scaling s;
    if (t->rank != 1 || t->form != IM_F32)
        return su_error(v->diags, v->span, NULL, "tensor 'rope_freqs.weight': expected a vector of float32");
    if (f.count != turned / 2)
        return su_error(v->diags, v->span, NULL, "tensor 'rope_freqs.weight': expected %" PRId64 " numbers, got %" PRId64,
                        turned / 2, f.count);
    f.divisors = SU_NEW_ARRAY(v->arena, float, t->K);
    memcpy(f.divisors, t->data, t->bytes);
    bool one = true;
    for (int64_t i = 0; i < f.count; i++) one = one && f.divisors[i] == 1;
    if (one) return true;
    if (!(f.divisors[f.count - 1] > 1) || !find_scaling(&f, &s) || s.original < 0.5 || s.original > INT32_MAX)
        return su_error(v->diags, v->span, NULL,
                        "tensor 'rope_freqs.weight': its divisors are not those of a scaling that the language has");
    su_text_add(json, ",\n\"rope_scaling\":{\"rope_type\":\"llama3\"");
    add_real(json, "factor", s.factor);
    const double original = round(s.original), low = original / s.original; /* the language has whole positions */
    add_real(json, "low_freq_factor", low);
    add_real(json, "high_freq_factor", s.high * low);
    add_real(json, "original_max_position_embeddings", original);
    su_text_add(json, "}");
    return true;
}

/* rope.scaling.*: a factor without a type is linear, and 0 and 1 are none. false after an error. */
static bool find_factor(const ImView *v, double *out) {
    const ImGgufValue *type = im_view_value(v, "rope.scaling.type");
    const double factor = im_view_real(v, "rope.scaling.factor", 1);
    *out = factor == 0 || im_gguf_is_word(type, "none") ? 1 : factor;
    return type == NULL || im_gguf_is_word(type, "none") || im_gguf_is_word(type, "linear") ||
           su_error(v->diags, v->span, NULL, "%s.rope.scaling.type: expected none or linear: the language has nothing else",
                    v->info->word);
}

static void add_linear(double factor, SuText *json) {
    su_text_add(json, ",\n\"rope_scaling\":{\"rope_type\":\"linear\"");
    add_real(json, "factor", factor);
    su_text_add(json, "}");
}

bool im_gguf_rope(const ImView *v, SuText *json) {
    const ImGgufTensor *divisors = im_gguf_tensor(v->gguf, "rope_freqs.weight");
    const int64_t heads = im_view_each(v, "attention.head_count");
    if (heads < 1) return false;
    const int64_t size = im_view_whole(v, "attention.key_length", im_view_whole(v, "embedding_length", 0) / heads);
    const int64_t turned = im_view_whole(v, "rope.dimension_count", size);
    if (size < 1 || turned < 1 || turned > size)
        return su_error(v->diags, v->span, NULL, "%s.rope.dimension_count: expected 1 to %" PRId64 ", the size of a head",
                        v->info->word, size);
    if (turned != size) su_text_add(json, ",\n\"partial_rotary_factor\":%.17g", (double)turned / (double)size);
    double factor;
    if (!find_factor(v, &factor)) return false;
    if (divisors != NULL && factor != 1)
        return su_error(v->diags, v->span, NULL, "%s.rope.scaling.factor: expected 1 beside the tensor 'rope_freqs.weight'",
                        v->info->word);
    if (factor != 1) add_linear(factor, json);
    return divisors == NULL || add_llama3(v, divisors, turned, json);
}
