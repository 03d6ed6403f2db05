#include "import/checkpoint.h"

#include <string.h>
#include <sys/stat.h>

#include "import/folder.h"
#include "import/gguf_view.h"
#include "import/texts.h"

static void cleanup(void *checkpoint) { im_checkpoint_close(checkpoint); }

bool im_checkpoint_open(const char *path, ImCheckpoint *out, SuDiags *diags) {
    struct stat st;
    *out = (ImCheckpoint){0};
    out->texts = (ImTexts){.bos = -1, .temperature = -1, .top_p = -1, .min_p = -1, .repeat_penalty = -1, .top_k = -1};
    out->source.path = su_strdup(&out->arena, path);
    su_cleanup_add(&out->cleanup, cleanup, out);
    bool ok;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        ok = im_folder_open(path, out, diags);
    else
        ok = im_gguf_view(path, out, diags);
    ok = ok && im_source_settle(&out->source, diags) && im_texts_settle(&out->texts, out->source.path, diags);
    if (!ok) im_checkpoint_close(out);
    return ok;
}

void im_checkpoint_close(ImCheckpoint *checkpoint) {
    su_cleanup_done(&checkpoint->cleanup);
    if (checkpoint->close) checkpoint->close(checkpoint);
    su_arena_free(&checkpoint->source.arena);
    su_arena_free(&checkpoint->arena);
    *checkpoint = (ImCheckpoint){0};
}
