/* Chat templates: the text of a conversation by each, and which one a Jinja is. */
#include "tests/tokenizer/golden.h"

#include "driver/chat_template.h"

const char *golden_directory;

/* As chat_templates.def has it: the NUL of a bos or eos, and its letter, are its name. */
static void show(const SuText *text, SuText *out) {
    out->size = 0;
    for (size_t i = 0; i < text->size; i++) {
        su_text_add(out, text->text[i] ? "%c" : "{%cos}", text->text[i] ? text->text[i] : text->text[i + 1]);
        i += text->text[i] == '\0';
    }
}

static const char *rendered(const char *name, const char *system, SuText *out) {
    const DrTemplate *t = dr_template_find(name);
    assert_non_null(t);
    SuText text = {0};
    dr_template_begin(t, system, &text);
    dr_template_user(t, " U ", system, &text);
    dr_template_answer(t, "A", &text);
    dr_template_behind(t, false, &text);
    dr_template_user(t, "V", "", &text);
    show(&text, out);
    su_text_free(&text);
    return out->text;
}

static void conversations_are_rendered(void **state) {
    (void)state;
    static const struct {
        const char *name, *system, *text;
    } cases[] = {
        {"chatml", NULL,
         "<|im_start|>user\n U "
         "<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n"},
        {"smollm2", NULL,
         "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\n U "
         "<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n"},
        {"smollm2", "",
         "<|im_start|>user\n U "
         "<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n"},
        {"lfm2", "S",
         "{bos}<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n U "
         "<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV"
         "<|im_end|>\n<|im_start|>assistant\n"},
        {"llama3", "S",
         "{bos}<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nV<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\n"},
        {"llama2", "S", "{bos}[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A {eos}{bos}[INST] V [/INST]"},
        {"mistral", "S", "{bos}[INST] S\n\n U  [/INST] A{eos}[INST] V [/INST]"},
        {"gemma", "S",
         "{bos}<start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n<start_of_turn>user\nV<end_of_turn>"
         "\n"
         "<start_of_turn>model\n"},
        {"granite", "S",
         "<|start_of_role|>system<|end_of_role|>S<|end_of_text|>\n<|start_of_role|>user<|end_of_role|> U <|end_of_text|>\n"
         "<|start_of_role|>assistant<|end_of_role|>A<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>V<|end_of_text|>\n"
         "<|start_of_role|>assistant<|end_of_role|>"},
        {"jamba", "S",
         "{bos}<|bom|><|system|> S<|eom|><|bom|><|user|>  U <|eom|><|bom|><|assistant|> A<|eom|><|bom|><|user|> "
         "V<|eom|><|bom|><|assistant|>"},
        {"jamba", NULL,
         "{bos}<|bom|><|system|> <|eom|><|bom|><|user|>  U <|eom|><|bom|><|assistant|> A<|eom|><|bom|><|user|> "
         "V<|eom|><|bom|><|assistant|>"},
        {"qwen2", NULL,
         "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n U "
         "<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n"},
        {"nemotron", NULL,
         "<SPECIAL_10>System\n\n<SPECIAL_11>User\nU\n<SPECIAL_11>Assistant\nA\n<SPECIAL_12>\n<SPECIAL_11>User\nV\n"
         "<SPECIAL_11>Assistant\n"},
        {"nemotron", "S",
         "<SPECIAL_10>System\nS\n<SPECIAL_11>User\nU"
         "\n<SPECIAL_11>Assistant\nA\n<SPECIAL_12>\n<SPECIAL_11>User\nV\n<SPECIAL_11>Assistant\n"},
        {"falcon", "S", "<|system|>\nS\n<|user|>\n U \n<|assistant|>\nA{eos}\n<|user|>\nV\n<|assistant|>\n"},
        {"zephyr", "S", "<|system|>\nS{eos}\n<|user|>\n U {eos}\n<|assistant|>\nA{eos}\n<|user|>\nV{eos}\n<|assistant|>\n"},
    };
    SuText text = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(rendered(cases[i].name, cases[i].system, &text), cases[i].text);
    su_text_free(&text);
}

static void an_end_that_was_fed_is_not_there_again(void **state) {
    (void)state;
    static const struct {
        const char *name, *behind, *fed;
    } cases[] = {
        {"chatml", "<|im_end|>\n", "\n"},
        {"llama2", "{eos}", ""},
        {"nemotron", "<SPECIAL_12>\n", "\n"},
        {"zephyr", "{eos}\n", "\n"},
    };
    SuText text = {0}, shown = {0};
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        text.size = 0;
        dr_template_behind(dr_template_find(cases[i / 2].name), i % 2, &text);
        su_text_append(&text, "", 0);
        show(&text, &shown);
        su_text_append(&shown, "", 0);
        assert_string_equal(shown.text, i % 2 ? cases[i / 2].fed : cases[i / 2].behind);
    }
    su_text_free(&text);
    su_text_free(&shown);
}

static void a_message_spells_no_bos(void **state) {
    (void)state;
    SuDiags diags = {0};
    RtTokens ids = {0};
    SuText text = {0};
    RtTokenizer *tokenizer = rt_tokenizer_bytes(300, 256, 257);
    dr_template_user(dr_template_find("llama2"), "a{bos}{eos}\xFE\xFF", "", &text);
    assert_true(dr_template_encode(tokenizer, &text, false, &ids, &diags));
    static const char rest[] = "[INST] a{bos}{eos}\xFE\xFF [/INST]";
    assert_int_equal(ids.count, sizeof rest);
    assert_int_equal(ids.ids[0], 256);
    for (size_t i = 1; i < ids.count; i++) assert_int_equal(ids.ids[i], (unsigned char)rest[i - 1]);
    rt_tokens_free(&ids);
    su_text_free(&text);
    rt_tokenizer_free(tokenizer);
}

static void expect_recognised(const char *jinja, const char *name) {
    const DrTemplate *t = dr_template_recognise(jinja);
    if (!name) {
        assert_null(t);
        return;
    }
    assert_non_null(t);
    assert_string_equal(t->name, name);
}

static void templates_are_recognised_by_their_jinja(void **state) {
    (void)state;
    expect_recognised("{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}", "chatml");
    expect_recognised("{% if loop.first %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, …' }}{% endif %}",
                      "smollm2");
    expect_recognised("{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{{'<|im_start|>' + message['role']}}",
                      "qwen2");
    expect_recognised(
        "{{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}", "qwen25");
    expect_recognised("{{- bos_token -}}{%- if x -%}{{- '<|im_start|>system\n' -}}", "lfm2");
    expect_recognised("{{ '<|start_header_id|>' + message['role'] }}{{ bos_token }}", "llama3");
    expect_recognised("{% set content = '<<SYS>>\n' + s %}{{ bos_token + '[INST] ' + content + ' [/INST]' }}", "llama2");
    expect_recognised("{{ bos_token }}{{ '[INST] ' + message['content'] + ' [/INST]' }}", "mistral");
    expect_recognised("{{- bos_token }}{{- \"Today Date: \" + date_string }}{{ '<|start_header_id|>' }}", NULL);
    expect_recognised("{{ bos_token }}{{ '[AVAILABLE_TOOLS] ' }}{{ '[INST] ' + content + ' [/INST]' }}", NULL);
    expect_recognised("{{ bos_token }}{{ '[INST]' + content + '[/INST]' }}", NULL);
    expect_recognised("[SYSTEM_PROMPT]{{ s }}[/SYSTEM_PROMPT][INST]{{ u }}[/INST]", NULL); /* another spacing */
    expect_recognised("{{ bos_token }}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}",
                      "gemma");
    expect_recognised("{{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' }}", "granite");
    expect_recognised("{{ '<|bom|><|user|> ' }}", "jamba");
    expect_recognised("{{ '<SPECIAL_11>User\n' }}", "nemotron");
    expect_recognised("{{ '<|user|>\n' + message['content'] + '\n' }}{{ '<|assistant|>\n' + message['content'] + eos_token }}",
                      "falcon");
    expect_recognised("{{ '<|user|>\n' + message['content'] + eos_token }}{{ '<|assistant|>' }}", "zephyr");
    expect_recognised("{{ '<|user|>\n' + message['content'] + '<|end|>\n<|assistant|>\n' }}{{ eos_token }}", NULL);
    expect_recognised("{{ bos_token + '<|user|>\n' + message['content'] + eos_token }}{{ '<|assistant|>' }}", NULL);
    expect_recognised("{{ 'USER: ' + message['content'] }}", NULL);
    static const char llama31[] = "{% set date_string = \"26 Jul 2024\" %}{{ \"<|start_header_id|>system<|end_header_id|>\n\n\" }}"
                                  "{{ \"Cutting Knowledge Date: December 2023\nToday Date: \" + date_string }}";
    static const char llama32[] =
        "{% set date_string = strftime_now(\"%d %b %Y\") %}{{ \"<|start_header_id|>system<|end_header_id|>\" }}"
        "{{ \"Cutting Knowledge Date: December 2023\nToday Date: \" + date_string }}";
    expect_recognised(llama31, "llama31");
    expect_recognised(llama32, "llama32");
    expect_recognised("{{ bos_token }}{{ ' [INST] ' + system_message + ' [/INST]' }}", "mistral_v1");
    expect_recognised("{{ \"[AVAILABLE_TOOLS] [\" }}{{ \"[INST] \" + message[\"content\"] + \"[/INST]\" }}", "mistral_v3");
    expect_recognised("{{ \"[AVAILABLE_TOOLS][\" }}{{ \"[INST]\" + message[\"content\"] + \"[/INST]\" }}", "mistral_tekken");
    expect_recognised("{{ '[INST] ' + u + '[/INST]' }}{{ '[SYSTEM_PROMPT] ' + s + '[/SYSTEM_PROMPT]' }}", "mistral_v7");
    expect_recognised("{{ '[INST]' + u + '[/INST]' }}{{ '[SYSTEM_PROMPT]' + s + '[/SYSTEM_PROMPT]' }}", "mistral_v7_tekken");
    expect_recognised("{{ '<|start_of_role|>system' + \"Knowledge Cutoff Date: April 2024.\" + strftime_now('%B %d, %Y') }}",
                      "granite31");
    expect_recognised("{% set g4_default_system_message = 'x' %}{{ '<|start_of_role|>' + message['role'] }}", "granite4");
}

/* Those that resemble one of ours. */
static void others_are_not_taken_for_ours(void **state) {
    (void)state;
    static const char *const others[] = {
        "{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|><|im_start|>assistant<|im_sep|>'}}", /* phi-4 */
        "{{ '<|im_start|>' }}{{ strftime_now('%Y') }}",
        "{{ '<SPECIAL_11>Assistant\n<think>\n' }}",
        "{{ bos_token + '[INST] ' + messages[idx]['content'] + ' [/INST]' }}{{ '[INST] <<SYS>>\n' }}",
        "{% set s = default_system_message %}{{ '[SYSTEM_PROMPT]' + s + '[/SYSTEM_PROMPT]' }}{{ '[INST]' + u + '[/INST]' }}",
        "{{ '<|start_of_role|>system' + system_message }}", /* one that brings a text of its own */
        "[gMASK]<sop><|user|>\n{{ x }}<|assistant|>\n{{ eos_token }}",
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) expect_recognised(others[i], NULL);
}

static void expect_refused(const char *name, const char *jinja, const char *words) {
    SuDiags diags = {0};
    assert_null(dr_template_choose(name, jinja, &diags));
    assert_int_equal(diags.errors, 1);
    if (!strstr(diags.items[0].message, words)) fail_msg("'%s' is not in '%s'", words, diags.items[0].message);
    su_diags_free(&diags);
}

static void an_unknown_template_says_how_to_name_one(void **state) {
    (void)state;
    expect_refused("llama4", NULL, "unknown chat template 'llama4'; known: smollm2, lfm2, qwen25, qwen2, chatml");
    expect_refused(NULL, "{{ 'USER: ' }}", "none of those that are known here; name one with --template: smollm2");
    expect_refused(NULL, NULL, "there is no generation.yaml beside the spec");
    SuDiags diags = {0};
    assert_string_equal(dr_template_choose("gemma", "<|im_start|>", &diags)->name, "gemma"); /* a name comes first */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversations_are_rendered),    cmocka_unit_test(an_end_that_was_fed_is_not_there_again),
        cmocka_unit_test(a_message_spells_no_bos),       cmocka_unit_test(templates_are_recognised_by_their_jinja),
        cmocka_unit_test(others_are_not_taken_for_ours), cmocka_unit_test(an_unknown_template_says_how_to_name_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
