/* The clone's descriptors. After a fork both processes have the same open files: what one reads
 * is lost to the other. Here each kind that QEMU has is replaced, renewed, cut off, or known to be
 * harmless; any other ends the clone. */
#include "forkserver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { MEMORY_DEVICES = 1 }; /* the major number of null, zero, random, urandom */

struct renewal {
    const struct request *request;
    int control;
    int links, infos; /* /proc/self/fd and /proc/self/fdinfo */
    bool epolls;      /* the second pass: they watch what the first has renewed */
    struct reply *reply;
};

static char info[64 * 1024]; /* of an epoll: 80 bytes for each descriptor that it watches */

/* Puts one descriptor in the place of another, which keeps its number and flags. */
static bool put(int fresh, int fd) {
    int flags = fcntl(fd, F_GETFD);
    bool good = fresh >= 0 && flags >= 0 && dup3(fresh, fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0) >= 0;
    int error = errno;
    if (fresh >= 0)
        close(fresh);
    errno = error;
    return good;
}

/* A socket waits or not as the old one did: QEMU has set that once, at its start. */
static bool put_given(int fresh, int fd) {
    struct stat s;
    int flags = fcntl(fd, F_GETFL);
    if (fstat(fresh, &s) == 0 && S_ISSOCK(s.st_mode) &&
        fcntl(fresh, F_SETFL, flags & O_NONBLOCK) < 0)
        return false;
    return put(fresh, fd);
}

static bool replaced(const struct renewal *r, int fd) {
    bool found = fd == r->control || fd == r->links || fd == r->infos;
    for (uint32_t i = 0; i < r->request->count; i++)
        found |= fd == r->request->targets[i];
    return found;
}

static bool refuse(struct renewal *r, int fd, const char *link) {
    strncpy(r->reply->detail, link, sizeof r->reply->detail - 1);
    return problem(r->reply, DESCRIPTOR, fd);
}

static bool renewed(struct renewal *r, int fd, bool good) {
    return good || problem(r->reply, NOT_RENEWED, fd);
}

static bool read_info(const struct renewal *r, const char *name) {
    int file = openat(r->infos, name, O_RDONLY | O_CLOEXEC);
    size_t have = 0;
    ssize_t got = -1;
    while (have < sizeof info - 1 && (got = read(file, info + have, sizeof info - 1 - have)) > 0)
        have += (size_t)got;
    info[have] = 0;
    close(file);
    if (got > 0)
        errno = E2BIG;
    return got == 0;
}

static uint64_t field(const char *text, const char *name, int base) {
    const char *at = strstr(text, name);
    return at ? strtoull(at + strlen(name), NULL, base) : 0;
}

static bool renew_eventfd(const struct renewal *r, int fd, const char *name) {
    if (!read_info(r, name))
        return false;
    uint64_t count = field(info, "eventfd-count:", 16);
    int flags = field(info, "eventfd-semaphore:", 10) ? EFD_SEMAPHORE : 0;
    int fresh = eventfd(0, flags | EFD_NONBLOCK);
    if (fresh < 0 || (count && write(fresh, &count, sizeof count) < 0))
        return false;
    return fcntl(fresh, F_SETFL, fcntl(fd, F_GETFL) & O_NONBLOCK) == 0 && put(fresh, fd);
}

/* A shared one would report the template's descriptors, and drop them when the clone does. */
static bool renew_epoll(const struct renewal *r, int fd, const char *name) {
    if (!read_info(r, name))
        return false;
    int fresh = epoll_create1(EPOLL_CLOEXEC);
    for (const char *at = info; fresh >= 0 && (at = strstr(at, "tfd:")); at++) {
        struct epoll_event event = {
            .events = (uint32_t)field(at, "events:", 16),
            .data.u64 = field(at, "data:", 16),
        };
        int watched = (int)field(at, "tfd:", 10);
        /* A number that is closed while its file lives on elsewhere can't be added to epoll. */
        if (epoll_ctl(fresh, EPOLL_CTL_ADD, watched, &event) < 0 && errno != EBADF)
            return false;
    }
    return put(fresh, fd);
}

static bool renew_anonymous(struct renewal *r, int fd, const char *name, const char *link) {
    if (strcmp(link, "anon_inode:[eventpoll]") == 0)
        return !r->epolls || renewed(r, fd, renew_epoll(r, fd, name));
    if (r->epolls)
        return true;
    if (strcmp(link, "anon_inode:[eventfd]") == 0)
        return renewed(r, fd, renew_eventfd(r, fd, name));
    /* A signalfd reads the signals of the process that reads it. */
    return strcmp(link, "anon_inode:[signalfd]") == 0 || refuse(r, fd, link);
}

/* A connection belongs to one process. The other end of the clone's has gone. */
static bool cut_off(struct renewal *r, int fd, const char *link) {
    int type = 0, listens = 0, pair[2];
    socklen_t size = sizeof type;
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
    if (listens)
        return refuse(r, fd, link);
    if (socketpair(AF_UNIX, type, 0, pair) < 0)
        return renewed(r, fd, false);
    close(pair[1]);
    return renewed(r, fd, put_given(pair[0], fd));
}

/* A file that can be written is a disk, say, which two guests would ruin; or the memory of the
 * guest, which each has for itself, while the file must stay as it is. */
static bool protect(struct renewal *r, int fd, const char *name, const char *link) {
    if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY)
        return true;
    if (!mapped_privately(link))
        return refuse(r, fd, link);
    return renewed(r, fd, put(openat(r->links, name, O_RDONLY | O_CLOEXEC), fd));
}

static bool renew(int fd, const char *name, void *argument) {
    struct renewal *r = argument;
    char link[DETAIL_SIZE + 4096];
    struct stat s;
    /* The standard streams are shared after any fork, and meant to be. */
    if (fd <= STDERR_FILENO || replaced(r, fd) || fstat(fd, &s) < 0)
        return true;
    ssize_t size = readlinkat(r->links, name, link, sizeof link - 1);
    link[size > 0 ? size : 0] = 0;
    if (strncmp(link, "anon_inode:", strlen("anon_inode:")) == 0)
        return renew_anonymous(r, fd, name, link);
    if (r->epolls || S_ISDIR(s.st_mode))
        return true;
    if (S_ISSOCK(s.st_mode))
        return cut_off(r, fd, link);
    if (S_ISREG(s.st_mode) || S_ISBLK(s.st_mode))
        return protect(r, fd, name, link);
    if (S_ISCHR(s.st_mode) && major(s.st_rdev) == MEMORY_DEVICES)
        return true;
    return refuse(r, fd, link);
}

static bool renew_all(struct renewal *r) {
    for (int pass = 0; pass < 2; pass++) {
        r->epolls = pass == 1;
        bool listed = lseek(r->links, 0, SEEK_SET) == 0 && each_number(r->links, renew, r);
        if (!listed && r->reply->outcome == READY)
            problem(r->reply, NOT_RENEWED, r->links); /* /proc is not there, say */
        if (!listed)
            return false;
    }
    return true;
}

bool descriptors_renew(const struct request *request, const int *given, int control,
                       struct reply *reply) {
    for (uint32_t i = 0; i < request->count; i++)
        if (!put_given(given[i], request->targets[i]))
            return problem(reply, NOT_RENEWED, request->targets[i]);
    struct renewal r = {
        .request = request,
        .control = control,
        .links = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .infos = open("/proc/self/fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .reply = reply,
    };
    bool good = renew_all(&r);
    close(r.links);
    close(r.infos);
    return good;
}
