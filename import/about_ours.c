/* What is in files that mossc writes, and in tokenizers. */
#include <inttypes.h>
#include <string.h>

#include "frontend/spec.h"
#include "import/about.h"
#include "runtime/state_file.h"
#include "tokenizer/bpe.h"
#include "tokenizer/model.h"
#include "tokenizer/packed.h"

static const char *hex_of(ImLook *look, const void *digest) {
    char hex[SU_HEX];
    SuDigest copy;
    memcpy(&copy, digest, sizeof copy);
    return su_strdup(&look->out->arena, su_digest_hex(&copy, hex));
}

/* ---- packed weights */

static bool damaged(ImLook *look, const char *how) {
    return su_error(look->diags, su_file_span(look->diags, look->path), "create it again with mossc pack", "file is corrupt: %s",
                    how);
}

/* A tensor of the table, whose name is at *names. */
static bool add_packed(ImLook *look, const RtPackedHeader *h, const RtPackedTensor *t, const char **names, const char *end) {
    const uint8_t *blob = look->map.data + h->data_offset;
    if (t->name_size < 1 || t->name_size > (size_t)(end - *names) || (*names)[t->name_size - 1]) return damaged(look, "a name");
    if (t->planes < 1 || t->O < 1 || t->K < 1 || t->dtype >= IR_STORED_DTYPES) return damaged(look, "a shape");
    if (t->offset > h->data_bytes || t->bytes > h->data_bytes - t->offset) return damaged(look, "an offset");
    if (t->planes > INT64_MAX / t->O || t->planes * t->O > INT64_MAX / t->K) return damaged(look, "a shape");
    if (look->every_byte) {
        SuDigest digest = su_digest(blob + t->offset, t->bytes);
        if (!su_digest_equal(&digest, &t->digest)) return damaged(look, su_printf(&look->out->arena, "tensor '%s'", *names));
    }
    ImAboutTensor *to =
        im_about_tensor(look, *names, ir_dtype_word((IrDtype)t->dtype), (uint64_t)(t->planes * t->O * t->K), t->bytes);
    if (t->planes > 1) to->shape[to->rank++] = (uint64_t)t->planes;
    to->shape[to->rank++] = (uint64_t)t->O;
    to->shape[to->rank++] = (uint64_t)t->K;
    *names += t->name_size;
    return true;
}

bool im_about_packed(ImLook *look) {
    const RtPackedHeader *h = (const RtPackedHeader *)(const void *)look->map.data;
    char name[RT_FILE_NAME];
    if (!rt_packed_check_header(look->map.data, look->map.size, look->path, look->diags)) return false;
    if (h->n_weights > (h->header_bytes - sizeof *h) / sizeof(RtPackedTensor)) return damaged(look, "its table");
    if (h->data_offset < h->header_bytes || h->data_offset > look->map.size || h->data_bytes != look->map.size - h->data_offset)
        return damaged(look, "its size");
    look->out->what = "packed weights";
    im_fact(look, "spec", "%s", rt_file_name(h->name, name));
    im_fact(look, "spec hash", "%s", hex_of(look, h->spec_hash));
    im_fact(look, "identity", "%s", hex_of(look, &h->weights));
    im_plain_fact(look, "numerics", "%" PRIu32, h->numerics);
    const RtPackedTensor *table = (const RtPackedTensor *)(const void *)(h + 1);
    const char *names = (const char *)(table + h->n_weights), *end = (const char *)h + h->header_bytes;
    for (uint32_t i = 0; i < h->n_weights; i++)
        if (!add_packed(look, h, &table[i], &names, end)) return false;
    im_about_file(look, look->path, &look->map);
    return true;
}

/* ---- states */

bool im_about_state(ImLook *look) {
    const RtStateHeader *h = (const RtStateHeader *)(const void *)look->map.data;
    char name[RT_FILE_NAME];
    if (!rt_state_check_whole(look->map.data, look->map.size, look->path, look->diags)) return false;
    look->out->what = "state of a sequence";
    im_fact(look, "spec", "%s", rt_file_name(h->name, name));
    im_fact(look, "spec hash", "%s", hex_of(look, h->spec_hash));
    im_fact(look, "weights' identity", "%s", hex_of(look, &h->weights));
    im_fact(look, "identity", "%s", hex_of(look, &h->body));
    im_plain_fact(look, "numerics", "%" PRIu32, h->numerics);
    im_plain_fact(look, "position", "%" PRId64, h->position);
    im_plain_fact(look, "state bytes", "%" PRIu64, h->state_bytes);
    im_plain_fact(look, "logits", "%" PRIu64, h->logits);
    if (h->has_random) im_plain_fact(look, "seed", "%" PRIu64, h->seed);
    im_about_file(look, look->path, &look->map);
    return true;
}

/* ---- tokenizers */

static uint64_t count_texts(const TkVocab *vocab) {
    uint64_t count = 0;
    for (size_t i = 0; i < vocab->n_ids; i++) count += vocab->texts[i].text != NULL;
    return count;
}

static void add_tokenizer(ImLook *look, TkBpe *bpe) {
    uint64_t merges = 0;
    for (size_t i = 0; bpe->merges.slots && i <= bpe->merges.mask; i++) merges += bpe->merges.slots[i].pair != UINT64_MAX;
    im_fact(look, "tokenizer", "bpe%s", bpe->byte_fallback ? ", with bytes for what has no token" : "");
    im_plain_fact(look, "tokens", "%" PRIu64, count_texts(&bpe->vocab));
    im_plain_fact(look, "added tokens", "%" PRIu64, count_texts(&bpe->added));
    im_plain_fact(look, "merges", "%" PRIu64, merges);
    tk_bpe_free(bpe);
}

bool im_about_tokenizer(ImLook *look) {
    if (look->map.size > TK_MAX_FILE)
        return su_error(look->diags, su_file_span(look->diags, look->path), NULL, "file exceeds the limit of %d bytes",
                        TK_MAX_FILE);
    TkBpe *bpe = tk_bpe_read((const char *)look->map.data, look->map.size, look->path, INT32_MAX, look->diags);
    if (!bpe) return false;
    look->out->what = "tokenizer";
    add_tokenizer(look, bpe);
    im_about_file(look, look->path, &look->map);
    return true;
}

bool im_about_packed_tokenizer(ImLook *look) {
    const TkPackedHeader *h = (const TkPackedHeader *)(const void *)look->map.data;
    const int64_t vocab_size = look->map.size >= sizeof *h ? h->vocab_size : 0;
    TkBpe *bpe = tk_packed_read(look->map.data, look->map.size, look->path, vocab_size, look->diags);
    if (!bpe) return false;
    look->out->what = "packed tokenizer";
    im_plain_fact(look, "vocabulary", "%" PRId64, vocab_size);
    add_tokenizer(look, bpe);
    im_about_file(look, look->path, &look->map);
    return true;
}

/* ---- specs */

bool im_about_spec(ImLook *look) {
    FeSpec spec;
    bool ok = fe_spec_load(look->path, NULL, 0, &spec, look->diags);
    if (ok) {
        size_t count = 0;
        const FeTensor *tensors = fe_tensors(&spec, &count);
        uint64_t parameters = 0;
        for (size_t i = 0; i < count; i++) {
            uint64_t elements = 1;
            for (int d = 0; d < tensors[i].rank; d++) elements *= (uint64_t)tensors[i].shape[d];
            parameters += elements;
        }
        look->out->what = "spec";
        im_fact(look, "spec", "%s", spec.name);
        im_fact(look, "spec hash", "%s", hex_of(look, spec.hash));
        im_plain_fact(look, "vocabulary", "%" PRId64, spec.vocab_size);
        im_plain_fact(look, "d_model", "%" PRId64, spec.d_model);
        im_plain_fact(look, "blocks", "%" PRId64, spec.n_blocks);
        im_plain_fact(look, "parameters", "%" PRIu64, parameters);
        im_about_file(look, look->path, &look->map);
    }
    su_diags_keep(look->diags);
    fe_spec_free(&spec);
    return ok;
}
