/* keeper REQUESTS NEWS PARENT: two sockets and a pidfd of the process that we work for. */
#include "keeper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#define MAX_FDS 253          /* the kernel's limit for one message (SCM_MAX_FD) */
#define KILL_INTERVAL_MS 2

struct doomed {
    struct doomed *next;
    uint64_t mask, value, argument;
};

static int requests, news_socket;
static struct doomed *doomed;
static struct news unsent; /* .kind is 0 if there is none; until it is sent, nobody is reaped */

static uint64_t next_kill; /* ns */

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static bool tell(const struct news *n) {
    if (send(news_socket, n, sizeof *n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EAGAIN) {
        unsent = *n;
        return false;
    }
    unsent.kind = 0;
    return true;
}

static uint64_t microseconds(struct timeval t) {
    return t.tv_sec * 1000000ull + t.tv_usec;
}

static void reap(void) {
    struct rusage use;
    int status;
    pid_t pid;
    while (!unsent.kind && (pid = wait4(-1, &status, WNOHANG, &use)) > 0) {
        uint64_t tag = table_remove(pid);
        if (tag) /* else somebody's orphan */
            tell(&(struct news){NEWS_END, status, tag, now(), microseconds(use.ru_utime),
                                microseconds(use.ru_stime), use.ru_maxrss});
    }
}

/* Not at each death: of a thousand dying at once, that would look at all each time. */
static void kill_doomed(void) {
    if (!doomed || now() < next_kill)
        return;
    for (struct doomed **at = &doomed; *at;) {
        struct doomed *d = *at;
        if (unsent.kind || !tree_kill(d->mask, d->value)) {
            at = &d->next;
            continue;
        }
        tell(&(struct news){.kind = NEWS_GONE, .tag = d->argument, .at = now()});
        *at = d->next;
        free(d);
    }
    next_kill = now() + KILL_INTERVAL_MS * 1000000ull;
}

/* All but the detached, and then nothing is left to do. */
static void end(void) {
    while (reap(), unsent.kind = 0, !tree_kill(TAG_DETACHED, 0))
        poll(NULL, 0, KILL_INTERVAL_MS);
    exit(0);
}

static void receive(void *data, size_t size) {
    for (ssize_t n; size; data = (char *)data + n, size -= n)
        if ((n = recv(requests, data, size, 0)) <= 0)
            end();
}

static void answer(const void *data, size_t size) {
    for (ssize_t n; size; data = (const char *)data + n, size -= n)
        if ((n = send(requests, data, size, MSG_NOSIGNAL)) <= 0)
            end();
}

/* A request begins with its header, and that brings the descriptors. */
static int receive_header(struct request *r, int *fds) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(MAX_FDS * sizeof(int))];
    } control;
    struct iovec io = {r, sizeof *r};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = &control,
                       .msg_controllen = sizeof control};
    ssize_t n = recvmsg(requests, &m, MSG_CMSG_CLOEXEC);
    if (n <= 0)
        end();
    receive((char *)r + n, sizeof *r - n);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (!c)
        return 0;
    int count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(c), count * sizeof(int));
    return count;
}

static char **strings(char **at, uint32_t n) {
    char **list = malloc((n + 1) * sizeof *list);
    if (!list)
        abort();
    for (uint32_t i = 0; i < n; i++, *at += strlen(*at) + 1)
        list[i] = *at;
    list[n] = NULL;
    return list;
}

static struct reply start(const struct request *r, char *body, const int *fds, int count) {
    char *at = body + r->targets * sizeof(int32_t);
    struct spawn s = {.fds = fds, .targets = (int32_t *)body, .count = count, .tag = r->tag,
                      .terminal = r->flags & SPAWN_TERMINAL, .detached = r->tag & TAG_DETACHED};
    if ((uint32_t)count != r->targets)
        return (struct reply){.error = EMFILE}; /* the kernel could not give us all */
    s.cwd = at;
    at += strlen(at) + 1;
    s.argv = strings(&at, r->argc);
    s.envp = strings(&at, r->envc);
    pid_t pid = spawn(&s);
    if (pid > 0)
        table_add(pid, r->tag);
    free(s.argv);
    free(s.envp);
    return (struct reply){s.error, s.stage, pid};
}

static struct reply send_signal(const struct request *r) {
    pid_t pid = table_pid(r->tag); /* not reaped, so the number is still its own */
    bool group = r->flags & SIGNAL_GROUP;
    if (!pid || kill(group ? -pid : pid, r->argument) != 0)
        return (struct reply){.error = pid ? errno : ESRCH};
    return (struct reply){0};
}

static struct reply doom(const struct request *r) {
    struct doomed *d = malloc(sizeof *d);
    if (!d)
        abort();
    *d = (struct doomed){doomed, r->mask, r->tag, r->argument};
    doomed = d;
    return (struct reply){0};
}

static void list(const struct request *r) {
    pid_t *pids;
    reap();
    struct reply reply = {.value = tree_list(r->mask, r->tag, &pids)};
    answer(&reply, sizeof reply);
    answer(pids, reply.value * sizeof *pids);
    free(pids);
}

static void handle_request(void) {
    struct request r;
    int fds[MAX_FDS];
    int count = receive_header(&r, fds);
    char *body = malloc(r.size + 1);
    if (!body)
        abort();
    receive(body, r.size);
    body[r.size] = 0;
    if (r.op == OP_LIST) {
        list(&r);
    } else {
        struct reply reply = r.op == OP_SPAWN    ? start(&r, body, fds, count)
                             : r.op == OP_SIGNAL ? send_signal(&r)
                                                 : doom(&r);
        answer(&reply, sizeof reply);
        next_kill = 0;
    }
    while (count)
        close(fds[--count]);
    free(body);
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    requests = atoi(argv[1]);
    news_socket = atoi(argv[2]);
    int parent = atoi(argv[3]);
    for (int i = 1; i < argc; i++)
        fcntl(atoi(argv[i]), F_SETFD, FD_CLOEXEC);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGCHLD, SIG_DFL); /* if it were ignored, nobody could be waited for */
    sigemptyset(&all);
    sigaddset(&all, SIGCHLD);
    int children = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_NAME, "core-keeper");
    if (chdir("/") != 0) /* no directory is held */
        return 1;
    struct rlimit files; /* each member of a tree takes one; programs get the parent's limit */
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    spawn_prepare(getppid());
    tree_prepare((uint64_t)1 << 62 | (uint64_t)getpid() << 40);
    for (;;) {
        struct pollfd fds[] = {{requests, POLLIN, 0},
                               {children, unsent.kind ? 0 : POLLIN, 0},
                               {parent, POLLIN, 0},
                               {news_socket, unsent.kind ? POLLOUT : 0, 0}};
        poll(fds, 4, doomed ? KILL_INTERVAL_MS : -1);
        if (fds[2].revents || fds[3].revents & (POLLERR | POLLHUP))
            end();
        if (fds[3].revents && tell(&unsent))
            reap(); /* their signals have been read already */
        if (fds[1].revents) {
            struct signalfd_siginfo info;
            while (read(children, &info, sizeof info) > 0)
                ;
            reap();
        }
        if (fds[0].revents)
            handle_request();
        kill_doomed();
    }
}
