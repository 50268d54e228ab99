/* The further lines to the host: virtio-serial ports named PREFIX1 to PREFIX9, each with an agent
 * of its own, for each serves one session at a time. They are few, and asleep while unused. */
#include "agent.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { LINES = 10 };

static pid_t agents[LINES]; /* of the first line's agent: those of the others */

bool line_is_first(const char *name) {
    size_t n = strlen(name);
    return n > 2 && strcmp(name + n - 2, ".0") == 0;
}

static void start(const char *name) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* the next agent of the first line starts others */
    execl("/proc/self/exe", "core-infra-agent", "--port", name, (char *)NULL);
    _exit(127);
}

void lines_serve(const char *first) {
    if (!first || !line_is_first(first))
        return;
    for (int i = 1; i < LINES; i++) {
        char name[128], path[64];
        snprintf(name, sizeof name, "%.*s%d", (int)strlen(first) - 1, first, i);
        bool runs = agents[i] > 0 && kill(agents[i], 0) == 0;
        if (runs || !port_find_device(name, path, sizeof path))
            continue;
        agents[i] = fork();
        if (agents[i] == 0)
            start(name);
    }
}
