/* The first process of an emulated PC (pc.py): runs run_cases, says how it ended, and switches the PC off. */
#include <stdio.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        execl("/run_cases", "run_cases", "/cases", (char *)NULL);
        _exit(127);
    }
    if (child > 0) waitpid(child, &status, 0);
    printf("run_cases ended with status %d\n", status);
    fflush(stdout);
    sleep(1); /* the kernel writes on */
    reboot(RB_POWER_OFF);
    return 1;
}
