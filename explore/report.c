/* The page: explore/report/report.html, whose marks {{NAME}} stand for the other files there, and {{data}} for the study. */
#include "explore/report.h"

#include <string.h>

#include "explore/report_data.h"
#include "explore/report_files.h"
#include "support/file.h"

static const DrEmbedded *find_file(const char *name, size_t size) {
    const DrEmbedded *file = ex_report_files;
    while (file->name && (strlen(file->name) != size || memcmp(file->name, name, size) != 0)) file++;
    return file->name ? file : NULL;
}

/* JSON within <script>: a "<" stands only in texts, where it may be written so. The page then ends where it should, whatever a text has
 * in it: </script>, <!--. */
static void add_data(const SuText *data, SuText *out) {
    for (size_t at = 0; at < data->size;) {
        size_t size = strcspn(data->text + at, "<");
        su_text_append(out, data->text + at, size);
        at += size;
        if (at < data->size) su_text_add(out, "\\u003c");
        at += at < data->size;
    }
}

static void add_part(const char *name, size_t size, const SuText *data, SuText *out) {
    const DrEmbedded *file = find_file(name, size);
    if (file)
        su_text_append(out, file->begin, (size_t)(file->end - file->begin));
    else
        add_data(data, out);
}

static void fill(const SuText *data, SuText *out) {
    const DrEmbedded *page = &ex_report_files[0];
    for (const char *at = page->begin; at < page->end;) {
        const char *mark = memmem(at, (size_t)(page->end - at), "{{", 2), *end = mark ? strstr(mark, "}}") : NULL;
        su_text_append(out, at, (size_t)((mark ? mark : page->end) - at));
        if (mark) add_part(mark + 2, (size_t)(end - mark - 2), data, out);
        at = mark ? end + 2 : page->end;
    }
}

static bool write_page(ExStudy *study, const char *directory, SuDiags *diags) {
    SuText data = {0}, page = {0};
    bool ok = ex_study_open(directory, study, diags) && ex_report_data(study, &data, diags);
    if (ok) fill(&data, &page);
    ok = ok && su_out_write(su_printf(&study->arena, "%s/report.html", directory), page.text, page.size, diags);
    su_text_free(&data);
    su_text_free(&page);
    return ok;
}

bool ex_report_write(const char *directory, SuDiags *diags) {
    ExStudy study;
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "writing the report")) return false;
    bool ok = write_page(&study, directory, diags);
    ex_study_close(&study);
    su_guard_end(&guard);
    return ok;
}
