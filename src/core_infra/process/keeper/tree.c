/* Finding and ending all that a program has started.
 *
 * Its descendants are found from parent to child. Those whose parents have ended are children of
 * ours, since we are the subreaper (prctl(2)), and their tag tells whose they are. */
#include "keeper.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_ROUNDS 1000

struct member {
    pid_t pid;
    int fd; /* a pidfd: a number that is used anew cannot be meant */
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

/* Whose a child of ours is: its tag, or 0 if that is not to be known. */
static uint64_t owner(pid_t pid) {
    uint64_t tag = table_tag(pid);
    if (tag)
        return tag;
    struct rlimit limit;
    if (prlimit(pid, RLIMIT_LOCKS, NULL, &limit) == 0 && (limit.rlim_cur & TAG_OURS_MASK) == ours)
        return limit.rlim_cur;
    tag = table_tag(getsid(pid));
    return tag ? tag : table_tag(getpgid(pid));
}

static bool open_groups[TAG_GROUP(UINT64_MAX) + 1];

void tree_started(uint64_t tag) {
    open_groups[TAG_GROUP(tag)] = true;
}

void tree_doomed(uint64_t mask, uint64_t value) {
    if (!(mask & TAG_NUMBER_MASK))
        open_groups[TAG_GROUP(value)] = false;
}

/* Whether orphans that have lost their tag are selected, as with su, where PAM sets all limits: at
 * our end, and with a whole group if there is no other whose they could be. */
static bool has_unmarked(uint64_t mask, uint64_t value) {
    if (value && mask & TAG_NUMBER_MASK)
        return false;
    for (unsigned i = 0; value && i < sizeof open_groups; i++)
        if (open_groups[i] && i != TAG_GROUP(value))
            return false;
    return true;
}

static bool is_member(pid_t pid) {
    for (int i = 0; i < count; i++)
        if (members[i].pid == pid)
            return true;
    return false;
}

static bool add(pid_t pid, pid_t parent, bool stop) {
    if (is_member(pid))
        return false;
    int fd = syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return false;
    if (parent_of(pid) != parent) {
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

/* The children of one thread; -1 if the kernel does not tell them (CONFIG_PROC_CHILDREN). */
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

static int children(pid_t pid, pid_t **found) {
    *found = NULL;
    int n = 0;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *threads = opendir(path);
    if (!threads)
        return 0;
    for (struct dirent *d; (d = readdir(threads));) {
        int more = isdigit((unsigned char)*d->d_name)
                       ? children_of_thread(pid, atoi(d->d_name), found, n)
                       : -1;
        n = more < 0 ? n : more;
    }
    closedir(threads);
    return n;
}

/* Put into members who is selected, and all their descendants; whether there are new ones. */
static bool collect(uint64_t mask, uint64_t value, bool stop) {
    bool fresh = false;
    pid_t *found, us = getpid();
    int n = children(us, &found);
    for (int i = 0; i < n; i++) {
        uint64_t tag = owner(found[i]);
        if (tag ? (tag & mask) == value : has_unmarked(mask, value))
            fresh |= add(found[i], us, stop);
    }
    free(found);
    for (int at = 0; at < count; at++) {
        n = children(members[at].pid, &found);
        for (int i = 0; i < n; i++)
            fresh |= add(found[i], members[at].pid, stop);
        free(found);
    }
    return fresh;
}

static void forget(void) {
    while (count)
        close(members[--count].fd);
}

/* Whoever is stopped forks no more: the kernel lets no fork pass while a signal is pending. So
 * when a round finds nobody new, these are all, and they can be ended together. */
bool tree_kill(uint64_t mask, uint64_t value) {
    for (int round = 0; round < MAX_ROUNDS && collect(mask, value, true); round++)
        ;
    bool none = count == 0;
    for (int i = 0; i < count; i++)
        syscall(SYS_pidfd_send_signal, members[i].fd, SIGKILL, NULL, 0);
    forget();
    return none;
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
