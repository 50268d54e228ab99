/* Disks with a volatile write cache, as real ones have it: what the guest has written and not
 * flushed is lost when the power is cut.
 *
 * QEMU's writes reach the host's page cache, which survives QEMU. So before QEMU overwrites a part
 * of a disk's file, the old content goes to a log beside it, DISK.unflushed; when QEMU flushes the
 * file, which it does when the guest flushes its disk, the log is emptied. When the power is cut, the host
 * kills QEMU and puts the log's content back (vm/_unflushed.py): the file is as it was flushed last.
 * A file without such a log is none of our business.
 *
 * Writers of a file hold the lock together, a flush holds it alone: so a flush covers exactly the
 * writes that ended before it. No descriptor stays open, which a fork would have to renew; and a
 * process that is forked is stopped, for which QEMU flushes all disks: the clone's log is empty. */
#include "forkserver.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))
#define LOG ".unflushed"

enum { BLOCK = 4096, CHUNK = 64 * 1024, MAX_DISKS = 32, MAX_PATH = 4096 };

/* The log: _unflushed.py has the same two records. */
struct header {
    char magic[8];
    uint64_t size;   /* of the file when it was flushed last */
};
struct record {
    uint64_t offset, length; /* the old content follows */
};

static struct disk {
    dev_t device;
    ino_t number;
    bool has_log;
    uint64_t size;  /* of the file when it was flushed last */
    uint64_t end;   /* of the log; 0: nothing was written since */
    uint8_t *saved; /* a bit for each block of the file: it is in the log */
    size_t length;  /* of these bits, in bytes */
} disks[MAX_DISKS];

static pthread_rwlock_t writing = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;

/* Looked up each time: the file's directory may be renamed, and a clone's is another one. */
static int open_log(int fd, int flags) {
    char link[32], path[MAX_PATH + sizeof LOG];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, MAX_PATH);
    if (n < 0 || n == MAX_PATH)
        return -1;
    memcpy(path + n, LOG, sizeof LOG);
    return open(path, flags | O_WRONLY | O_CLOEXEC);
}

static struct disk *known(const struct stat *s) {
    for (struct disk *d = disks; d < disks + MAX_DISKS; d++)
        if (d->number == s->st_ino && d->device == s->st_dev)
            return d;
    return NULL;
}

/* The place of a disk that is flushed may be taken: it is looked up again with its next write. */
static struct disk *new_disk(int fd, const struct stat *s) {
    for (struct disk *d = disks; d < disks + MAX_DISKS; d++) {
        if (d->end)
            continue;
        int log = open_log(fd, 0);
        free(d->saved);
        *d = (struct disk){.device = s->st_dev, .number = s->st_ino, .has_log = log >= 0};
        if (log >= 0)
            close(log);
        return d;
    }
    return NULL;
}

static struct disk *disk_of(int fd, struct stat *s) {
    int before = errno;
    struct disk *d = NULL;
    if (fstat(fd, s) == 0 && S_ISREG(s->st_mode)) {
        d = known(s);
        d = d ? d : new_disk(fd, s);
    }
    errno = before;
    return d && d->has_log ? d : NULL;
}

static bool append(struct disk *d, int log, const void *head, size_t size, const void *data,
                   size_t length) {
    struct iovec parts[] = {{(void *)head, size}, {(void *)data, length}};
    if (syscall(SYS_pwritev, log, parts, 2, d->end, 0) != (ssize_t)(size + length))
        return false;
    d->end += size + length;
    return true;
}

static bool begin_log(struct disk *d, int log, uint64_t size) {
    struct header h = {"unflush", size};
    size_t length = (size_t)(size / BLOCK / 8 + 1);
    if (length > d->length) {
        free(d->saved);
        d->saved = calloc(1, length);
        d->length = d->saved ? length : 0;
    }
    d->size = size;
    return d->saved && ftruncate(log, 0) == 0 && append(d, log, &h, sizeof h, NULL, 0);
}

static bool is_saved(const struct disk *d, uint64_t block) {
    return d->saved[block / 8] >> block % 8 & 1;
}

/* Saves what is not yet in the log, of the part from first to last that the file had when it was
 * flushed. */
static bool save_blocks(struct disk *d, int fd, int log, uint64_t first, uint64_t last) {
    static char old[CHUNK];
    for (uint64_t block = first; block <= last && block * BLOCK < d->size; block++) {
        if (is_saved(d, block))
            continue;
        uint64_t count = 1;
        while (count < CHUNK / BLOCK && block + count <= last &&
               (block + count) * BLOCK < d->size && !is_saved(d, block + count))
            count++;
        uint64_t offset = block * BLOCK, left = d->size - offset;
        size_t length = (size_t)(left < count * BLOCK ? left : count * BLOCK);
        struct record r = {offset, length};
        if (syscall(SYS_pread64, fd, old, length, offset) != (ssize_t)length ||
            !append(d, log, &r, sizeof r, old, length))
            return false;
        for (uint64_t i = block; i < block + count; i++)
            d->saved[i / 8] |= (uint8_t)(1 << i % 8);
        block += count - 1;
    }
    return true;
}

static bool is_complete(const struct disk *d, uint64_t first, uint64_t last) {
    if (!d->end)
        return false;
    for (uint64_t block = first; block <= last && block * BLOCK < d->size; block++)
        if (!is_saved(d, block))
            return false;
    return true;
}

static bool save(struct disk *d, int fd, const struct stat *s, uint64_t offset, uint64_t length) {
    uint64_t first = offset / BLOCK, last = (offset + (length ? length : 1) - 1) / BLOCK;
    if (is_complete(d, first, last))
        return true;
    int log = open_log(fd, 0);
    bool good = log >= 0 && (d->end || begin_log(d, log, (uint64_t)s->st_size)) &&
                (!length || save_blocks(d, fd, log, first, last));
    int error = errno;
    if (log >= 0)
        close(log);
    errno = good || error ? error : EIO;
    return good;
}

/* Before a change; what is not saved may not be changed. True if it is a disk's. */
static bool begin(int fd, off_t offset, uint64_t length, bool *good) {
    struct stat s;
    pthread_rwlock_rdlock(&writing);
    pthread_mutex_lock(&table);
    struct disk *d = disk_of(fd, &s);
    uint64_t rest = d && s.st_size > offset ? (uint64_t)(s.st_size - offset) : 0;
    *good = !d || save(d, fd, &s, (uint64_t)offset, length < rest ? length : rest);
    pthread_mutex_unlock(&table);
    return d;
}

/* QEMU pauses a machine only for ENOSPC; any other error would reach the guest. So each reason why
 * this host cannot write becomes that one, and the real one goes to QEMU's log (vm/_io_pause.py). */
static int host_error(int error) {
    static _Atomic int said;
    if (error != ENOSPC && error != EDQUOT && error != EFBIG && error != EIO)
        return error;
    if (said != error)
        dprintf(STDERR_FILENO, "core-infra: a disk cannot be written: error %d\n", error);
    said = error;
    return ENOSPC;
}

/* After it. */
static long end(long result, bool is_disk) {
    int error = errno;
    pthread_rwlock_unlock(&writing);
    errno = result < 0 && is_disk ? host_error(error) : error;
    return result;
}

static long unsaved(void) {
    return end(-1, true);
}

static uint64_t total(const struct iovec *parts, int count) {
    uint64_t sum = 0;
    for (int i = 0; i < count; i++)
        sum += parts[i].iov_len;
    return sum;
}

PUBLIC ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    bool good, is_disk = begin(fd, offset, total(parts, count), &good);
    return good ? end(syscall(SYS_pwritev, fd, parts, count, offset, 0), is_disk) : unsaved();
}

PUBLIC ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    bool good, is_disk = begin(fd, offset, size, &good);
    return good ? end(syscall(SYS_pwrite64, fd, data, size, offset), is_disk) : unsaved();
}

PUBLIC int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    bool good, is_disk = begin(fd, offset, (uint64_t)length, &good);
    return (int)(good ? end(syscall(SYS_fallocate, fd, mode, offset, length), is_disk)
                      : unsaved());
}

PUBLIC int ftruncate64(int fd, off64_t size) {
    bool good, is_disk = begin(fd, size, UINT64_MAX, &good);
    return (int)(good ? end(syscall(SYS_ftruncate, fd, size), is_disk) : unsaved());
}

static bool forget(struct disk *d, int fd) {
    int log = d->end ? open_log(fd, O_TRUNC) : -1;
    if (!d->end)
        return true;
    if (log < 0)
        return false;
    close(log);
    memset(d->saved, 0, d->length);
    d->end = 0;
    return true;
}

/* The host need not write a disk back, which lives no longer than the host. */
PUBLIC int fdatasync(int fd) {
    struct stat s;
    pthread_rwlock_wrlock(&writing);
    pthread_mutex_lock(&table);
    struct disk *d = disk_of(fd, &s);
    bool good = !d || forget(d, fd);
    pthread_mutex_unlock(&table);
    pthread_rwlock_unlock(&writing);
    return d ? (good ? 0 : -1) : (int)syscall(SYS_fdatasync, fd);
}

PUBLIC int fsync(int fd) {
    struct stat s;
    pthread_mutex_lock(&table);
    struct disk *d = disk_of(fd, &s);
    pthread_mutex_unlock(&table);
    return d ? fdatasync(fd) : (int)syscall(SYS_fsync, fd);
}
