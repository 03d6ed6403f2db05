/* The table of keys as data; merging and completing maps by it; unknown keys. */
#include "frontend/keys.h"

#include <string.h>

#include "support/str.h"

/* Words of other tables; the first one's separator is left out. */
static const char plain_activations[] = ""
#define IR_PLAIN_WORD(word, WORD, name) "|" #word
#include "ir/activation.def"
    ;
static const char activations[] = ""
#define IR_PLAIN_WORD(word, WORD, name) "|" #word
#include "ir/activation.def"
#define IR_GATED_WORD(word, WORD, name) "|" #word
#include "ir/activation.def"
    ;
static const char dtypes[] = ""
#define IR_DTYPE(name, NAME, file, bytes, group, group_bytes, over, over_bytes, mma, most) "|" #name
#include "ir/dtype.def"
    ;
static const char maps[] = ""
#define FE_MAP(name, q8, q4, help) "|" #name
#include "frontend/weights.def"
    ;
#define FE_PLAIN_ACTIVATIONS (plain_activations + 1)
#define FE_ACTIVATIONS (activations + 1)
#define FE_DTYPES (dtypes + 1)
#define FE_MAPS (maps + 1)

static const FeKeyRow rows[] = {
#define FE_KEY(section, key, type, child, words, least, most, fallback, help)                                                      \
    [FE_KEY_##section##_##key] = {#key, FE_SECTION_##section, FE_SECTION_##child, FE_T_##type, words, least, most, fallback, help},
#include "frontend/keys.def"
};

static const struct {
    const char *id, *path, *help;
    FeKey first;
} sections[] = {
#define FE_SECTION(id, path, help) [FE_SECTION_##id] = {#id, path, help, FE_FIRST_KEY_##id},
#include "frontend/keys.def"
    [FE_SECTION_none] = {"", "", "", FE_KEY_none},
};

static const FeHashForm hash_forms[FE_KEY_none] = {
#define FE_HASH(section, key, form) [FE_KEY_##section##_##key] = FE_HASH_##form,
#include "frontend/keys.def"
};

static const struct {
    FeKey key;
    const char *name;
} hash_names[] = {
#define FE_HASH_NAME(section, key, name) {FE_KEY_##section##_##key, name},
#include "frontend/keys.def"
};

static const struct {
    FeKey key, other;
} hash_places[] = {
#define FE_HASH_AFTER(section, key, other) {FE_KEY_##section##_##key, FE_KEY_##section##_##other},
#include "frontend/keys.def"
};

static const struct {
    FeKey a, b;
} exclusives[] = {
#define FE_EXCLUSIVE(section, key, other) {FE_KEY_##section##_##key, FE_KEY_##section##_##other},
#include "frontend/keys.def"
};

/* `key` is FE_KEY_none for a name that has no counterpart; then text says why. */
static const struct Alias {
    const char *name;
    FeKey key;
    const char *text;
} aliases[] = {
#define FE_ALIAS(name, section, key) {#name, FE_KEY_##section##_##key, NULL},
#define FE_NO_KEY(name, text) {#name, FE_KEY_none, text},
#include "frontend/keys.def"
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

const FeKeyRow *fe_key_row(FeKey key) { return &rows[key]; }

FeSectionRow fe_section_row(FeSection section) {
    return (FeSectionRow){sections[section].id, sections[section].path, sections[section].help, sections[section].first,
                          sections[section + 1].first};
}

FeHashForm fe_hash_form(FeKey key) { return hash_forms[key]; }

const char *fe_hash_name(FeKey key) {
    for (size_t i = 0; i < COUNT(hash_names); i++)
        if (hash_names[i].key == key) return hash_names[i].name;
    return NULL;
}

FeKey fe_hash_after(FeKey key) {
    for (size_t i = 0; i < COUNT(hash_places); i++)
        if (hash_places[i].key == key) return hash_places[i].other;
    return FE_KEY_none;
}

bool fe_fallback_required(const FeKeyRow *row) { return row->fallback[0] == '!'; }

const char *fe_fallback_value(const FeKeyRow *row) {
    return row->fallback[0] && row->fallback[0] != '!' && row->fallback[0] != '=' ? row->fallback : NULL;
}

const char *fe_fallback_derived(const FeKeyRow *row) { return row->fallback[0] == '=' ? row->fallback + 1 : NULL; }

bool fe_word_at(const char *words, int index, const char **out_word, int *out_size, bool *out_reserved) {
    for (; words && index > 0; index--) {
        words = strchr(words, '|');
        words = words ? words + 1 : NULL;
    }
    if (!words) return false;
    *out_reserved = *words == '!';
    words += *out_reserved;
    *out_word = words;
    *out_size = (int)strcspn(words, "|");
    return true;
}

FeKey fe_exclusive(FeKey key) {
    for (size_t i = 0; i < COUNT(exclusives); i++)
        if (exclusives[i].a == key || exclusives[i].b == key) return exclusives[i].a == key ? exclusives[i].b : exclusives[i].a;
    return FE_KEY_none;
}

bool fe_only_word(const FeKeyRow *row) {
    const char *word;
    int size, usable = 0;
    bool reserved;
    for (int i = 0; row->type == FE_T_WORD && fe_word_at(row->words, i, &word, &size, &reserved); i++) usable += !reserved;
    return usable == 1;
}

const char *fe_key_name(SuArena *arena, FeKey key) {
    const FeKeyRow *row = &rows[key];
    const char *path = sections[row->section].path;
    bool bare = row->section == FE_SECTION_file || row->section == FE_SECTION_entry;
    return bare ? row->name : su_printf(arena, "%s.%s", path, row->name);
}

/* ---- values of a map ---- */

FeValue *fe_value(const FeMap *map, FeKey key) {
    if (rows[key].section != map->section) SU_BUG("key %s asked of section %s", rows[key].name, sections[map->section].id);
    return &map->values[key - sections[map->section].first];
}

bool fe_given(const FeMap *map, FeKey key) { return fe_value(map, key)->state == FE_GIVEN; }

bool fe_broken(const FeMap *map, FeKey key) { return fe_value(map, key)->state == FE_BROKEN; }

FeMap *fe_child(const FeMap *map, FeKey key) {
    const FeValue *value = fe_value(map, key);
    return value->state == FE_GIVEN && !value->word ? value->map : NULL;
}

const FeValue *fe_find_value(const FeMap *map, FeKey key) {
    FeSectionRow row = fe_section_row(map->section);
    if (rows[key].section == map->section) return fe_value(map, key);
    const FeValue *found = NULL;
    for (FeKey inner = row.first; inner < row.end && !found; inner++) {
        const FeMap *child = fe_child(map, inner);
        found = child ? fe_find_value(child, key) : NULL;
    }
    return found;
}

static bool is_word_at(FeKey key, int64_t index, const char *text) {
    const char *word;
    int size;
    bool reserved;
    return fe_word_at(rows[key].words, (int)index, &word, &size, &reserved) && strlen(text) == (size_t)size &&
           memcmp(text, word, (size_t)size) == 0;
}

bool fe_is_default(FeKey key, const FeValue *value) {
    const char *text = fe_fallback_value(&rows[key]);
    int64_t integer;
    double real;
    if (!text) return false;
    switch (rows[key].type) {
    case FE_T_INT: return fe_parse_integer(text, &integer) && value->integer == integer;
    case FE_T_BOOL: return value->integer == (strcmp(text, "true") == 0);
    case FE_T_REAL: return fe_parse_real(text, &real) && value->real == real;
    case FE_T_DECIMAL: return strcmp(value->text, text) == 0;
    case FE_T_WORD: return is_word_at(key, value->integer, text);
    case FE_T_INT_OR_WORD:
    case FE_T_REAL_OR_WORD:
    case FE_T_LIMITS:
    case FE_T_TOKEN:
    case FE_T_TOKENS:
    case FE_T_MAP_OR_NONE: return value->word;
    case FE_T_WORDS:
    case FE_T_MODEL_NAME:
    case FE_T_NAME:
    case FE_T_TEXT:
    case FE_T_MAP:
    case FE_T_ENTRIES:
    case FE_T_DEFINES:
    case FE_T_RESERVED: return false;
    }
    return false;
}

int64_t fe_integer(const FeMap *map, FeKey key) { return fe_value(map, key)->integer; }

bool fe_truth(const FeMap *map, FeKey key) { return fe_value(map, key)->integer != 0; }

double fe_real(const FeMap *map, FeKey key) { return fe_value(map, key)->real; }

bool fe_has_word(const FeMap *map, FeKey key, const char *word) {
    const char *at;
    int size;
    bool reserved;
    for (int i = 0; fe_word_at(rows[key].words, i, &at, &size, &reserved); i++)
        if (is_word_at(key, i, word)) return fe_value(map, key)->bits >> i & 1;
    SU_BUG("'%s' is not a word of %s", word, rows[key].name);
}

/* The value to be changed, or NULL when it must stay. */
static FeValue *settable(FeMap *map, FeKey key) {
    FeValue *value = fe_value(map, key);
    if (value->state == FE_BROKEN) return NULL;
    value->state = FE_GIVEN;
    value->word = false;
    return value;
}

void fe_set_integer(FeMap *map, FeKey key, int64_t integer) {
    FeValue *value = settable(map, key);
    if (value) value->integer = integer;
}

void fe_set_real(FeMap *map, FeKey key, double real) {
    FeValue *value = settable(map, key);
    if (value) value->real = real;
}

void fe_set_map(FeMap *map, FeKey key, FeMap *child) {
    FeValue *value = settable(map, key);
    if (value) value->map = child;
}

void fe_drop(FeMap *map, FeKey key) {
    FeValue *value = fe_value(map, key);
    if (value->state != FE_BROKEN) *value = (FeValue){0};
}

FeMap *fe_new_map(SuArena *arena, FeSection section, SuSpan span) {
    FeSectionRow row = fe_section_row(section);
    FeMap *map = SU_NEW(arena, FeMap);
    *map = (FeMap){section, span, SU_NEW_ARRAY(arena, FeValue, row.end - row.first)};
    return map;
}

/* ---- defaults ---- */

static FeValue inherited(SuArena *arena, const FeValue *value);

static FeMap *inherited_map(SuArena *arena, const FeMap *map) {
    FeMap *copy = fe_new_map(arena, map->section, map->span);
    FeSectionRow row = fe_section_row(map->section);
    for (FeKey key = row.first; key < row.end; key++) copy->values[key - row.first] = inherited(arena, fe_value(map, key));
    return copy;
}

static FeValue inherited(SuArena *arena, const FeValue *value) {
    FeValue copy = *value;
    copy.written = false;
    if (copy.map) copy.map = inherited_map(arena, copy.map);
    return copy;
}

static FeValue merge_value(SuArena *arena, const FeValue *base, const FeValue *over) {
    bool both_maps = base->state == FE_GIVEN && over->state == FE_GIVEN && base->map && over->map;
    if (!both_maps) return over->state != FE_ABSENT ? *over : inherited(arena, base);
    FeValue merged = *over;
    merged.map = fe_merge(arena, base->map, over->map, over->map->section, over->map->span);
    return merged;
}

FeMap *fe_merge(SuArena *arena, const FeMap *base, const FeMap *over, FeSection section, SuSpan span) {
    static const FeValue absent = {0};
    FeMap *merged = fe_new_map(arena, section, span);
    FeSectionRow row = fe_section_row(section);
    for (FeKey key = row.first; key < row.end; key++) {
        const FeValue *strong = over ? fe_value(over, key) : &absent;
        FeKey other = fe_exclusive(key);
        bool replaced = over && other != FE_KEY_none && fe_value(over, other)->state != FE_ABSENT;
        const FeValue *weak = base && !replaced ? fe_value(base, key) : &absent;
        merged->values[key - row.first] = merge_value(arena, weak, strong);
    }
    return merged;
}

static bool has_exclusive(const FeMap *map, FeKey key) {
    FeKey other = fe_exclusive(key);
    return other != FE_KEY_none && fe_value(map, other)->state != FE_ABSENT;
}

/* A value as the table gives it. */
static FeValue built_in(const FeReader *reader, const FeMap *map, FeKey key, const char *text) {
    FeNode node = {.kind = FE_SCALAR, .text = text, .plain = true, .span = map->span};
    FeValue value = fe_read_value(reader, &node, key, map->span);
    value.written = false;
    value.node = NULL;
    return value;
}

void fe_set_moot(const FeReader *reader, FeMap *map, FeKey key) {
    FeValue *value = fe_value(map, key);
    const char *text = fe_fallback_value(&rows[key]);
    if (value->state == FE_BROKEN) return;
    *value = text ? built_in(reader, map, key, text) : (FeValue){0};
    value->moot = true;
}

void fe_complete(const FeReader *reader, FeMap *map) {
    FeSectionRow row = fe_section_row(map->section);
    for (FeKey key = row.first; key < row.end; key++) {
        FeValue *value = fe_value(map, key);
        const char *text = fe_fallback_value(&rows[key]);
        if (value->state != FE_ABSENT) continue;
        if (fe_fallback_required(&rows[key])) {
            value->state = FE_BROKEN;
            fe_report_once(reader, SU_CODE_missing_key, map->span, NULL,
                           su_printf(reader->arena, "'%s' is required: %s", fe_key_name(reader->arena, key), rows[key].help));
        } else if (text && !has_exclusive(map, key)) {
            *value = built_in(reader, map, key, text);
        }
    }
}

/* ---- errors ---- */

static bool reported(const SuDiags *diags, SuCode code, SuSpan span, const char *message) {
    for (size_t i = 0; i < diags->count; i++) {
        const SuDiag *d = &diags->items[i];
        if (d->code == code && d->span.line == span.line && d->span.column == span.column && d->span.source == span.source &&
            strcmp(d->message, message) == 0) {
            return true;
        }
    }
    return false;
}

bool fe_report_once(const FeReader *reader, SuCode code, SuSpan span, const char *hint, const char *message) {
    return reported(reader->diags, code, span, message) ? false : su_report(reader->diags, code, span, hint, "%s", message);
}

static const struct Alias *find_alias(const char *name, FeSection section) {
    const struct Alias *found = NULL;
    for (size_t i = 0; i < COUNT(aliases); i++) {
        if (strcmp(aliases[i].name, name) == 0) {
            bool here = aliases[i].key != FE_KEY_none && rows[aliases[i].key].section == section;
            found = here || !found ? &aliases[i] : found;
            if (here) break;
        }
    }
    return found;
}

/* "ssm.d_inner or mlp.d_ff": all that an alias may mean where it has no meaning of its own. */
static const char *alias_names(SuArena *arena, const char *name) {
    const char *text = NULL;
    for (size_t i = 0; i < COUNT(aliases); i++) {
        if (strcmp(aliases[i].name, name) == 0) {
            const char *key = fe_key_name(arena, aliases[i].key);
            text = text ? su_printf(arena, "%s or %s", text, key) : key;
        }
    }
    return text;
}

static FeKey nearest_key(const char *name, FeSection section) {
    const char *names[FE_KEY_none] = {0};
    FeSectionRow row = fe_section_row(section);
    for (FeKey key = row.first; key < row.end; key++) names[key - row.first] = rows[key].name;
    const char *near = su_nearest(name, names, row.end - row.first);
    for (FeKey key = row.first; near && key < row.end; key++)
        if (rows[key].name == near) return key;
    return FE_KEY_none;
}

/* Where the language has a key of that name, when it is not here. */
static const char *elsewhere(SuArena *arena, const char *name) {
    const char *text = NULL;
    for (FeKey key = 0; key < FE_KEY_none; key++) {
        if (strcmp(rows[key].name, name) != 0 || rows[key].type == FE_T_RESERVED) continue;
        const char *path = rows[key].section == FE_SECTION_file ? "the top level" : sections[rows[key].section].path;
        text = text ? su_printf(arena, "%s or %s", text, path) : path;
    }
    return text;
}

FeKey fe_report_unknown(const FeReader *reader, const FePair *pair, FeSection section) {
    if (reader->diags->errors >= SU_MAX_ERRORS) {
        reader->diags->errors++; /* counted, as su_error would; looking for a near key would be wasted */
        return FE_KEY_none;
    }
    SuArena *arena = reader->arena;
    const char *path = sections[section].path;
    const char *what = su_printf(arena, "unknown key %s%s%s", fe_quote(arena, pair->key), *path ? " in " : "", path);
    const struct Alias *alias = find_alias(pair->key, section);
    if (alias && alias->key == FE_KEY_none) {
        su_report(reader->diags, SU_CODE_unknown_key, pair->key_span, NULL, "%s: %s", what, alias->text);
        return FE_KEY_none;
    }
    if (alias) {
        bool here = rows[alias->key].section == section;
        su_report(reader->diags, SU_CODE_unknown_key, pair->key_span, NULL, "%s: mossc calls it %s", what,
                  here ? rows[alias->key].name : alias_names(arena, pair->key));
        return here ? alias->key : FE_KEY_none;
    }
    const char *place = elsewhere(arena, pair->key);
    FeKey near = place ? FE_KEY_none : nearest_key(pair->key, section);
    if (place) {
        su_report(reader->diags, SU_CODE_unknown_key, pair->key_span, NULL, "%s: it belongs in %s", what, place);
    } else if (near != FE_KEY_none) {
        su_report(reader->diags, SU_CODE_unknown_key, pair->key_span, NULL, "%s: did you mean '%s'?", what, rows[near].name);
    } else {
        const char *help = "mossc help keys lists every key";
        su_report(reader->diags, SU_CODE_unknown_key, pair->key_span, help, "%s", what);
    }
    return near;
}
