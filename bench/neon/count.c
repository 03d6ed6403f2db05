/* A plugin for qemu-user that counts the instructions a program executes, by the symbol they belong to.
 *
 *     cc -O2 -shared -fPIC -o libcount.so count.c
 *     qemu-aarch64 -d plugin -D counts.txt -plugin ./libcount.so PROGRAM…
 *
 * writes "COUNT SYMBOL" lines, "-" standing for code without a symbol. Counters are plain additions in the translated code: run
 * programs with one thread. qemu's header is not needed: the few functions of its plugin interface (version 1) are declared here. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t PluginId;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { ADD_U64 = 0 }; /* qemu_plugin_op */

#define EXPORT __attribute__((visibility("default")))
void qemu_plugin_register_vcpu_tb_trans_cb(PluginId id, void (*translated)(PluginId, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, int op, void *at, uint64_t value);
void qemu_plugin_register_atexit_cb(PluginId id, void (*at_exit)(PluginId, void *), void *context);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *insn);
void qemu_plugin_outs(const char *text);

EXPORT int qemu_plugin_version = 1;

/* What one symbol executed. Entries never move: translated code adds to `count`. */
typedef struct Counter {
    struct Counter *next;
    uint64_t count;
    char symbol[];
} Counter;

static Counter *counters; /* the plugin's interface has no place for a context */

static Counter *counter_of(const char *symbol) {
    for (Counter *c = counters; c != NULL; c = c->next)
        if (strcmp(c->symbol, symbol) == 0) return c;
    size_t size = strlen(symbol) + 1;
    Counter *c = calloc(1, sizeof *c + size);
    if (c == NULL) abort();
    memcpy(c->symbol, symbol, size);
    c->next = counters;
    counters = c;
    return c;
}

/* A block of code is about to be translated: it will count itself each time it runs. Blocks end at branches, so one lies in one
 * function. */
static void translated(PluginId id, struct qemu_plugin_tb *block) {
    (void)id;
    const char *symbol = qemu_plugin_insn_symbol(qemu_plugin_tb_get_insn(block, 0));
    Counter *c = counter_of(symbol != NULL && *symbol ? symbol : "-");
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &c->count, qemu_plugin_tb_n_insns(block));
}

static void at_exit(PluginId id, void *context) {
    (void)id;
    (void)context;
    for (const Counter *c = counters; c != NULL; c = c->next) {
        char line[512];
        snprintf(line, sizeof line, "%" PRIu64 " %.400s\n", c->count, c->symbol);
        qemu_plugin_outs(line);
    }
}

EXPORT int qemu_plugin_install(PluginId id, const void *info, int argc, char **argv);
int qemu_plugin_install(PluginId id, const void *info, int argc, char **argv) {
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
