/* libmossc_emulated_nvrtc.so: what mossc uses of NVRTC, for the emulated GPU. CUDA C goes through a C++ compiler, behind simt.h and in
 * front of a table of its entries (entries.h), and becomes a shared object, which the emulated driver loads. What a compiler says of a
 * text that it refuses is put as NVRTC would, and of one that it takes there are lines as the assembler's. What a text became is kept
 * beside the library, since many tests compile the same, which is most of their time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image.h"
#include "settings.h"
#include "support/digest.h"

#define EXPORT __attribute__((visibility("default")))

enum { OK, OUT_OF_MEMORY, BAD_INPUT = 3, BAD_PROGRAM, BAD_OPTION, COMPILATION }; /* nvrtcResult */

typedef struct Program {
    char *text, *name, *log; /* name: what the log calls the text */
    Image image; /* code is NULL before it is compiled */
} Program;

typedef int Result;

/* As exported; NVIDIA's documentation has them. */
EXPORT Result nvrtcVersion(int *major, int *minor);
EXPORT const char *nvrtcGetErrorString(Result result);
EXPORT Result nvrtcGetNumSupportedArchs(int *count);
EXPORT Result nvrtcGetSupportedArchs(int *out);
EXPORT Result nvrtcCreateProgram(Program **out, const char *text, const char *name, int n, const char *const *headers,
                                 const char *const *names);
EXPORT Result nvrtcDestroyProgram(Program **program);
EXPORT Result nvrtcCompileProgram(Program *program, int n, const char *const *options);
EXPORT Result nvrtcGetPTXSize(Program *program, size_t *out);
EXPORT Result nvrtcGetPTX(Program *program, char *out);
EXPORT Result nvrtcGetCUBINSize(Program *program, size_t *out);
EXPORT Result nvrtcGetCUBIN(Program *program, char *out);
EXPORT Result nvrtcGetProgramLogSize(Program *program, size_t *out);
EXPORT Result nvrtcGetProgramLog(Program *program, char *out);

/* The error that fail=NAME:1:CODE wants of every call of the function, or OK. */
static Result told_to_fail(const char *name) {
    FailingCall fail = settings_read().fail;
    return strcmp(fail.name, name) == 0 ? fail.code : OK;
}

/* ---------------------------------------------------------------------------------------------- what it knows */

static const int architectures[] = {75, 80, 86, 87, 89, 90, 100, 103, 110, 120, 121};

static bool is_known(int architecture) {
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
        if (architectures[i] == architecture) return architecture <= settings_read().newest;
    return false;
}

Result nvrtcVersion(int *major, int *minor) {
    *major = 13;
    *minor = 0;
    return told_to_fail(__func__);
}

const char *nvrtcGetErrorString(Result result) {
    static const char *const texts[] = {"NVRTC_SUCCESS",
                                        "NVRTC_ERROR_OUT_OF_MEMORY",
                                        "NVRTC_ERROR_PROGRAM_CREATION_FAILURE",
                                        "NVRTC_ERROR_INVALID_INPUT",
                                        "NVRTC_ERROR_INVALID_PROGRAM",
                                        "NVRTC_ERROR_INVALID_OPTION",
                                        "NVRTC_ERROR_COMPILATION"};
    return result >= 0 && result <= COMPILATION ? texts[result] : "NVRTC_ERROR unknown";
}

Result nvrtcGetNumSupportedArchs(int *count) {
    *count = 0;
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++) *count += is_known(architectures[i]);
    return told_to_fail(__func__);
}

Result nvrtcGetSupportedArchs(int *out) {
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
        if (is_known(architectures[i])) *out++ = architectures[i];
    return told_to_fail(__func__);
}

/* ---------------------------------------------------------------------------------------------- the text for a C++ compiler */

/* Calls `each` for every name in the text that `mark` stands before and `after` behind. */
static void for_each_name(const char *text, const char *mark, const char *after, void (*each)(FILE *, const char *name),
                          FILE *out) {
    for (const char *at = strstr(text, mark); at != NULL; at = strstr(at + 1, mark)) {
        const char *begin = at + strlen(mark);
        size_t size = strspn(begin, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");
        if (size == 0 || strncmp(begin + size, after, strlen(after)) != 0) continue;
        char *name = strndup(begin, size);
        each(out, name);
        free(name);
    }
}

/* `wide`: of those whose blocks have more threads. */
static void for_each_entry(const char *text, void (*each)(FILE *, const char *name), void (*wide)(FILE *, const char *name),
                           FILE *out) {
    for_each_name(text, "ENTRY(", ")(", each, out);
    for_each_name(text, "ENTRY_OF_TWO(", ")(", each, out);
    for_each_name(text, "ENTRY_OF_WARPGROUPS(", ")(", wide, out);
}

static void write_entry(FILE *out, const char *name) { fprintf(out, "    EMULATED_ENTRY(%s, THREADS),\n", name); }
static void write_wide_entry(FILE *out, const char *name) { fprintf(out, "    EMULATED_ENTRY(%s, WARPGROUP_THREADS),\n", name); }
static void write_global(FILE *out, const char *name) { fprintf(out, "    EMULATED_GLOBAL(%s),\n", name); }

static bool write_source(const Program *p, const char *path) {
    FILE *out = fopen(path, "w");
    if (out == NULL) return false;
    fprintf(out, "#include \"simt.h\"\n#line 1 \"%s\"\n%s\n#line 1 \"entries\"\n#include \"entries.h\"\n", p->name, p->text);
    fprintf(out, "extern \"C\" const EmulatedEntry emulated_entries[] = {\n");
    for_each_entry(p->text, write_entry, write_wide_entry, out);
    fprintf(out, "    {}};\nextern \"C\" const EmulatedGlobal emulated_globals[] = {\n");
    for_each_name(p->text, "EXPORTED u32 ", "[]", write_global, out);
    fprintf(out, "    {}};\n");
    return fclose(out) == 0;
}

/* ---------------------------------------------------------------------------------------------- compiling */

/* To be freed; NULL if it cannot be read. */
static uint8_t *read_file(const char *path, size_t *out_bytes) {
    struct stat about;
    FILE *file = fopen(path, "rb");
    if (file == NULL || fstat(fileno(file), &about) != 0) return NULL;
    uint8_t *data = malloc((size_t)about.st_size + 1);
    *out_bytes = fread(data, 1, (size_t)about.st_size, file);
    data[*out_bytes] = '\0';
    fclose(file);
    return data;
}

/* The compiler's "program.cu:12:5: error: …" as NVRTC's "program.cu(12): error: …". */
static void write_errors(const Program *p, const char *said, FILE *log) {
    int errors = 0;
    for (const char *line = said; *line != '\0'; line += strcspn(line, "\n"), line += *line == '\n') {
        int at, column, begin = 0;
        size_t name = strlen(p->name);
        if (strncmp(line, p->name, name) != 0 || sscanf(line + name, ":%d:%d: %n", &at, &column, &begin) != 2) continue;
        const char *what = line + name + begin;
        if (strncmp(what, "error", 5) != 0 && strncmp(what, "fatal error", 11) != 0) continue;
        fprintf(log, "%s(%d): %.*s\n", p->name, at, (int)strcspn(what, "\n"), what);
        errors++;
    }
    if (errors == 0) fprintf(log, "%s", said);
    fprintf(log, "%d errors detected in the compilation of \"%s\".\n", errors, p->name);
}

/* As the assembler with -v. */
static void write_properties(FILE *log, const char *name) {
    fprintf(log,
            "ptxas info    : Compiling entry function '%s' for 'emulated'\nptxas info    : Function properties for %s\n"
            "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
            "ptxas info    : Used 64 registers, used 1 barriers\n",
            name, name);
}

/* Where the object is kept that a source becomes, to be freed: for these bytes, headers and flags. */
static char *kept_path(const char *source) {
    static const char *const headers[] = {MOSSC_SIMT "/simt.h",           MOSSC_SIMT "/hopper.h",   MOSSC_SIMT "/machine.cpp",
                                          MOSSC_SIMT "/hopper_machine.h", MOSSC_SIMT "/races.h",    MOSSC_SIMT "/launch.h",
                                          MOSSC_EMULATED "/entries.h",    MOSSC_EMULATED "/image.h"};
    char *key = NULL, *path = NULL, hex[SU_HEX];
    size_t bytes = 0, source_bytes = 0;
    uint8_t *text = read_file(source, &source_bytes);
    FILE *out = open_memstream(&key, &bytes);
    fprintf(out, "%s %s\n", MOSSC_CXX, MOSSC_SIMT_FLAGS);
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        struct stat about = {0};
        if (stat(headers[i], &about) == 0) fprintf(out, "%lld.%09ld\n", (long long)about.st_mtim.tv_sec, about.st_mtim.tv_nsec);
    }
    if (text != NULL) fwrite(text, 1, source_bytes, out);
    fclose(out);
    SuDigest digest = su_digest(key, bytes);
    if (asprintf(&path, "%s/%s.so", MOSSC_EMULATED_KEPT, su_digest_hex(&digest, hex)) < 0) path = NULL;
    free(text);
    free(key);
    return path;
}

/* Moves what was made to where it is kept, if that can be; another process may do the same. */
static void keep(const Image *image, const char *path) {
    char temporary[1024];
    snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)getpid());
    mkdir(MOSSC_EMULATED_KEPT, 0777);
    FILE *out = fopen(temporary, "wb");
    if (out == NULL) return;
    bool whole = fwrite(image->code, 1, image->bytes, out) == image->bytes;
    if (fclose(out) != 0 || !whole || rename(temporary, path) != 0) unlink(temporary);
}

/* Compiles in the directory; whether it worked. */
static bool build(Program *p, const char *directory, FILE *log) {
    char source[512], made[512], said_at[512], command[4096];
    size_t said_bytes = 0;
    snprintf(source, sizeof source, "%s/text.cpp", directory);
    snprintf(made, sizeof made, "%s/text.so", directory);
    snprintf(said_at, sizeof said_at, "%s/said", directory);
    snprintf(command, sizeof command, "'%s' %s '%s' '" MOSSC_SIMT_MACHINE "' -o '%s' >'%s' 2>&1", MOSSC_CXX, MOSSC_SIMT_FLAGS,
             source, made, said_at);
    bool written = write_source(p, source);
    char *kept = kept_path(source);
    p->image.code = read_file(kept, &p->image.bytes);
    if (p->image.code == NULL && written && system(command) == 0) {
        p->image.code = read_file(made, &p->image.bytes);
        if (p->image.code != NULL) keep(&p->image, kept);
    }
    free(kept);
    uint8_t *said = read_file(said_at, &said_bytes);
    if (p->image.code != NULL)
        for_each_entry(p->text, write_properties, write_properties, log);
    else
        write_errors(p, said != NULL ? (char *)said : "error: no C++ compiler can be started\n", log);
    free(said);
    unlink(source);
    unlink(made);
    unlink(said_at);
    return p->image.code != NULL;
}

static Result compile(Program *p, FILE *log) {
    char directory[256];
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/mossc-nvrtc-XXXXXX", parent != NULL ? parent : "/tmp");
    if (mkdtemp(directory) == NULL) return OUT_OF_MEMORY;
    bool good = build(p, directory, log);
    rmdir(directory);
    return good ? OK : COMPILATION;
}

static bool is_accepted(const char *option) {
    static const char *const known[] = {"--std=c++17",     "--disable-warnings", "--ptxas-options=-v",
                                        "-default-device", "-lineinfo",          "--use_fast_math"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(option, known[i]) == 0) return true;
    return false;
}

static Result take_options(Program *p, int n, const char *const *options, FILE *log) {
    p->image.architecture = 75;
    p->image.form = IMAGE_PTX;
    for (int i = 0; i < n; i++) {
        char kind[8];
        if (is_accepted(options[i])) continue;
        int used = 0;
        bool read = sscanf(options[i], "--gpu-architecture=%7[a-z]_%d%n", kind, &p->image.architecture, &used) == 2;
        bool suffix = read && strcmp(options[i] + used, "a") == 0 && p->image.architecture >= 90;
        if (!read || (options[i][used] != '\0' && !suffix) || !is_known(p->image.architecture)) {
            fprintf(log, "nvrtc: error: invalid value for option %s\n", options[i]);
            return BAD_OPTION;
        }
        p->image.form = strcmp(kind, "sm") == 0 ? IMAGE_CUBIN : IMAGE_PTX;
    }
    return OK;
}

/* ---------------------------------------------------------------------------------------------- what is exported */

Result nvrtcCreateProgram(Program **out, const char *text, const char *name, int n, const char *const *headers,
                          const char *const *names) {
    (void)headers, (void)names;
    if (out == NULL || text == NULL || n != 0) return BAD_INPUT;
    if (told_to_fail(__func__)) return told_to_fail(__func__);
    Program *p = calloc(1, sizeof *p);
    p->text = strdup(text);
    p->name = strdup(name != NULL ? name : "default_program");
    p->log = strdup("");
    *out = p;
    return OK;
}

Result nvrtcDestroyProgram(Program **program) {
    if (program == NULL || *program == NULL) return BAD_PROGRAM;
    free((*program)->text);
    free((*program)->name);
    free((*program)->log);
    free((*program)->image.code);
    free(*program);
    *program = NULL;
    return OK;
}

Result nvrtcCompileProgram(Program *p, int n, const char *const *options) {
    size_t bytes;
    if (p == NULL) return BAD_PROGRAM;
    free(p->log);
    FILE *log = open_memstream(&p->log, &bytes);
    Result result = take_options(p, n, options, log);
    if (!result) result = told_to_fail(__func__);
    if (!result) result = compile(p, log);
    fclose(log);
    return result;
}

static Result get(Program *p, const char *name, ImageForm form, size_t *out_bytes, char *out) {
    size_t bytes = 0;
    if (told_to_fail(name)) return told_to_fail(name);
    if (p == NULL || p->image.code == NULL) return BAD_PROGRAM;
    /* without the code of a real architecture there is no cubin, but there is always PTX */
    if (form == IMAGE_CUBIN && p->image.form != IMAGE_CUBIN) {
        if (out_bytes != NULL) *out_bytes = 0;
        return out_bytes != NULL ? OK : BAD_PROGRAM;
    }
    Image image = p->image;
    image.form = form;
    char *data = image_write(&image, &bytes);
    if (out_bytes != NULL) *out_bytes = bytes;
    if (out != NULL) memcpy(out, data, bytes);
    free(data);
    return OK;
}

Result nvrtcGetPTXSize(Program *p, size_t *out) { return get(p, __func__, IMAGE_PTX, out, NULL); }
Result nvrtcGetPTX(Program *p, char *out) { return get(p, __func__, IMAGE_PTX, NULL, out); }
Result nvrtcGetCUBINSize(Program *p, size_t *out) { return get(p, __func__, IMAGE_CUBIN, out, NULL); }
Result nvrtcGetCUBIN(Program *p, char *out) { return get(p, __func__, IMAGE_CUBIN, NULL, out); }

Result nvrtcGetProgramLogSize(Program *p, size_t *out) {
    if (p == NULL) return BAD_PROGRAM;
    *out = strlen(p->log) + 1;
    return told_to_fail(__func__);
}

Result nvrtcGetProgramLog(Program *p, char *out) {
    if (p == NULL) return BAD_PROGRAM;
    memcpy(out, p->log, strlen(p->log) + 1);
    return told_to_fail(__func__);
}
