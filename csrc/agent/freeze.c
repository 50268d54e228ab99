/* FREEZE and THAW: all other processes are stopped from before a snapshot is taken until each clone
 * of it has an identity of its own.
 *
 * The freezer of cgroup v2 (Linux 5.2) stops whole groups without their processes noticing: parents
 * and debuggers would see SIGSTOP. Processes in the root group cannot be frozen there, so they are
 * moved. Moved into a group that is frozen already, a process stops before it can fork.
 */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OUR_GROUP "core-infra"
#define KERNEL_THREAD 0x00200000ul /* PF_KTHREAD */

enum { MAX_GROUPS_FROZEN = 64, PATIENCE_MS = 5000 };

static struct group {
    ino_t number;
    int freeze, events;        /* the files of these names; open until the next FREEZE, for speed */
} groups[MAX_GROUPS_FROZEN];
static size_t count;
static bool frozen;
static int root = -1;          /* the root group's directory */
static uint64_t deadline;

static bool late(void) {
    errno = ETIMEDOUT;
    return now() > deadline;
}

static ssize_t read_text(int fd, char *text, size_t size) {
    ssize_t n = fd < 0 ? -1 : pread(fd, text, size - 1, 0);
    text[n > 0 ? n : 0] = 0;
    return n;
}

/* A mount of our own, in no directory: the image may have mounted it anywhere, or nowhere. */
static bool open_root(void) {
    if (root >= 0)
        return true;
    int context = (int)syscall(SYS_fsopen, "cgroup2", FSOPEN_CLOEXEC);
    if (context >= 0 && syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        root = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
    int error = errno;
    if (context >= 0)
        close(context);
    errno = error;
    return root >= 0;
}

static void forget_groups(void) {
    while (count) {
        close(groups[--count].freeze);
        close(groups[count].events);
    }
}

static bool is_known(ino_t number) {
    for (size_t i = 0; i < count; i++)
        if (groups[i].number == number)
            return true;
    return false;
}

/* Freeze a group and note it, for THAW. One that is frozen already is left alone. */
static bool freeze_group(int directory, ino_t number, bool ours) {
    char state[4];
    struct group g = {number, openat(directory, "cgroup.freeze", O_RDWR | O_CLOEXEC),
                      openat(directory, "cgroup.events", O_RDONLY | O_CLOEXEC)};
    bool here = read_text(g.freeze, state, sizeof state) > 0 && g.events >= 0;
    bool wanted = here && (ours || *state == '0');
    bool room = count < MAX_GROUPS_FROZEN;
    if (wanted && room && write(g.freeze, "1", 1) == 1) {
        groups[count++] = g;
        return true;
    }
    int error = room ? errno : E2BIG;
    close(g.freeze);
    close(g.events);
    errno = error;
    return !wanted && (here || (!ours && (error == ENOENT || error == ENODEV))); /* removed */
}

/* Freeze the groups below the root that are not yet; how many, or -1. */
static int freeze_groups(void) {
    int fresh = 0, copy = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *all = fdopendir(copy);
    bool good = all;
    for (struct dirent *entry; good && (entry = readdir(all));) {
        if (entry->d_type != DT_DIR || *entry->d_name == '.' || is_known(entry->d_ino))
            continue;
        size_t before = count;
        int directory = openat(root, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        bool ours = strcmp(entry->d_name, OUR_GROUP) == 0;
        good = directory >= 0 ? freeze_group(directory, entry->d_ino, ours)
                              : errno == ENOENT; /* it was just removed */
        fresh += count > before;
        int error = errno;
        if (directory >= 0)
            close(directory);
        errno = error;
    }
    int error = errno;
    if (all)
        closedir(all);
    errno = error;
    return good ? fresh : -1;
}

/* A thread of the kernel's own, which may not be moved, or a process that has just gone. */
static bool is_kernel(pid_t pid) {
    char text[512];
    snprintf(text, sizeof text, "/proc/%d/stat", (int)pid);
    int fd = open(text, O_RDONLY | O_CLOEXEC);
    read_text(fd, text, sizeof text);
    if (fd >= 0)
        close(fd);
    char *at = strrchr(text, ')'); /* of its name; the seventh field after it are its flags */
    for (int i = 0; at && i < 7; i++)
        at = strchr(at + 1, ' ');
    return !at || strtoul(at, NULL, 10) & KERNEL_THREAD;
}

/* Move one process of the root group to ours; 1, 0 if it is one that stays, or -1. */
static int move(pid_t pid, int target) {
    char text[16];
    if (pid == 1 || pid == getpid() || is_kernel(pid))
        return 0;
    if (pid == 0) { /* it would mean the agent */
        errno = EXDEV;
        return -1;
    }
    int n = snprintf(text, sizeof text, "%d", (int)pid);
    return write(target, text, (size_t)n) == n ? 1 : errno == ESRCH ? 0 : -1;
}

/* Move what can be moved from the root group to ours; how many, or -1. */
static int move_processes(int source, int target) {
    static char text[64 * 1024]; /* what does not fit in is there when we look again */
    ssize_t size = 0, n;
    while (size < (ssize_t)sizeof text - 1 &&
           (n = pread(source, text + size, sizeof text - 1 - (size_t)size, size)) > 0)
        size += n;
    text[size] = 0;
    int moved = 0;
    for (char *at = text, *end; (end = strchr(at, '\n')); at = end + 1) {
        int one = move((pid_t)strtoul(at, NULL, 10), target);
        if (one < 0)
            return -1;
        moved += one;
    }
    return moved;
}

/* Repeated until a pass finds nothing: a process that still runs may fork, or make groups. */
static bool gather(int source, int target) {
    for (;;) {
        int frozen_now = freeze_groups();
        int moved = frozen_now < 0 ? -1 : move_processes(source, target);
        if (moved < 0 || late())
            return false;
        if (moved + frozen_now == 0)
            return true;
    }
}

/* A process stops when it next would run in user mode, so this takes a moment. */
static bool await_frozen(const struct group *g) {
    char text[256];
    while (read_text(g->events, text, sizeof text) > 0 && !strstr(text, "frozen 1")) {
        if (late())
            return false;
        poll(&(struct pollfd){.fd = g->events, .events = POLLPRI}, 1, 10);
    }
    return true; /* a group that can't be read has been removed */
}

static bool freeze_all(void) {
    int ours = -1, source = -1, target = -1;
    bool good = open_root() && (mkdirat(root, OUR_GROUP, 0755) == 0 || errno == EEXIST) &&
                (ours = openat(root, OUR_GROUP, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0 &&
                (source = openat(root, "cgroup.procs", O_RDWR | O_CLOEXEC)) >= 0 &&
                (target = openat(ours, "cgroup.procs", O_WRONLY | O_CLOEXEC)) >= 0 &&
                write(source, "0", 1) == 1 && /* ourselves: a service manager had us in a group */
                gather(source, target);
    for (size_t i = 0; good && i < count; i++)
        good = await_frozen(&groups[i]);
    int error = errno;
    close(ours);
    close(source);
    close(target);
    errno = error;
    return good;
}

const char *freeze(void) {
    deadline = now() + PATIENCE_MS * UINT64_C(1000000);
    if (!frozen)
        forget_groups();
    frozen = true;
    if (freeze_all()) {
        identity_prepare(); /* now that no process can change what it reads */
        return NULL;
    }
    const char *error = error_of("cgroup v2");
    int code = errno;
    thaw();
    errno = code;
    return error;
}

const char *thaw(void) {
    bool good = true;
    for (size_t i = 0; frozen && i < count; i++)
        if (write(groups[i].freeze, "0", 1) < 0 && errno != ENODEV) /* that: it was removed */
            good = false;
    frozen = false;
    return good ? NULL : error_of("cgroup.freeze");
}
