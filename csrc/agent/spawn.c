/* Starting a process as cheaply as it goes: the child borrows our memory until it execs, so that
 * nothing is copied, and it reports its failure in that memory. */
#include "agent.h"
#include "exec_in_path.h"
#include "reset_signals.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct rlimit files;         /* what a child gets; ours is raised */
static bool files_raised;
static int oom_score = -1;          /* the file that says how soon memory is made by killing us */

/* A child has what we have at its birth; so we do without our shield for that moment. The child
 * could take it off, but then each would make itself a directory in /proc. And it puts ours on
 * again, not we: we wait for its execve(), which takes memory. Linux leaves a child that shares our
 * memory out of it, because we wait for it (vfork). */
static bool shield(bool on) {
    const char *score = on ? "-1000" : "0";
    return oom_score >= 0 && pwrite(oom_score, score, strlen(score), 0) > 0;
}

/* All signals are blocked: main.c reads those that mean something from a descriptor.
 * Their dispositions are the default, so that a child has only to unblock them. */
void spawn_prepare(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    reset_signals();
    oom_score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (!shield(true)) {
        close(oom_score);
        oom_score = -1;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    struct rlimit more = {files.rlim_max < 4096 ? files.rlim_max : 4096, files.rlim_max};
    files_raised = more.rlim_cur > files.rlim_cur && setrlimit(RLIMIT_NOFILE, &more) == 0;
}

/* Not the C library's calls: those are made for threads that share the memory for good. */
static bool become(const struct user *u) {
    return syscall(SYS_setgroups, u->group_count, u->groups) == 0 &&
           syscall(SYS_setgid, u->gid) == 0 && syscall(SYS_setuid, u->uid) == 0;
}

static int child(void *argument) {
    struct spawn *s = argument;
    sigset_t none;
    shield(true);
    setsid();
    for (int i = 0; i < 3; i++)
        dup2(s->stdio[i], i);
    if (s->terminal)
        ioctl(0, TIOCSCTTY, 0);
    if (files_raised)
        setrlimit(RLIMIT_NOFILE, &files);
    s->stage = AS_USER;
    if (!s->switch_user || become(s->user)) {
        s->stage = IN_DIRECTORY;
        bool there = chdir(s->cwd ? s->cwd : s->user->home) == 0 || (!s->cwd && chdir("/") == 0);
        if (there) {
            s->stage = RUN;
            sigemptyset(&none);
            sigprocmask(SIG_SETMASK, &none, NULL);
            exec_in_path(s->path, s->argv, s->envp);
        }
    }
    s->error = errno;
    _exit(127);
}

pid_t spawn(struct spawn *s) {
    static char stack[32 * 1024] __attribute__((aligned(16)));
    s->stage = RUN;
    s->error = 0;
    shield(false);
    pid_t pid = clone(child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, s);
    if (pid < 0) {
        s->error = errno;
        shield(true);
    }
    if (pid > 0 && s->error) {
        waitpid(pid, NULL, 0);
        pid = -1;
    }
    return pid;
}
