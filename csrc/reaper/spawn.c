/* Starting a program. The child shares our memory until it execs, as with vfork, so nothing is copied,
 * and reports errors in that memory. The reaper is small, so a start costs the same however large the
 * requesting process is. */
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
static bool pids_wrapped; /* since our start */
static int parent_status = -1;
static mode_t parent_umask = 022;
static struct rlimit own[RLIM_NLIMITS], limits[RLIM_NLIMITS]; /* ours, and the parent's */

/* Whether /proc shows our PID namespace. In a namespace without a mount of its own it shows another
 * one, with other processes under the same numbers. */
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

/* The program gets the limits and the umask that it would get from the parent itself. They are read
 * at each start: the parent may have changed them. */
static void read_parent(void) {
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

/* Set the parent's limits, and the tag. All that the program ever starts inherits the tag; it survives
 * exec, an empty environment and a new session. */
static void set_limits(uint64_t tag) {
    static const int marks[] = MARKS;
    unsigned mark = 0;
    while (mark < sizeof marks / sizeof *marks && limits[marks[mark]].rlim_max < tag)
        mark++;
    /* If no hard limit is high enough, raise the first; that needs CAP_SYS_RESOURCE. */
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

/* Source and target numbers may overlap: move the sources out of the way first. */
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

/* Look it up on the PATH that the program will have. */
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
    /* If the reaper itself is killed, only the kernel can end the program. */
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
    pids_wrapped |= pid < newest;
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
    return pids_wrapped ? 0 : pid;
}

pid_t spawn(struct spawn *s) {
    s->stage = STAGE_START;
    s->error = 0;
    read_parent();
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
