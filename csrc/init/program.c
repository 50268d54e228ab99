/* Starts programs. As the first process, it is the parent of every orphan, too. */
#include "init.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ENDS_KEPT = 256 };

static struct {
    pid_t pid;
    int status;
} ends[ENDS_KEPT];
static size_t oldest; /* the place of the next end that is noted */

void report(const char *format, ...) {
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    dprintf(STDERR_FILENO, "init: %s\n", line);
}

pid_t program_start(char *const argv[], int output) {
    pid_t pid = fork();
    if (pid < 0)
        report("cannot start %s: %s", argv[0], strerror(errno));
    if (pid)
        return pid;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    if (output >= 0) {
        dup2(output, STDOUT_FILENO);
        dup2(output, STDERR_FILENO);
    }
    execv(argv[0], argv);
    dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static void note(pid_t pid, int status) {
    ends[oldest].pid = pid;
    ends[oldest].status = status;
    oldest = (oldest + 1) % ENDS_KEPT;
}

static int code(int status) {
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int program_wait(pid_t pid) {
    int status;
    if (program_took_end(pid, &status))
        return status;
    for (;;) {
        pid_t ended = waitpid(-1, &status, 0);
        if (ended == pid)
            return code(status);
        if (ended > 0)
            note(ended, code(status));
        else if (errno != EINTR)
            return -1;
    }
}

int program_run(char *const argv[], int output) {
    pid_t pid = program_start(argv, output);
    return pid < 0 ? -1 : program_wait(pid);
}

void program_note_ends(void) {
    int status;
    pid_t ended;
    while ((ended = waitpid(-1, &status, WNOHANG)) > 0)
        note(ended, code(status));
}

bool program_took_end(pid_t pid, int *status) {
    for (size_t i = 0; i < ENDS_KEPT; i++)
        if (pid && ends[i].pid == pid) {
            ends[i].pid = 0;
            *status = ends[i].status;
            return true;
        }
    return false;
}
