/* Starting a program. The child borrows our memory until it execs (as vfork does), so that nothing
 * is copied, and tells us in that memory what it could not do. We are small, so a start costs the
 * same however large the process is that asks for it. */
#include "exec_in_path.h"
#include "reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_FDS 256

static pid_t us, parent, newest;
static bool came_round; /* the numbers of processes */
static int parent_status = -1;
static mode_t parent_umask = 022;
static struct rlimit own[RLIM_NLIMITS], limits[RLIM_NLIMITS]; /* the latter of the parent */

/* Whether /proc has our numbers. In a PID namespace that mounts none of its own, it has those of
 * another one, which mean other processes. */
bool proc_is_ours(void) {
    static int known = -1;
    if (known < 0) {
        char name[16] = "";
        known = readlink("/proc/self", name, sizeof name - 1) > 0 && atoi(name) == getpid();
    }
    return known;
}

void spawn_prepare(pid_t pid) {
    us = newest = getpid();
    parent = pid;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", parent);
    if (proc_is_ours())
        parent_status = open(path, O_RDONLY | O_CLOEXEC);
    for (int i = 0; i < RLIM_NLIMITS; i++)
        getrlimit(i, &own[i]);
}

/* The program is to get what it would have got if the parent had started it itself: we look each
 * time, for the parent may have changed them since we were started. */
static void look_at_parent(void) {
    for (int i = 0; i < RLIM_NLIMITS; i++)
        if (prlimit(parent, i, NULL, &limits[i]) != 0)
            limits[i] = own[i];
    char text[256];
    ssize_t n = pread(parent_status, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    char *at = strstr(text, "\nUmask:");
    if (at)
        parent_umask = strtoul(at + 7, NULL, 8);
}

/* Those of the parent, and the tag. It is inherited by all that the program will ever start, and
 * survives exec, an empty environment and a session of its own. */
static void set_limits(uint64_t tag) {
    static const int marks[] = MARKS;
    unsigned mark = 0;
    while (mark < sizeof marks / sizeof *marks && limits[marks[mark]].rlim_max < tag)
        mark++;
    /* If none has room: whoever may (CAP_SYS_RESOURCE) raises the first. */
    int raised = mark == sizeof marks / sizeof *marks ? marks[0] : -1;
    for (int i = 0; i < RLIM_NLIMITS; i++) {
        struct rlimit limit = limits[i];
        if (raised < 0 && i == marks[mark])
            limit.rlim_cur = tag;
        if (i == raised && setrlimit(i, &(struct rlimit){tag, RLIM_INFINITY}) == 0)
            continue;
        if (memcmp(&limit, &own[i], sizeof limit) != 0)
            setrlimit(i, &limit);
    }
}

/* The descriptors may overlap with the numbers that they are to get: first out of the way. */
static bool give(const struct spawn *s) {
    int fds[MAX_FDS], above = 3;
    for (int i = 0; i < s->count; i++)
        if (s->targets[i] >= above)
            above = s->targets[i] + 1;
    for (int i = 0; i < s->count; i++) {
        fds[i] = s->fds[i] < above ? fcntl(s->fds[i], F_DUPFD_CLOEXEC, above) : s->fds[i];
        if (fds[i] < 0)
            return false;
    }
    for (int i = 0; i < s->count; i++)
        if (dup2(fds[i], s->targets[i]) < 0)
            return false;
    return true;
}

/* By the path that the program will have. */
static void run(const struct spawn *s) {
    const char *path = "/usr/local/bin:/usr/bin:/bin";
    for (char **e = s->envp; *e; e++)
        if (strncmp(*e, "PATH=", 5) == 0)
            path = *e + 5;
    exec_in_path(path, s->argv, s->envp);
}

static int child(void *argument) {
    struct spawn *s = argument;
    setsid();
    /* If even the keeper is killed, nobody else would end the program. */
    if (!s->detached && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != us))
        _exit(127);
    if (give(s)) {
        s->stage = STAGE_TERMINAL;
        if (!s->terminal || ioctl(0, TIOCSCTTY, 0) == 0) {
            s->stage = STAGE_DIRECTORY;
            if (chdir(s->cwd) == 0) {
                s->stage = STAGE_START;
                umask(parent_umask);
                set_limits(s->tag);
                sigset_t none;
                sigemptyset(&none);
                sigprocmask(SIG_SETMASK, &none, NULL);
                run(s);
            }
        }
    }
    s->error = errno;
    _exit(127);
}

static char stack[64 * 1024] __attribute__((aligned(16)));

static void note(pid_t pid) {
    came_round |= pid < newest;
    newest = pid;
}

static int nothing(void *unused) {
    (void)unused;
    _exit(0);
}

pid_t spawn_last(void) {
    pid_t pid = clone(nothing, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
    if (pid < 0)
        return 0;
    waitpid(pid, NULL, 0);
    note(pid);
    return came_round ? 0 : pid;
}

pid_t spawn(struct spawn *s) {
    s->stage = STAGE_START;
    s->error = 0;
    look_at_parent();
    pid_t pid = clone(child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, s);
    if (pid < 0)
        s->error = errno;
    else
        note(pid);
    if (pid > 0 && s->error) {
        waitpid(pid, NULL, 0);
        pid = -1;
    }
    return pid;
}
