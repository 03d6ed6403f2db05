#include "cli/show.h"

static bool saw_bug;

void cli_show(const SuDiags *diags) {
    su_diags_print(diags, stderr);
    saw_bug = saw_bug || diags->failure.code == SU_OUR_BUG;
}

bool cli_saw_bug(void) { return saw_bug; }
