/* JSON from strangers: a gate that refuses what cJSON would take or choke on, then cJSON. */
#ifndef MOSSC_SUPPORT_JSON_H
#define MOSSC_SUPPORT_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#include "support/diag.h"

/* What a text may be. */
typedef struct SuJsonRules {
    const char *part; /* of the file, which errors name: "header"; NULL: the text is the whole file */
    int depth;        /* at most, of lists and maps within each other */
    size_t values;    /* at most, texts, numbers, lists and maps (one that is empty counts twice): each takes 64 bytes and more */
    bool plain;       /* numbers are plain digits, and there are no words */
    const char *null_key; /* with plain: what may have null for its value all the same; or NULL */
} SuJsonRules;

/* A text that was parsed. Its cleanup frees it when a guard is ended (support/alloc.h): it stays where it is while it is open. */
typedef struct SuJson {
    cJSON *root;
    SuCleanup cleanup;
} SuJson;

/* Parses a whole text, which needs no NUL behind it. What passed is UTF-8 with no character NUL, written or escaped, and keeps the
 * rules; keys of a map may be there twice. false after an error: then there is nothing to free. */
bool su_json_parse(const char *text, size_t size, const SuJsonRules *rules, SuSpan span, SuJson *out, SuDiags *diags);
void su_json_free(SuJson *json);

#endif
