/* READ and WRITE. A file is written beside its place and then renamed to it, so that no reader sees
 * half of it. A device, or a file of /proc or /sys, is written directly. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NEW_MODE = 0644 };

struct file {
    const char *verb;          /* for errors: "read" or "write" */
    char path[PATH_MAX];       /* where it goes, links followed */
    char temporary[PATH_MAX];  /* empty: written straight */
    bool existed;
    struct stat was;           /* if it existed */
    uint32_t mode;
};

static bool is_special(const char *path, const struct stat *st) {
    char real[PATH_MAX];
    return !S_ISREG(st->st_mode) || (realpath(path, real) && (strncmp(real, "/proc/", 6) == 0 ||
                                                             strncmp(real, "/sys/", 5) == 0));
}

static int directory_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (int)(slash - path) + 1 : 0;
}

/* Replace a link by what it points to, also when that is not there yet. */
static bool follow_links(char *path) {
    char link[PATH_MAX], target[PATH_MAX];
    for (int i = 0; i < 40; i++) {
        ssize_t n = readlink(path, link, sizeof link - 1);
        if (n < 0)
            return true;
        link[n] = 0;
        int base = *link == '/' ? 0 : directory_length(path);
        if (snprintf(target, sizeof target, "%.*s%s", base, path, link) >= (int)sizeof target)
            break;
        strcpy(path, target);
    }
    errno = ELOOP;
    return false;
}

static void make_parents(const char *path) {
    char parent[PATH_MAX];
    strcpy(parent, path);
    for (char *slash = strchr(parent + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(parent, 0755);
        *slash = '/';
    }
}

/* A new file beside the target; -1 and errno if that cannot be. */
static int open_temporary(struct file *f) {
    static unsigned serial;
    int fd;
    do {
        int n = snprintf(f->temporary, sizeof f->temporary, "%.*s.core-infra-%d-%u",
                         directory_length(f->path), f->path, (int)getpid(), serial++);
        errno = ENAMETOOLONG;
        fd = n < (int)sizeof f->temporary
                 ? open(f->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)
                 : -1;
    } while (fd < 0 && errno == EEXIST);
    if (fd < 0)
        *f->temporary = 0;
    return fd;
}

static int open_target(struct file *f) {
    if (!follow_links(f->path))
        return -1;
    f->existed = stat(f->path, &f->was) == 0;
    errno = EISDIR;
    if (f->existed ? S_ISDIR(f->was.st_mode) : f->path[directory_length(f->path)] == 0)
        return -1;
    if (f->existed && is_special(f->path, &f->was))
        return open(f->path, O_WRONLY | O_TRUNC | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    int fd = open_temporary(f);
    if (fd < 0 && errno == ENOENT) {
        make_parents(f->path);
        fd = open_temporary(f);
    }
    return fd;
}

static void failed(struct channel *c, int error) {
    channel_fail(c, error, "cannot %s \"%s\": %s", c->file->verb, c->file->path, strerror(error));
}

static void give_up(struct channel *c, int signal) {
    channel_done(c, SIGNALED, (uint32_t)signal, "");
}

static void abandon(struct channel *c) {
    if (c->file && *c->file->temporary)
        unlink(c->file->temporary);
    free(c->file);
    c->file = NULL;
}

/* Put the temporary file in its place, with the owner that was there, and its mode. */
static bool commit(struct file *f, int fd) {
    if (!*f->temporary)
        return true;
    mode_t mode = f->mode != UINT32_MAX ? f->mode : f->existed ? f->was.st_mode : NEW_MODE;
    if (f->existed && fchown(fd, f->was.st_uid, f->was.st_gid) < 0 && errno != EPERM)
        return false;
    if (fchmod(fd, mode & 07777) < 0 || rename(f->temporary, f->path) < 0)
        return false;
    *f->temporary = 0;
    return true;
}

static void pump_reader(struct channel *c) {
    if (c->out[0].fd < 0)
        channel_done(c, EXITED, 0, "");
}

static void pump_writer(struct channel *c) {
    struct sink *s = &c->in;
    if (!s->eof || s->head < s->tail)
        return;
    if (commit(c->file, s->fd))
        channel_done(c, EXITED, 0, "");
    else
        failed(c, errno);
}

/* Open a channel for the path at the cursor; false: *bad says why, if the frame is to blame. */
static struct channel *open_channel(const struct frame *f, struct cursor *c,
                                    const struct operations *operations, const char *verb,
                                    uint32_t mode, problem *bad) {
    struct text path = take_text(c);
    *bad = c->bad || c->at != c->end ? "bad READ or WRITE" : NULL;
    struct channel *channel = *bad ? NULL : channel_open(f->channel, operations);
    if (!channel)
        return NULL;
    channel->file = calloc(1, sizeof *channel->file);
    if (!channel->file || path.length >= PATH_MAX) {
        channel_fail(channel, channel->file ? ENAMETOOLONG : ENOMEM, "cannot open \"%.*s\"",
                     (int)(path.length < 200 ? path.length : 200), path.bytes);
        return NULL;
    }
    memcpy(channel->file->path, path.bytes, path.length);
    channel->file->mode = mode;
    channel->file->verb = verb;
    return channel;
}

problem file_write(const struct frame *f) {
    static const struct operations operations = {
        .takes_input = true,
        .pump = pump_writer,
        .signal = give_up,
        .failed = failed,
        .abandon = abandon,
    };
    problem bad;
    struct cursor cursor = cursor_of(f);
    uint32_t mode = take_u32(&cursor);
    struct channel *c = open_channel(f, &cursor, &operations, "write", mode, &bad);
    if (c && (c->in.fd = open_target(c->file)) < 0)
        failed(c, errno);
    return bad;
}

problem file_read(const struct frame *f) {
    static const struct operations operations = {
        .pump = pump_reader,
        .signal = give_up,
        .failed = failed,
        .abandon = abandon,
    };
    problem bad;
    struct cursor cursor = cursor_of(f);
    struct channel *c = open_channel(f, &cursor, &operations, "read", 0, &bad);
    if (!c)
        return bad;
    /* Looked at before it is opened: to open a FIFO or a device can do something. */
    struct stat *st = &c->file->was;
    int fd = -1;
    if (stat(c->file->path, st) < 0)
        failed(c, errno);
    else if (S_ISDIR(st->st_mode))
        failed(c, EISDIR);
    else if (!S_ISREG(st->st_mode) && !S_ISCHR(st->st_mode))
        channel_fail(c, EINVAL, "cannot read \"%s\": neither a file nor a character device",
                     c->file->path);
    else if ((fd = open(c->file->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) < 0)
        failed(c, errno);
    else
        source_open(&c->out[0], fd, STDOUT);
    return NULL;
}
