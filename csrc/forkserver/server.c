/* The thread that serves requests, and the fork. */
#include "forkserver.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int control;
static enum lifetime lifetime;
static const void *main_thread;
static pid_t main_tid;

/* MSG_NOSIGNAL: QEMU ignores SIGPIPE, but only once it has come so far. */
static bool answer(const struct reply *reply) {
    return send(control, reply, sizeof *reply, MSG_NOSIGNAL) == sizeof *reply;
}

/* Nobody sends requests any more. The thread never ends: in a clone the process is known by it. */
static _Noreturn void retire(void) {
    if (lifetime == WITH_CONTROL)
        kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Receives a request and its descriptors, of which there are as many as returned. */
static int receive(struct request *request, int *given) {
    union {
        char space[CMSG_SPACE(sizeof(int) * (MAX_REPLACEMENTS + 1))];
        struct cmsghdr align;
    } rights;
    struct iovec part = {.iov_base = request, .iov_len = sizeof *request};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = rights.space,
        .msg_controllen = sizeof rights.space,
    };
    ssize_t size;
    do
        size = recvmsg(control, &message, MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    if (size <= 0)
        retire();
    int count = 0;
    const struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (head && head->cmsg_type == SCM_RIGHTS) {
        count = (int)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(given, CMSG_DATA(head), sizeof(int) * (size_t)count);
    }
    if (size != sizeof *request || message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        request->count = UINT32_MAX;
    return count;
}

static bool is_valid(const struct request *request, int given, struct reply *reply) {
    if (given == 0 || request->count != (uint32_t)given - 1)
        return problem(reply, MALFORMED, 0);
    for (uint32_t i = 0; i < request->count; i++)
        if (fcntl(request->targets[i], F_GETFD) < 0 || request->targets[i] == control)
            return problem(reply, NOT_A_TARGET, request->targets[i]);
    /* The clone will be our parent's child; only the parent can wait for it. Unless the requester
     * can do without. */
    return !request->parent || getppid() == request->parent || problem(reply, NOT_OUR_CHILD, getppid());
}

/* Checks the parent once the signal is armed: if it had ended before, none would ever be sent. */
static void leave_template(const struct request *request) {
    setsid();
    lifetime = request->lifetime;
    if (lifetime == WITH_PARENT) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != request->parent)
            _exit(1);
    }
}

/* In the clone. It lives only if the requester confirms that it knows of it. */
static void become_clone(const struct request *request, const int *given) {
    struct reply reply = {.outcome = READY};
    char acknowledged;
    leave_template(request);
    if (dup3(given[request->count], control, O_CLOEXEC) < 0)
        _exit(1);
    close(given[request->count]);
    bool good = mappings_private(&reply) &&
                descriptors_renew(request, given, control, &reply) &&
                threads_resume(request->deadline, &reply);
    if (good)
        reply.subject = getpid();
    if (!answer(&reply) || !good || recv(control, &acknowledged, 1, 0) != 1)
        _exit(1);
}

/* As fork() does, but without its handlers, which take locks; and the clone is our parent's child.
 * True in the clone. */
static bool clone_process(struct reply *reply) {
    const long flags = CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;
    int *id = threads_own_id();
#if defined(__x86_64__)
    long pid = syscall(SYS_clone, flags, 0, NULL, id, 0);
#else
    long pid = syscall(SYS_clone, flags, 0, NULL, 0, id);
#endif
    if (pid > 0) {
        reply->outcome = FORKED;
        reply->subject = (int)pid;
    } else if (pid < 0) {
        problem(reply, NOT_CLONED, 0);
    }
    return pid == 0;
}

static void serve_one(void) {
    struct request request;
    struct reply reply = {.outcome = READY};
    int given[MAX_REPLACEMENTS + 1];
    int count = receive(&request, given);
    if (is_valid(&request, count, &reply) && threads_park(request.deadline, &reply)) {
        if (clone_process(&reply)) {
            become_clone(&request, given);
            return;
        }
        threads_release();
    }
    for (int i = 0; i < count; i++)
        close(given[i]);
    answer(&reply);
}

static void *serve(void *unused) {
    (void)unused;
    struct reply hello = {.outcome = READY, .subject = getpid()};
    if (!threads_prepare(main_thread, main_tid))
        problem(&hello, UNKNOWN_LIBC, 0);
    if (!answer(&hello) || hello.outcome != READY)
        retire();
    for (;;)
        serve_one();
}

static void report_exit(int status, void *unused) {
    (void)unused;
    struct reply reply = {.outcome = EXITED, .subject = status};
    if (lifetime == WITH_CONTROL)
        answer(&reply);
}

/* Programs that QEMU starts have no use for us. */
static void clean_environment(void) {
    const char *preloaded = getenv("LD_PRELOAD"), *others = preloaded ? strchr(preloaded, ':') : NULL;
    if (others)
        setenv("LD_PRELOAD", others + 1, 1);
    else
        unsetenv("LD_PRELOAD");
    unsetenv("CORE_INFRA_FORK_SERVER");
}

/* The thread has all signals blocked, from its first moment: QEMU's are for QEMU's threads. */
static __attribute__((constructor)) void start(void) {
    const char *fd = getenv("CORE_INFRA_FORK_SERVER");
    sigset_t all, before;
    pthread_t thread;
    if (!fd) { /* only for its disks */
        clean_environment();
        return;
    }
    control = atoi(fd);
    /* If this is a script that starts QEMU later, the requester sees the end of the connection. */
    if (fcntl(control, F_SETFD, FD_CLOEXEC) < 0)
        return;
    clean_environment();
    main_thread = (const void *)pthread_self();
    main_tid = getpid();
    on_exit(report_exit, NULL);
    sigfillset(&all);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, 8);
    pthread_create(&thread, NULL, serve, NULL);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, 8);
}
