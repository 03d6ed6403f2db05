#include "import/generation.h"

#include <inttypes.h>
#include <string.h>

#include "mossc/moss.h"
#include "support/utf8.h"

static void print_number(const char *key, double value, SuText *out) {
    char text[SU_REAL];
    if (value >= 0) su_text_add(out, "%s: %s\n", key, su_real_text(value, text));
}

/* What YAML would not take as it stands, or take for the end of a line. */
static bool is_special(uint32_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x2028 || c == 0x2029 || c == 0xFEFF || c == 0xFFFE || c == 0xFFFF;
}

/* A text of UTF-8 between double quotes, as YAML and JSON read it. */
static void print_quoted(const char *text, SuText *out) {
    su_text_add(out, "\"");
    SuUtf8 c;
    for (const char *at = text, *end = text + strlen(text); *at; at += c.size) {
        c = su_utf8_at(at, (size_t)(end - at));
        const char *escaped = *at == '"'    ? "\\\""
                              : *at == '\\' ? "\\\\"
                              : *at == '\n' ? "\\n"
                              : *at == '\t' ? "\\t"
                              : *at == '\r' ? "\\r"
                                            : NULL;
        if (escaped)
            su_text_add(out, "%s", escaped);
        else if (c.whole && is_special(c.code))
            su_text_add(out, "\\u%04x", (unsigned)c.code);
        else
            su_text_append(out, at, c.size);
    }
    su_text_add(out, "\"");
}

void im_print_generation(const ImTexts *texts, SuText *out) {
    print_number("temperature", texts->temperature, out);
    print_number("top_k", texts->top_k, out);
    print_number("top_p", texts->top_p, out);
    print_number("min_p", texts->min_p, out);
    print_number("repeat_penalty", texts->repeat_penalty, out);
    if (texts->n_stops) {
        su_text_add(out, "stop: [");
        for (size_t i = 0; i < texts->n_stops && i < MOSS_MAX_ENDS; i++)
            su_text_add(out, "%s%" PRId64, i ? ", " : "", texts->stops[i]);
        su_text_add(out, "]\n");
    }
    if (texts->chat_template) {
        su_text_add(out, "chat_template: ");
        print_quoted(texts->chat_template, out);
        su_text_add(out, "\n");
    }
}
