/* reaper REQUESTS PARENT: a socket, and a pidfd of the parent. */
#include "reaper.h"
#include "reset_signals.h"

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
#define SHORT_MS 2 /* until the next round of a kill; until a start must be reported */
#define SHORT_PAUSES 50 /* rounds of a kill with short pauses; then each pause is twice as long */
#define MAX_PAUSE_MS 1000
#define GIVE_UP_MS 10000 /* without progress, at our end */

/* A request to kill a selection; repeated until nothing of it is left. */
struct kill {
    struct kill *next;
    uint64_t mask, value;
    int channel, rounds;
    unsigned pause; /* ms */
    uint64_t due; /* ns: the next round */
};

static int requests;
static struct kill *kills;
static uint64_t next_kill; /* ns: no kill runs before */

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t microseconds(struct timeval t) {
    return t.tv_sec * 1000000ull + t.tv_usec;
}

/* Whether the requester still reads. All signals are blocked, SIGPIPE among them. */
static bool answer(int channel, const void *data, size_t size) {
    for (ssize_t n; size; data = (const char *)data + n, size -= n)
        if ((n = write(channel, data, size)) <= 0)
            return false;
    return true;
}

/* The last answer. It never blocks: the pipe has room for it. */
static void answer_last(int channel, const void *data, size_t size) {
    answer(channel, data, size);
    close(channel);
}

/* Retry kills soon that have long pauses: perhaps the process that has ended was their last. */
static void expedite(uint64_t tag) {
    for (struct kill *k = kills; k; k = k->next)
        if (!tag || (tag & k->mask) == k->value)
            k->due = 0;
}

static void reap(void) {
    struct rusage use;
    int status;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG, &use)) > 0) {
        struct program *p = table_program(pid);
        expedite(p ? p->tag : 0);
        if (!p)
            continue; /* an orphan */
        struct {
            struct reply start;
            struct end end;
        } report = {{.value = pid}, {status, now(), microseconds(use.ru_utime),
                                     microseconds(use.ru_stime), use.ru_maxrss}};
        if (p->report_due)
            answer_last(p->channel, &report, sizeof report);
        else
            answer_last(p->channel, &report.end, sizeof report.end);
        table_remove(p);
    }
}

/* Report starts that are due. */
static void report_starts(void) {
    struct program *p;
    while ((p = table_unreported()) && p->report_due <= now()) {
        answer(p->channel, &(struct reply){.value = p->pid}, sizeof(struct reply));
        table_mark_reported(p);
    }
}

/* Pauses grow: a process of another user, or one that waits for a device, may stay for long. */
static unsigned next_pause(unsigned pause, int rounds) {
    return rounds < SHORT_PAUSES ? SHORT_MS : 2 * pause < MAX_PAUSE_MS ? 2 * pause : MAX_PAUSE_MS;
}

/* Not at each end of a process: if a thousand end at once, each round would look at all of them. */
static void run_kills(void) {
    if (!kills || now() < next_kill)
        return;
    bool looked = false;
    for (struct kill **at = &kills; *at;) {
        struct kill *k = *at;
        if (now() >= k->due) {
            looked = true;
            if (tree_kill(k->mask, k->value) == 0) {
                answer_last(k->channel, "", 1);
                *at = k->next;
                free(k);
                continue;
            }
            k->pause = next_pause(k->pause, k->rounds++);
            k->due = now() + k->pause * 1000000ull;
        }
        at = &k->next;
    }
    if (looked)
        next_kill = now() + SHORT_MS * 1000000ull;
}

/* Kill all but the detached, and exit. What still runs then cannot be killed by us: it runs as another
 * user, or the kernel ends it once its device answers. */
static void end(void) {
    unsigned pause = SHORT_MS;
    int rounds = 0, least = INT_MAX;
    uint64_t progress = now();
    for (int left; reap(), (left = tree_kill(TAG_DETACHED, 0)) > 0; rounds++) {
        if (left < least) {
            least = left;
            progress = now();
        }
        if (now() - progress > GIVE_UP_MS * 1000000ull)
            break;
        poll(NULL, 0, pause = next_pause(pause, rounds));
    }
    exit(0);
}

/* ms until the next timer; -1: there is none. */
static int timeout(void) {
    if (table_unreported())
        return SHORT_MS;
    uint64_t first = UINT64_MAX;
    for (struct kill *k = kills; k; k = k->next)
        if (k->due < first)
            first = k->due;
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
        uint64_t due = r->flags & SPAWN_COALESCE ? now() + SHORT_MS * 1000000 : 0;
        table_add((struct program){pid, channel, r->tag, due});
    }
    free(s.argv);
    free(s.envp);
    return (struct reply){s.error, s.stage, pid};
}

static struct reply send_signal(const struct request *r) {
    pid_t pid = table_pid(r->tag); /* not reaped, so the pid is not reused */
    bool group = r->flags & SIGNAL_PROCESS_GROUP;
    if (!pid || kill(group ? -pid : pid, r->number) != 0)
        return (struct reply){.error = pid ? errno : ESRCH};
    return (struct reply){0};
}

static struct reply add_kill(const struct request *r, int channel) {
    struct kill *k = malloc(sizeof *k);
    if (!k)
        abort();
    *k = (struct kill){.next = kills, .mask = r->mask, .value = r->tag, .channel = channel};
    tree_killing(r->mask, r->tag);
    kills = k;
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

/* Whether the channel stays open, for a later answer. */
static bool handle(const struct request *r, char *body, const int *fds, int channel) {
    if (r->op == OP_LIST) {
        list(r, channel);
        return false;
    }
    struct reply reply = r->op == OP_SPAWN    ? start(r, body, fds, channel)
                         : r->op == OP_SIGNAL ? send_signal(r)
                                              : add_kill(r, channel);
    if (reply.error || !(r->op == OP_SPAWN && r->flags & SPAWN_COALESCE))
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
    if (count == first + (int)r.targets) { /* else the kernel could not pass all descriptors */
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
    /* All programs would inherit the signals that nohup or a shell's & ignores; and if SIGCHLD were
     * ignored, none could be waited for. */
    reset_signals();
    sigemptyset(&all);
    sigaddset(&all, SIGCHLD);
    int children = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_NAME, "core-reaper");
    if (chdir("/") != 0) /* do not keep a file system busy */
        return 1;
    struct rlimit files; /* each member of a tree needs a descriptor; programs get the parent's limit */
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
            struct signalfd_siginfo info; /* one signal, however many have ended */
            if (read(children, &info, sizeof info) > 0)
                reap();
        }
        if (fds[0].revents)
            handle_request();
        report_starts();
        run_kills();
    }
}
