/* keeper REQUESTS PARENT: a socket, and a pidfd of the process that we work for. */
#include "reaper.h"

#include <errno.h>
#include <limits.h>
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
#define SHORTLY_MS 2 /* until the next round of a kill; until a start is told that is not urgent */
#define SHORT_ROUNDS 50 /* so many rounds of a kill come shortly; then each pause is twice as long */
#define LONGEST_MS 1000
#define GIVE_UP_MS 10000 /* without progress, at our end */

struct doomed {
    struct doomed *next;
    uint64_t mask, value;
    int channel, rounds;
    unsigned pause; /* ms */
    uint64_t due; /* ns: the next round */
};

static int requests;
static struct doomed *doomed;
static uint64_t next_kill; /* ns: not before */

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t microseconds(struct timeval t) {
    return t.tv_sec * 1000000ull + t.tv_usec;
}

/* Whether somebody wants to know; all signals are blocked, also that of a broken pipe. */
static bool answer(int channel, const void *data, size_t size) {
    for (ssize_t n; size; data = (const char *)data + n, size -= n)
        if ((n = write(channel, data, size)) <= 0)
            return false;
    return true;
}

/* The last word. It never blocks, for there is room in the pipe. */
static void tell(int channel, const void *data, size_t size) {
    answer(channel, data, size);
    close(channel);
}

/* Who waited long for a doomed process looks soon: perhaps it was this one. */
static void hasten(uint64_t tag) {
    for (struct doomed *d = doomed; d; d = d->next)
        if (!tag || (tag & d->mask) == d->value)
            d->due = 0;
}

static void reap(void) {
    struct rusage use;
    int status;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG, &use)) > 0) {
        struct program *p = table_program(pid);
        hasten(p ? p->tag : 0);
        if (!p)
            continue; /* somebody's orphan */
        struct {
            struct reply start;
            struct end end;
        } news = {{.value = pid}, {status, now(), microseconds(use.ru_utime),
                                   microseconds(use.ru_stime), use.ru_maxrss}};
        if (p->due)
            tell(p->channel, &news, sizeof news);
        else
            tell(p->channel, &news.end, sizeof news.end);
        table_remove(p);
    }
}

/* Of the programs that run by now. */
static void tell_starts(void) {
    struct program *p;
    while ((p = table_untold()) && p->due <= now()) {
        answer(p->channel, &(struct reply){.value = p->pid}, sizeof(struct reply));
        table_told(p);
    }
}

/* Ever more rarely: who has become another user, or waits for a device, may stay for long. */
static unsigned longer(unsigned pause, int rounds) {
    return rounds < SHORT_ROUNDS ? SHORTLY_MS : 2 * pause < LONGEST_MS ? 2 * pause : LONGEST_MS;
}

/* Not at each death: of a thousand dying at once, that would look at all each time. */
static void kill_doomed(void) {
    if (!doomed || now() < next_kill)
        return;
    bool looked = false;
    for (struct doomed **at = &doomed; *at;) {
        struct doomed *d = *at;
        if (now() >= d->due) {
            looked = true;
            if (tree_kill(d->mask, d->value) == 0) {
                tell(d->channel, "", 1);
                *at = d->next;
                free(d);
                continue;
            }
            d->pause = longer(d->pause, d->rounds++);
            d->due = now() + d->pause * 1000000ull;
        }
        at = &d->next;
    }
    if (looked)
        next_kill = now() + SHORTLY_MS * 1000000ull;
}

/* All but the detached, and then nothing is left to do. What does not end by then will not be ended
 * by us: it runs as another user, or the kernel ends it once its device answers. */
static void end(void) {
    unsigned pause = SHORTLY_MS;
    int rounds = 0, least = INT_MAX;
    uint64_t progress = now();
    for (int left; reap(), (left = tree_kill(TAG_DETACHED, 0)) > 0; rounds++) {
        if (left < least) {
            least = left;
            progress = now();
        }
        if (now() - progress > GIVE_UP_MS * 1000000ull)
            break;
        poll(NULL, 0, pause = longer(pause, rounds));
    }
    exit(0);
}

/* ms until there is something to do that nobody wakes us for; -1: nothing. */
static int timeout(void) {
    if (table_untold())
        return SHORTLY_MS;
    uint64_t first = UINT64_MAX;
    for (struct doomed *d = doomed; d; d = d->next)
        if (d->due < first)
            first = d->due;
    if (first == UINT64_MAX)
        return -1;
    if (first < next_kill)
        first = next_kill;
    uint64_t at = now();
    return first <= at ? 0 : (first - at) / 1000000 + 1;
}

/* How many descriptors came along. */
static int receive(struct request *r, char *body, int *fds) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(MAX_FDS * sizeof(int))];
    } control;
    struct iovec io[] = {{r, sizeof *r}, {body, MAX_PACKET}};
    struct msghdr m = {.msg_iov = io, .msg_iovlen = 2, .msg_control = &control,
                       .msg_controllen = sizeof control};
    if (recvmsg(requests, &m, MSG_CMSG_CLOEXEC) < (ssize_t)sizeof *r)
        end();
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

static struct reply start(const struct request *r, char *body, const int *fds, int channel) {
    char *at = body + r->targets * sizeof(int32_t);
    struct spawn s = {.fds = fds, .targets = (int32_t *)body, .count = r->targets, .tag = r->tag,
                      .terminal = r->flags & SPAWN_TERMINAL, .detached = r->tag & TAG_DETACHED};
    s.cwd = at;
    at += strlen(at) + 1;
    s.argv = strings(&at, r->argc);
    s.envp = strings(&at, r->envc);
    pid_t pid = spawn(&s);
    if (pid > 0) {
        tree_started(r->tag);
        uint64_t due = r->flags & SPAWN_UNHURRIED ? now() + SHORTLY_MS * 1000000 : 0;
        table_add((struct program){pid, channel, r->tag, due});
    }
    free(s.argv);
    free(s.envp);
    return (struct reply){s.error, s.stage, pid};
}

static struct reply send_signal(const struct request *r) {
    pid_t pid = table_pid(r->tag); /* not reaped, so the number is still its own */
    bool group = r->flags & SIGNAL_GROUP;
    if (!pid || kill(group ? -pid : pid, r->number) != 0)
        return (struct reply){.error = pid ? errno : ESRCH};
    return (struct reply){0};
}

static struct reply doom(const struct request *r, int channel) {
    struct doomed *d = malloc(sizeof *d);
    if (!d)
        abort();
    *d = (struct doomed){.next = doomed, .mask = r->mask, .value = r->tag, .channel = channel};
    tree_doomed(r->mask, r->tag);
    doomed = d;
    return (struct reply){0};
}

static void list(const struct request *r, int channel) {
    pid_t *pids;
    reap();
    struct reply reply = {.value = tree_list(r->mask, r->tag, &pids)};
    if (answer(channel, &reply, sizeof reply))
        answer(channel, pids, reply.value * sizeof *pids);
    free(pids);
}

/* Whether the channel is kept, for there is more to say. */
static bool handle(const struct request *r, char *body, const int *fds, int channel) {
    if (r->op == OP_LIST) {
        list(r, channel);
        return false;
    }
    struct reply reply = r->op == OP_SPAWN    ? start(r, body, fds, channel)
                         : r->op == OP_SIGNAL ? send_signal(r)
                                              : doom(r, channel);
    if (reply.error || !(r->op == OP_SPAWN && r->flags & SPAWN_UNHURRIED))
        answer(channel, &reply, sizeof reply);
    next_kill = 0;
    return r->op != OP_SIGNAL && !reply.error;
}

static void handle_request(void) {
    static char packet[MAX_PACKET + 1];
    struct request r;
    int fds[MAX_FDS];
    int count = receive(&r, packet, fds), first = 1 + !!(r.flags & IN_FILE);
    bool kept = false;
    if (count == first + (int)r.targets) { /* else the kernel could not give us all */
        char *body = first == 1 ? packet : malloc(r.size + 1);
        if (!body)
            abort();
        if (first == 1 || pread(fds[1], body, r.size, 0) == (ssize_t)r.size) {
            body[r.size] = 0;
            kept = handle(&r, body, fds + first, fds[0]);
        }
        if (body != packet)
            free(body);
    } else if (count) {
        answer(fds[0], &(struct reply){.error = EMFILE}, sizeof(struct reply));
    }
    while (count > kept)
        close(fds[--count]);
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    requests = atoi(argv[1]);
    int parent = atoi(argv[2]);
    for (int i = 1; i < argc; i++)
        fcntl(atoi(argv[i]), F_SETFD, FD_CLOEXEC);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    /* What nohup or a shell's & has ignored would be ignored by all programs; and if SIGCHLD were,
     * none could be waited for. */
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
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
        struct pollfd fds[] = {{requests, POLLIN, 0}, {children, POLLIN, 0}, {parent, POLLIN, 0}};
        poll(fds, 3, timeout());
        if (fds[2].revents)
            end();
        if (fds[1].revents) {
            struct signalfd_siginfo info; /* however many have ended, there is only one */
            if (read(children, &info, sizeof info) > 0)
                reap();
        }
        if (fds[0].revents)
            handle_request();
        tell_starts();
        kill_doomed();
    }
}
