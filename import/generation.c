#include "import/generation.h"

#include <inttypes.h>
#include <string.h>

#include "mossc/moss.h"

static void print_number(const char *key, double value, SuText *out) {
    char text[SU_REAL];
    if (value >= 0) su_text_add(out, "%s: %s\n", key, su_real_text(value, text));
}

/* A text between double quotes, as YAML and JSON read it. */
static void print_quoted(const char *text, SuText *out) {
    su_text_add(out, "\"");
    for (const char *at = text; *at; at++) {
        const char *escaped = *at == '"'    ? "\\\""
                              : *at == '\\' ? "\\\\"
                              : *at == '\n' ? "\\n"
                              : *at == '\t' ? "\\t"
                              : *at == '\r' ? "\\r"
                                            : NULL;
        if (escaped)
            su_text_add(out, "%s", escaped);
        else if ((unsigned char)*at < 0x20 || *at == 0x7F)
            su_text_add(out, "\\u%04x", (unsigned)*at);
        else
            su_text_append(out, at, 1);
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
