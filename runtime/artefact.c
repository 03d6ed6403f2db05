#include "runtime/artefact.h"

#include "runtime/model.h"
#include "support/str.h"

MossError moss_artefact_open(const PgProgram *program, const PgCode *codes, const char *directory, const MossOptions *options,
                             MossModel **out_model) {
    SuText path = {0};
    su_text_add(&path, "%s/%s.weights", directory, program->name);
    MossError error = moss_model_open(program, codes, path.text, options, out_model);
    su_text_free(&path);
    return error;
}

MossError moss_artefact_bytes(int64_t vocab_size, int32_t bos, int32_t eos, RtTokenizer **out_tokenizer) {
    *out_tokenizer = rt_tokenizer_bytes(vocab_size, bos, eos);
    return *out_tokenizer ? (MossError){.code = MOSS_OK} : rt_error(MOSS_NO_MEMORY, "no memory for a tokenizer");
}

MossError moss_encode(const RtTokenizer *tokenizer, const char *text, size_t size, RtTokens *out) {
    SuDiags diags = {0};
    if (rt_tokenizer_bos(tokenizer) >= 0) rt_tokens_add(out, rt_tokenizer_bos(tokenizer));
    bool ok = rt_tokenizer_encode(tokenizer, text, size, out, &diags);
    MossError error = ok ? (MossError){.code = MOSS_OK} : rt_error_from(MOSS_BAD_INPUT, &diags);
    su_diags_free(&diags);
    return error;
}
