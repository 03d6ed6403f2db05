#include "library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char text_name[] = "text.cpp", library_name[] = "text.so", object_name[] = "text.o";

/* To be freed. */
static char *file_in(const char *directory, const char *name) {
    char *path = NULL;
    if (asprintf(&path, "%s/%s", directory, name) < 0) exit(1);
    return path;
}

static char *make_directory(void) {
    const char *parent = getenv("TMPDIR");
    char *directory = file_in(parent != NULL ? parent : "/tmp", "mossc-simt-XXXXXX");
    if (mkdtemp(directory) == NULL) {
        perror(directory);
        exit(1);
    }
    return directory;
}

static void write_text(const char *path, const SuText *text) {
    FILE *file = fopen(path, "w");
    if (file == NULL || fwrite(text->text, 1, text->size, file) != text->size || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

static SimtLibrary library_of(const char *compiler, bool watches, const SuText *text) {
    SimtLibrary l = {.directory = make_directory()};
    SuText command = {0};
    char *source = file_in(l.directory, text_name), *made = file_in(l.directory, library_name);
    char *object = file_in(l.directory, object_name);
    write_text(source, text);
    const char *flags = watches ? MOSSC_SIMT_FLAGS " -g1 -DMOSSC_SIMT_RACES" : MOSSC_SIMT_FLAGS;
    const char *machine = watches ? MOSSC_SIMT_WATCHING : MOSSC_SIMT_MACHINE, *watch = watches ? "-fsanitize=thread" : "";
    su_text_add(&command, "'%s' %s %s -c '%s' -o '%s' && ", compiler, flags, watch, source, object);
    su_text_add(&command, "'%s' %s '%s' %s -o '%s'", compiler, flags, object, machine, made); /* without the sanitizer's library */
    int status = system(command.text);
    l.handle = status == 0 ? dlopen(made, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (l.handle != NULL) {
        *(void **)&l.run = dlsym(l.handle, "simt_run");
        l.programs = dlsym(l.handle, "simt_programs");
    } else {
        printf("FAILED: the text is no valid C++: %s\n", status == 0 ? dlerror() : source);
    }
    su_text_free(&command);
    free(source);
    free(object);
    free(made);
    return l;
}

SimtLibrary simt_library(const char *compiler, const SuText *text) { return library_of(compiler, false, text); }
SimtLibrary simt_library_that_watches(const char *compiler, const SuText *text) { return library_of(compiler, true, text); }

static void remove_file(const char *directory, const char *name) {
    char *path = file_in(directory, name);
    unlink(path);
    free(path);
}

void simt_library_free(SimtLibrary *l, bool keep) {
    if (l->handle != NULL) dlclose(l->handle);
    if (keep) {
        printf("kept: %s\n", l->directory);
    } else {
        remove_file(l->directory, text_name);
        remove_file(l->directory, object_name);
        remove_file(l->directory, library_name);
        rmdir(l->directory);
    }
    free(l->directory);
    *l = (SimtLibrary){0};
}
