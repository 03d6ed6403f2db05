#include "cli/show.h"

#include <stdio.h>

#include "cli/options.h"

static bool saw_bug;

void cli_show(const SuDiags *diags) {
    su_diags_print(diags, stderr);
    saw_bug = saw_bug || diags->failure.code == SU_OUR_BUG;
}

int cli_finish(SuDiags *diags, bool ok) {
    fflush(stdout);
    cli_show(diags);
    su_diags_free(diags);
    return ok ? CLI_OK : CLI_FAILED;
}

bool cli_saw_bug(void) { return saw_bug; }
