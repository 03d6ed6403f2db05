/* Templates are C, CMake and Markdown as they will be, with @WORDS@ (NAME.in beside this file); what a word stands for is made here. */
#include "driver/artefact/files.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "driver/artefact/embedded.h"
#include "driver/device.h"
#include "runtime/model.h"
#include "support/digest.h"

/* ---- names */

const char *dr_artefact_symbol(SuArena *arena, const char *name) {
    char *symbol = su_printf(arena, "%s%s", isdigit((unsigned char)*name) ? "model_" : "", name);
    for (char *c = symbol; *c; c++) *c = isalnum((unsigned char)*c) ? *c : '_';
    return symbol;
}

static const char *upper(SuArena *arena, const char *text) {
    char *copy = su_strdup(arena, text);
    for (char *c = copy; *c; c++) *c = (char)toupper((unsigned char)*c);
    return copy;
}

/* ---- how to build it */

/* What the target's kind of device has of its own. */
static const DrArtefactKind *kind_of(const DrArtefact *a) { return &dr_kind(a->build)->artefact; }

static bool has_bpe(const DrArtefact *a) { return a->build->spec.tokenizer.kind == FE_TOKENIZER_BPE; }

static bool is_arm(const DrArtefact *a) { return a->build->has_target && strncmp(a->build->target.triple, "aarch64", 7) == 0; }

#define BUILD_FLAGS "-O2 -ffp-contract=off -ffunction-sections -Wl,--gc-sections -D_GNU_SOURCE -I. -Imossrt"

static const char *build_line(SuArena *arena, const DrArtefact *a, const char *compiler) {
    const DrArtefactKind *kind = kind_of(a);
    return su_printf(arena, "%s " BUILD_FLAGS " -o %s main.c %s%s mossrt/*/*.c %s", compiler, a->name, a->name, kind->sources,
                     kind->libraries);
}

/* The C compiler that makes programs for the target on this machine. */
static const char *compiler(const DrArtefact *a) {
#ifdef __x86_64__
    bool here = !is_arm(a);
#else
    bool here = !a->build->has_target; /* a processor that is named may be another one */
#endif
    if (here || a->build->target.native) return "cc";
    return is_arm(a) ? "aarch64-linux-gnu-gcc" : "x86_64-linux-gnu-gcc";
}

const char *dr_artefact_build_line(SuArena *arena, const DrArtefact *a) { return build_line(arena, a, compiler(a)); }

/* The README's section. */
static const char *build_text(SuArena *arena, const DrArtefact *a) {
    const char *here =
        su_printf(arena, "With CMake instead: `cmake -B build && cmake --build build`, which makes `build/%s`.", a->name);
    if (!is_arm(a)) return su_printf(arena, "    %s\n\n%s\n", build_line(arena, a, compiler(a)), here);
    return su_printf(arena,
                     "With a cross compiler (Debian, Ubuntu: `apt install gcc-aarch64-linux-gnu`):\n\n    %s\n\n"
                     "With the Android NDK, `$NDK` being its directory:\n\n"
                     "    %s\n\n"
                     "On the device itself (in Termux: `pkg install clang`):\n\n    %s\n\n"
                     "With CMake and the NDK:\n\n"
                     "    cmake -B build -DCMAKE_TOOLCHAIN_FILE=$NDK/build/cmake/android.toolchain.cmake \\\n"
                     "        -DANDROID_ABI=arm64-v8a -DANDROID_PLATFORM=android-28\n    cmake --build build\n\n"
                     "With CMake and a cross compiler: `cmake -B build -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64\n"
                     "-DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc && cmake --build build`.\n",
                     build_line(arena, a, "aarch64-linux-gnu-gcc"),
                     build_line(arena, a, "$NDK/toolchains/llvm/prebuilt/linux-x86_64/bin/aarch64-linux-android28-clang"),
                     build_line(arena, a, "cc"));
}

/* ---- words */

typedef struct Word {
    const char *name, *value;
} Word;

enum { MOST_WORDS = 32 };

typedef struct Words {
    SuArena arena;
    Word items[MOST_WORDS];
    size_t count;
} Words;

static void say(Words *words, const char *name, const char *value) {
    if (words->count == MOST_WORDS) SU_BUG("more than %d words", MOST_WORDS);
    words->items[words->count++] = (Word){name, value};
}

static void say_number(Words *words, const char *name, uint64_t value) {
    say(words, name, su_printf(&words->arena, "%" PRIu64, value));
}

static const char *find_word(const Words *words, const char *name, size_t size) {
    for (size_t i = 0; i < words->count; i++) {
        const Word *word = &words->items[i];
        if (strlen(word->name) == size && memcmp(word->name, name, size) == 0) return word->value;
    }
    return NULL;
}

/* Replaces every @WORD@; an @ that begins none stays. */
static void fill_in(const Words *words, const char *text, const char *end, SuText *out) {
    while (text < end) {
        const char *at = memchr(text, '@', (size_t)(end - text));
        if (!at) at = end;
        su_text_append(out, text, (size_t)(at - text));
        text = at;
        if (at == end) break;
        size_t size = strspn(at + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");
        const char *value = at[1 + size] == '@' ? find_word(words, at + 1, size) : NULL;
        su_text_append(out, value ? value : "@", value ? strlen(value) : 1);
        text += value ? size + 2 : 1;
    }
}

static void say_sizes(Words *words, const PgProgram *program) {
    char hex[SU_HEX];
    SuDigest hash;
    memcpy(hash.bytes, program->spec_hash, sizeof hash.bytes);
    say_number(words, "VOCAB", (uint64_t)program->vocab_size);
    say_number(words, "MAX_POSITIONS", (uint64_t)program->max_positions);
    say_number(words, "MAX_ROWS", (uint64_t)program->max_rows);
    say_number(words, "STATE_BYTES", program->state_bytes);
    say_number(words, "WEIGHT_BYTES", program->weight_bytes);
    say_number(words, "ARENA_BYTES", rt_arena_bytes(program, PG_ROW, 1));
    say_number(words, "ARENA_BYTES_MOST", rt_arena_bytes(program, PG_BLOCK, (uint64_t)program->max_rows));
    say(words, "SPEC_HASH", su_strdup(&words->arena, su_digest_hex(&hash, hex)));
}

static void say_target(Words *words, const DrArtefact *a) {
    const DrBuild *build = a->build;
    say(words, "TARGET", kind_of(a)->target_name(build));
    if (!build->has_target) return;
    say(words, "TRIPLE", build->target.triple);
    say(words, "CPU", build->target.cpu);
}

/* Which CPUs run it when the caller does not say. */
static void say_open(Words *words, const DrArtefact *a) {
    SuArena *arena = &words->arena;
    const char *macro = upper(arena, a->symbol);
    const char *open =
        su_printf(arena, "return moss_artefact_open(&%s_program, &%s_codes, directory, options, out_model);", a->symbol, a->symbol);
    say(words, "CPUS", a->cpus ? su_printf(arena, "#define %s_CPUS {%s}\n", macro, a->cpus) : "");
    say(words, "DEFAULT",
        a->cpus ? su_printf(arena, "a worker on each of %s_CPUS", macro) : "workers on all CPUs that the process may use");
    say(words, "OPEN",
        a->cpus
            ? su_printf(
                  arena,
                  "static const int cpus[] = %s_CPUS;\n"
                  "    const MossOptions on_them = {.size = sizeof on_them, .cpus = cpus, .n_cpus = sizeof cpus / sizeof *cpus};\n"
                  "    if (!options) options = &on_them;\n    %s",
                  macro, open)
            : open);
}

static const char *open_bytes(SuArena *arena, const FeTokenizer *t, const char *vocab) {
    const char *list = "";
    int64_t largest = -1;
    for (int64_t i = 0; i < t->n_eos; i++) {
        list = su_printf(arena, "%s%s%" PRId64, list, i ? ", " : "", t->eos[i].id);
        largest = t->eos[i].id > largest ? t->eos[i].id : largest;
    }
    const char *made = su_printf(arena, "moss_tokenizer_bytes(%s, %d, %d, out_tokenizer);", vocab, (int)t->bos.id, (int)largest);
    if (t->n_eos < 2) return su_printf(arena, "(void)directory;\n    return %s", made);
    return su_printf(arena,
                     "static const int32_t ends[] = {%s};\n    (void)directory;\n    MossError error = %s\n"
                     "    return error.code ? error : moss_tokenizer_set_ends(*out_tokenizer, ends, %d);",
                     list, made, (int)t->n_eos);
}

static void say_tokenizer(Words *words, const DrArtefact *a) {
    SuArena *arena = &words->arena;
    const char *vocab = su_printf(arena, "%s_VOCAB", upper(arena, a->symbol));
    say(words, "TOKENIZER",
        has_bpe(a) ? su_printf(arena, "The tokenizer in DIRECTORY/%s.tokenizer", a->name) : "The tokenizer: an id is a byte");
    say(words, "OPEN_TOKENIZER",
        has_bpe(a) ? su_printf(arena, "return moss_tokenizer_open(directory, \"%s\", %s, out_tokenizer);", a->name, vocab)
                   : open_bytes(arena, &a->build->spec.tokenizer, vocab));
    say(words, "TOKENIZER_ROW",
        has_bpe(a) ? su_printf(arena, "| `%s.tokenizer` | the tokenizer's tables; copy it to the device too |\n", a->name) : "");
    say(words, "TOKENIZER_COPY", has_bpe(a) ? su_printf(arena, " and `%s.tokenizer`", a->name) : "");
}

static void say_all(Words *words, const DrArtefact *a) {
    SuArena *arena = &words->arena;
    say(words, "NAME", a->name);
    say(words, "SYMBOL", a->symbol);
    say(words, "MACRO", upper(arena, a->symbol));
    say(words, "VERSION", MOSSC_VERSION);
    say_target(words, a);
    say(words, "BUILD", build_text(arena, a));
    say(words, "SO_ROW", a->shared ? su_printf(arena, "| `%s.so` | the object as a shared one, for dlopen |\n", a->name) : "");
    say_sizes(words, a->build->program);
    say_open(words, a);
    say_tokenizer(words, a);
}

/* ---- files */

static const DrEmbedded *find_embedded(const char *name) {
    for (const DrEmbedded *file = dr_artefact_embedded; file->name; file++)
        if (strcmp(file->name, name) == 0) return file;
    SU_BUG("file '%s' is not embedded", name);
}

static bool write_template(const DrArtefact *a, Words *words, const char *template, SuDirectory *directory, const char *name) {
    const DrEmbedded *file = find_embedded(su_printf(&words->arena, "%s%s.in", kind_of(a)->templates, template));
    SuText text = {0};
    fill_in(words, file->begin, file->end, &text);
    bool ok = su_directory_write(directory, name, text.text, text.size, &a->build->diags);
    su_text_free(&text);
    return ok;
}

static bool write_spec(const DrArtefact *a, SuDirectory *directory, const char *name) {
    SuText text = {0};
    fe_print_spec(&a->build->spec, &text);
    bool ok = su_directory_write(directory, name, text.text, text.size, &a->build->diags);
    su_text_free(&text);
    return ok;
}

static bool is_in(const char *directory, const char *name) { return strncmp(name, directory, strlen(directory)) == 0; }

/* Whether a file that is carried belongs to the artefact's runtime. */
static bool is_needed(const DrArtefact *a, const char *name) {
    size_t size = strlen(name);
    bool is_template = size > 3 && strcmp(name + size - 3, ".in") == 0;
    if (is_template || (is_in("tokenizer/", name) && !has_bpe(a))) return false;
    for (int i = 0; dr_device_kind(i); i++) {
        const char *own = dr_device_kind(i)->artefact.runtime;
        if (own && is_in(own, name) && own != kind_of(a)->runtime) return false;
    }
    return true;
}

static bool write_runtime(const DrArtefact *a, SuDirectory *directory) {
    SuArena arena = {0};
    bool ok = true;
    for (const DrEmbedded *file = dr_artefact_embedded; file->name && ok; file++) {
        if (!is_needed(a, file->name)) continue;
        ok = su_directory_write(directory, su_printf(&arena, "mossrt/%s", file->name), file->begin,
                                (size_t)(file->end - file->begin), &a->build->diags);
    }
    su_arena_free(&arena);
    return ok;
}

bool dr_artefact_files(const DrArtefact *a, SuDirectory *directory) {
    Words words = {0};
    say_all(&words, a);
    const char *header = su_printf(&words.arena, "%s.h", a->name), *spec = su_printf(&words.arena, "%s.yaml", a->name);
    bool ok = write_template(a, &words, "model.h", directory, header) && write_spec(a, directory, spec) &&
              write_template(a, &words, "main.c", directory, "main.c") &&
              write_template(a, &words, "CMakeLists.txt", directory, "CMakeLists.txt") &&
              write_template(a, &words, "README.md", directory, "README.md") && write_runtime(a, directory);
    su_arena_free(&words.arena);
    return ok;
}
