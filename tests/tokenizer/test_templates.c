/* Chat templates: the text of a conversation by each, and which one a Jinja is. */
#include "tests/tokenizer/golden.h"

#include "driver/chat_template.h"

const char *golden_directory;

static const char *rendered(const char *name, const char *system, SuText *out) {
    const DrTemplate *t = dr_template_find(name);
    assert_non_null(t);
    out->size = 0;
    dr_template_begin(t, system, out);
    dr_template_user(t, " U ", system, out);
    dr_template_answer(t, "A", out);
    dr_template_behind(t, out);
    dr_template_user(t, "V", "", out);
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
        {"nemotron", "S",
         "<SPECIAL_10>System\nS\n<SPECIAL_11>User\n U "
         "\n<SPECIAL_11>Assistant\nA\n<SPECIAL_12>\n<SPECIAL_11>User\nV\n<SPECIAL_11>Assistant\n"},
        {"falcon", "S", "<|system|>\nS\n<|user|>\n U \n<|assistant|>\nA{eos}\n<|user|>\nV\n<|assistant|>\n"},
        {"zephyr", "S", "<|system|>\nS{eos}\n<|user|>\n U {eos}\n<|assistant|>\nA{eos}\n<|user|>\nV{eos}\n<|assistant|>\n"},
    };
    SuText text = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(rendered(cases[i].name, cases[i].system, &text), cases[i].text);
    su_text_free(&text);
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
    expect_recognised("{{- bos_token -}}{%- if x -%}{{- '<|im_start|>system\n' -}}", "lfm2");
    expect_recognised("{{ '<|start_header_id|>' + message['role'] }}{{ bos_token }}", "llama3");
    expect_recognised("{% set content = '<<SYS>>\n' + s %}{{ bos_token + '[INST] ' + content + ' [/INST]' }}", "llama2");
    expect_recognised("{{ bos_token }}{{ '[INST] ' + message['content'] + ' [/INST]' }}", "mistral");
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
    expect_recognised("{{ 'USER: ' + message['content'] }}", NULL);
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
    expect_refused("llama4", NULL, "unknown chat template 'llama4'; known: smollm2, lfm2, chatml");
    expect_refused(NULL, "{{ 'USER: ' }}", "none of those that are known here; name one with --template: smollm2");
    expect_refused(NULL, NULL, "there is no generation.yaml beside the spec");
    SuDiags diags = {0};
    assert_string_equal(dr_template_choose("gemma", "<|im_start|>", &diags)->name, "gemma"); /* a name comes first */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversations_are_rendered),
        cmocka_unit_test(templates_are_recognised_by_their_jinja),
        cmocka_unit_test(an_unknown_template_says_how_to_name_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
