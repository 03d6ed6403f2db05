/* mossc targets: what --target takes. */
#include <inttypes.h>

#include <cjson/cJSON.h>

#include "cli/commands.h"
#include "cli/show.h"
#include "driver/target.h"
#include "driver/device.h"

typedef struct TargetsOptions {
    bool json;
} TargetsOptions;

/* Without LLVM no code of a CPU can be made, nor that of a device. */
static bool has_cpus(void) {
    size_t count;
    cg_target_names(&count);
    return count > 0;
}

/* ---------------------------------------------------------------------------------------------- tables */

static void print_names(const char *title, const CgTargetName *names, size_t count) {
    if (title) printf("%s\n", title);
    for (size_t i = 0; i < count; i++) printf("  %-16s %s\n", names[i].name, names[i].about);
}

static void print_gpus(void) {
    printf("\nGPUs, for asm, compile and warm:\n");
    for (int k = 1; dr_device_kind(k); k++) {
        CgTargetName gpu;
        for (int i = 0; (gpu = dr_device_kind(k)->target_name(i)).name; i++) print_names(NULL, &gpu, 1);
    }
}

static void print_cluster(const FeCluster *c) {
    printf("      %3" PRId64 " x %-14s", c->cores, c->cpu);
    if (c->ghz > 0) printf(" %5.2f GHz", c->ghz);
    printf(" %4" PRId64 "-bit vectors, L1d %" PRId64 " KB, L2 %" PRId64 " KB", c->vector_bits, c->l1d_kb, c->l2_kb);
    printf("%s%s\n", c->cpus ? "; CPUs " : "", c->cpus ? c->cpus : "");
}

static void print_device(const FeDevice *d) {
    printf("  %-16s %s\n", d->name, d->about);
    for (int i = 0; i < d->n_clusters; i++) print_cluster(&d->clusters[i]);
    if (d->bandwidth_gb_s > 0)
        printf("      memory %.1f GB/s, %s %" PRId64 " KB; code for %s\n", d->bandwidth_gb_s, d->n_clusters ? "L3" : "last cache",
               d->l3_kb, d->target);
}

static void print_tables(const FeDevice *devices, int n_devices) {
    size_t count;
    const CgTargetName *names = cg_target_names(&count);
    if (!has_cpus()) {
        printf("CPU targets need a mossc that is built with LLVM (-DMOSSC_LLVM=ON)\n");
        print_gpus();
        return;
    }
    print_names("targets:", names, count);
    names = cg_target_extensions(&count);
    print_names("\nextensions, as in aarch64+dotprod+fp16, cortex-a76+dotprod or x86-64-v4+vnni:", names, count);
    print_gpus();
    printf("\ndevices:\n");
    for (int i = 0; i < n_devices; i++) print_device(&devices[i]);
}

/* ---------------------------------------------------------------------------------------------- JSON */

static void add_text(cJSON *object, const char *name, const char *text) {
    if (text) cJSON_AddStringToObject(object, name, text);
}

/* Numbers that are not known are left out. */
static void add_number(cJSON *object, const char *name, double number) {
    if (number > 0) cJSON_AddNumberToObject(object, name, number);
}

static cJSON *name_json(const CgTargetName *name) {
    cJSON *item = cJSON_CreateObject();
    add_text(item, "name", name->name);
    add_text(item, "about", name->about);
    return item;
}

static cJSON *names_json(const CgTargetName *names, size_t count) {
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; i < count; i++) cJSON_AddItemToArray(list, name_json(&names[i]));
    return list;
}

static cJSON *gpus_json(void) {
    cJSON *list = cJSON_CreateArray();
    for (int k = 1; dr_device_kind(k); k++) {
        CgTargetName gpu;
        for (int i = 0; (gpu = dr_device_kind(k)->target_name(i)).name; i++) cJSON_AddItemToArray(list, name_json(&gpu));
    }
    return list;
}

static cJSON *cluster_json(const FeCluster *c) {
    cJSON *item = cJSON_CreateObject();
    add_text(item, "cpu", c->cpu);
    add_text(item, "cpus", c->cpus);
    add_number(item, "cores", (double)c->cores);
    add_number(item, "ghz", c->ghz);
    add_number(item, "vector_bits", (double)c->vector_bits);
    add_number(item, "l1d_kb", (double)c->l1d_kb);
    add_number(item, "l2_kb", (double)c->l2_kb);
    add_text(item, "source", c->source);
    return item;
}

static cJSON *rates_json(const FeRates *rates) {
    cJSON *item = cJSON_CreateObject();
    add_number(item, "threads", (double)rates->threads);
    add_number(item, "read_gb_s", rates->read_gb_s);
    add_number(item, "cache_gb_s", rates->cache_gb_s);
    add_number(item, "panel_gflop_s", rates->panel_gflop_s);
    add_number(item, "exp_g_s", rates->exp_g_s);
    add_number(item, "phase_us", rates->phase_us);
    add_number(item, "stage_us", rates->stage_us);
    return item;
}

static cJSON *device_json(const FeDevice *d) {
    cJSON *item = cJSON_CreateObject(), *clusters = cJSON_CreateArray();
    add_text(item, "name", d->name);
    add_text(item, "about", d->about);
    add_text(item, "target", d->target);
    add_text(item, "workers", d->workers);
    add_number(item, "l3_kb", (double)d->l3_kb);
    add_number(item, "bandwidth_gb_s", d->bandwidth_gb_s);
    add_text(item, "source", d->source);
    for (int i = 0; i < d->n_clusters; i++) cJSON_AddItemToArray(clusters, cluster_json(&d->clusters[i]));
    cJSON_AddItemToObject(item, "clusters", clusters);
    if (d->has_rates) cJSON_AddItemToObject(item, "rates", rates_json(&d->rates));
    return item;
}

static void print_json(const FeDevice *devices, int n_devices) {
    cJSON *root = cJSON_CreateObject(), *list = cJSON_CreateArray();
    size_t n_names, n_extensions;
    const CgTargetName *names = cg_target_names(&n_names), *extensions = cg_target_extensions(&n_extensions);
    cJSON_AddItemToObject(root, "targets", names_json(names, n_names));
    cJSON_AddItemToObject(root, "extensions", names_json(extensions, n_extensions));
    cJSON_AddItemToObject(root, "gpus", gpus_json());
    for (int i = 0; i < n_devices; i++) cJSON_AddItemToArray(list, device_json(&devices[i]));
    cJSON_AddItemToObject(root, "devices", list);
    char *text = cJSON_Print(root);
    puts(text);
    cJSON_free(text);
    cJSON_Delete(root);
}

/* ---------------------------------------------------------------------------------------------- the command */

static const CliOption table[] = {CLI_OPTION_JSON(TargetsOptions, "print all of it as JSON, with the source of every figure")};

static int run(const CliCommand *command, CliArgs *args) {
    TargetsOptions o = {0};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    SuDiags diags = {0};
    int count = has_cpus() ? dr_known_device_count() : 0;
    FeDevice *devices = SU_NEW_ARRAY(&args->arena, FeDevice, (size_t)count);
    bool ok = true;
    for (int i = 0; i < count && ok; i++) ok = dr_known_device(i, &args->arena, &devices[i], &diags);
    if (ok && o.json) print_json(devices, count);
    if (ok && !o.json) print_tables(devices, count);
    return cli_finish(&diags, ok);
}

const CliCommand cli_targets = {
    .name = "targets",
    .summary = "list what --target takes: processors, GPUs and devices",
    .synopsis = "[OPTION]...",
    .about =
        "Lists the processors, GPUs and devices that code can be generated for. A device is a file that says what a machine can "
        "do (specs/devices): its cores, caches and memory, or a GPU's rates; --target also takes the path of such a file, which "
        "must end in .yaml.\n\n"
        "Weights and states are the same for all of them, and results, to the bit, for all but GPUs.",
    .examples = "mossc targets\n"
                "mossc compile specs/moss-tiny.yaml -w models/moss-tiny.safetensors --target galaxy-s24-ultra -o out\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .run = run,
};
