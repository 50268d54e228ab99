/* Finds and kills all that a program has started.
 *
 * Descendants are found from parent to child. Those whose parents have ended are children of the
 * reaper, as it is the subreaper (prctl(2)); their tag says to which program they belong. Where the
 * kernel does not list children (no /proc of our PID namespace, or no CONFIG_PROC_CHILDREN), the tag of
 * every possible pid is read. */
#include "reaper.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_ROUNDS 1000
#define PIDS (4 * 1024 * 1024) /* the kernel has no higher ones (PID_MAX_LIMIT) */

struct member {
    pid_t pid;
    int fd; /* a pidfd: a reused pid cannot be hit */
};

static uint64_t ours;
static struct member *members;
static int count, room;

void tree_prepare(uint64_t tag) {
    ours = tag & TAG_OURS_MASK;
}

static char *contents(const char *path) {
    static char *text;
    static size_t size;
    if (!proc_is_ours())
        return NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    size_t have = 0;
    for (;;) {
        if (have + 4096 > size) {
            char *more = realloc(text, size = have + 65536);
            if (!more)
                abort();
            text = more;
        }
        ssize_t n = read(fd, text + have, size - have - 1);
        if (n <= 0)
            break;
        have += n;
    }
    close(fd);
    text[have] = 0;
    return text;
}

/* The parent, or 0. */
static pid_t parent_of(pid_t pid) {
    char path[64], *text, *at;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    text = contents(path);
    at = text ? strrchr(text, ')') : NULL;
    return at && strlen(at) > 4 ? atoi(at + 4) : 0;
}

/* The tag that it carries; 0 if it carries none of this reaper's. */
static uint64_t mark_of(pid_t pid) {
    static const int marks[] = MARKS;
    struct rlimit limit;
    for (unsigned i = 0; i < sizeof marks / sizeof *marks; i++) {
        if (prlimit(pid, marks[i], NULL, &limit) != 0)
            return 0;
        if ((limit.rlim_cur & TAG_OURS_MASK) == ours)
            return limit.rlim_cur;
    }
    return 0;
}

/* Processes of other users, which we can neither kill nor read the tag of: remembered while their
 * program was known. */
static struct claim {
    pid_t pid;
    int fd;
    uint64_t tag;
} *claims;
static int claim_count;

static uint64_t claimed(pid_t pid) {
    for (int i = 0; i < claim_count; i++) {
        struct pollfd p = {claims[i].fd, POLLIN, 0};
        if (poll(&p, 1, 0) != 0) { /* it has ended */
            close(claims[i].fd);
            claims[i--] = claims[--claim_count];
        } else if (claims[i].pid == pid) {
            return claims[i].tag;
        }
    }
    return 0;
}

static void claim(struct member m, uint64_t tag) {
    if (!tag || claimed(m.pid))
        return;
    claims = realloc(claims, (claim_count + 1) * sizeof *claims);
    if (!claims)
        abort();
    int fd = fcntl(m.fd, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0)
        claims[claim_count++] = (struct claim){m.pid, fd, tag};
}

/* The tag of the program that a child of ours belongs to, or 0 if that is unknown. */
static uint64_t owner(pid_t pid) {
    uint64_t tag = table_tag(pid);
    if (tag || (tag = mark_of(pid)) || (tag = claimed(pid)))
        return tag;
    tag = table_tag(getsid(pid));
    return tag ? tag : table_tag(getpgid(pid));
}

static bool open_groups[TAG_GROUP(UINT64_MAX) + 1];
static int open_count;

static void set_open(uint64_t tag, bool open) {
    bool *group = &open_groups[TAG_GROUP(tag)];
    open_count += open - *group;
    *group = open;
}

void tree_started(uint64_t tag) {
    set_open(tag, true);
}

void tree_killing(uint64_t mask, uint64_t value) {
    if (!(mask & TAG_NUMBER_MASK))
        set_open(value, false);
}

/* Whether a selection includes orphans without a tag (PAM sets all limits, as with su): yes at our
 * end, and for a whole group if no other group could own them. */
static bool has_unmarked(uint64_t mask, uint64_t value) {
    if (value && mask & TAG_NUMBER_MASK)
        return false;
    return !value || open_count == open_groups[TAG_GROUP(value)];
}

static bool is_member(pid_t pid) {
    for (int i = 0; i < count; i++)
        if (members[i].pid == pid)
            return true;
    return false;
}

static bool is_child(pid_t pid, pid_t parent) {
    return parent_of(pid) == parent;
}

static bool has_mark(pid_t pid, pid_t unused) {
    (void)unused;
    return mark_of(pid) != 0;
}

/* A child of ours keeps its pid until it is reaped. */
static bool is_ours(pid_t pid, pid_t us) {
    return pid && us;
}

/* Add a process if *still* holds once a pidfd pins it; whether it is a new member. */
static bool add(pid_t pid, pid_t parent, bool stop, bool (*still)(pid_t, pid_t)) {
    if (is_member(pid))
        return false;
    int fd = syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return false;
    if (!still(pid, parent)) {
        close(fd);
        return false;
    }
    if (stop)
        syscall(SYS_pidfd_send_signal, fd, SIGSTOP, NULL, 0);
    if (count == room) {
        members = realloc(members, (room = 2 * room + 64) * sizeof *members);
        if (!members)
            abort();
    }
    members[count++] = (struct member){pid, fd};
    return true;
}

/* Append the children of one thread; -1 if the kernel does not list them (CONFIG_PROC_CHILDREN). */
static int children_of_thread(pid_t pid, pid_t thread, pid_t **found, int n) {
    char path[80];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, thread);
    char *at = contents(path);
    if (!at)
        return -1;
    for (char *end; *at; at = end) {
        pid_t child = strtol(at, &end, 10);
        if (end == at)
            break;
        if (n % 256 == 0 && !(*found = realloc(*found, (n + 256) * sizeof **found)))
            abort();
        (*found)[n++] = child;
    }
    return n;
}

/* How many children it has; -1 if the kernel does not list them, or it has ended. */
static int children(pid_t pid, pid_t **found) {
    *found = NULL;
    int n = 0;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *threads = proc_is_ours() ? opendir(path) : NULL;
    if (!threads)
        return -1;
    bool listed = false;
    for (struct dirent *d; (d = readdir(threads));) {
        int more = isdigit((unsigned char)*d->d_name)
                       ? children_of_thread(pid, atoi(d->d_name), found, n)
                       : -1;
        listed |= more >= 0;
        n = more < 0 ? n : more;
    }
    closedir(threads);
    return listed ? n : -1;
}

/* Programs that the reaper has started itself. */
static bool collect_programs(uint64_t mask, uint64_t value, bool stop) {
    bool fresh = false;
    pid_t us = getpid();
    if (mask == UINT64_MAX) {
        pid_t pid = table_pid(value);
        return pid && add(pid, us, stop, is_ours);
    }
    for (struct program *p = NULL; (p = table_next(p));)
        if ((p->tag & mask) == value)
            fresh |= add(p->pid, us, stop, is_ours);
    return fresh;
}

/* Pids are assigned in ascending order: all that was started since our own start is between our pid
 * and that of a process started now, unless pids have wrapped around. Reading the tags of all
 * possible pids takes seconds. */
static bool collect_marked(uint64_t mask, uint64_t value, bool stop) {
    bool fresh = false;
    pid_t last = spawn_last();
    for (pid_t pid = last ? getpid() : 2, end = last ? last : PIDS; pid <= end; pid++) {
        uint64_t tag = mark_of(pid);
        if (tag && (tag & mask) == value)
            fresh |= add(pid, 0, stop, has_mark);
    }
    return fresh;
}

/* Add the selected programs and all their descendants to members; whether there are new ones. */
static bool collect(uint64_t mask, uint64_t value, bool stop) {
    bool fresh = collect_programs(mask, value, stop);
    pid_t *found, us = getpid();
    int n = children(us, &found);
    for (int i = 0; i < n; i++) {
        uint64_t tag = owner(found[i]);
        if (tag ? (tag & mask) == value : has_unmarked(mask, value))
            fresh |= add(found[i], us, stop, is_ours);
    }
    free(found);
    if (n < 0)
        return fresh | collect_marked(mask, value, stop);
    for (int at = 0; at < count; at++) {
        n = children(members[at].pid, &found);
        for (int i = 0; i < n; i++)
            fresh |= add(found[i], members[at].pid, stop, is_child);
        free(found);
    }
    return fresh;
}

static void forget(void) {
    while (count)
        close(members[--count].fd);
}

/* A stopped process cannot fork: the kernel restarts fork() while a signal is pending. So when a round
 * finds no new process, these are all, and they are killed together. Processes that run as another user
 * cannot be signalled. */
int tree_kill(uint64_t mask, uint64_t value) {
    for (int round = 0; round < MAX_ROUNDS && collect(mask, value, true); round++)
        ;
    int left = count;
    for (int i = 0; i < count; i++)
        if (syscall(SYS_pidfd_send_signal, members[i].fd, SIGKILL, NULL, 0) != 0 && errno == EPERM)
            claim(members[i], value);
    forget();
    return left;
}

int tree_list(uint64_t mask, uint64_t value, pid_t **pids) {
    collect(mask, value, false);
    int n = count;
    *pids = malloc((n + 1) * sizeof **pids);
    if (!*pids)
        abort();
    for (int i = 0; i < n; i++)
        (*pids)[i] = members[i].pid;
    forget();
    return n;
}
