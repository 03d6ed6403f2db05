/* libFuzzer target: folders whose files are any text are opened, or refused with a reason. An input is the texts of the files below, each up to a NUL;
 * what is empty is not there. One shard of weights is sound. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "import/checkpoint.h"
#include "import/generation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {"config.json",           "model.safetensors.index.json", "tokenizer.json",
                                    "tokenizer_config.json", "generation_config.json",       "chat_template.jinja"};
enum { FILES = sizeof names / sizeof names[0], PATH = 256 };

static char folder[PATH];

static void write_file(const char *name, const void *data, size_t size) {
    char path[PATH + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
    FILE *file = size ? fopen(path, "wb") : NULL;
    if (!file) return;
    fwrite(data, 1, size, file);
    fclose(file);
}

static void remove_folder(void) {
    write_file("a.safetensors", "", 0);
    for (int i = 0; i < FILES; i++) write_file(names[i], "", 0);
    rmdir(folder);
}

static void make_folder(void) {
    static const char header[] = "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"y\":{\"dtype\":\"I8\","
                                 "\"shape\":[],\"data_offsets\":[8,9]}}";
    uint8_t shard[8 + sizeof header - 1 + 9] = {sizeof header - 1};
    snprintf(folder, sizeof folder, "/tmp/mossc-fuzz-XXXXXX");
    if (!mkdtemp(folder)) abort();
    atexit(remove_folder);
    memcpy(shard + 8, header, sizeof header - 1);
    write_file("a.safetensors", shard, sizeof shard);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!folder[0]) make_folder();
    for (int i = 0; i < FILES; i++) {
        const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
        size_t mine = nul ? (size_t)(nul - data) : size, used = nul ? mine + 1 : size;
        write_file(names[i], data, mine);
        data += used;
        size -= used;
    }
    SuDiags diags = {0};
    ImCheckpoint checkpoint;
    if (im_checkpoint_open(folder, &checkpoint, &diags)) {
        SuText text = {0};
        im_print_generation(&checkpoint.texts, &text);
        su_text_free(&text);
        im_checkpoint_close(&checkpoint);
    } else if (!diags.errors) {
        abort(); /* every refusal has a reason */
    }
    su_diags_free(&diags);
    return 0;
}
