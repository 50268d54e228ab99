/* Pseudoterminals, for commands that a person types into. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* From asm-generic/ioctls.h, for C libraries that lack it: the other end, without its name. */
#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

static bool may_mount;

void terminals_may_mount(void) {
    may_mount = true;
}

static int open_master(void) {
    static const int flags = O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK;
    int fd = open("/dev/ptmx", flags);
    if (fd >= 0 || !may_mount)
        return fd;
    /* A small image may have no file system for terminals. */
    mkdir("/dev/pts", 0755);
    if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=620,ptmxmode=666") < 0)
        return -1;
    return open("/dev/pts/ptmx", flags);
}

bool terminal_open(int *ours, int *theirs) {
    int unlocked = 0;
    *ours = open_master();
    *theirs = -1;
    if (*ours >= 0 && ioctl(*ours, TIOCSPTLCK, &unlocked) == 0)
        *theirs = ioctl(*ours, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*theirs >= 0)
        return true;
    int error = errno;
    if (*ours >= 0)
        close(*ours);
    errno = error;
    return false;
}

bool terminal_resize(int fd, struct size size) {
    struct winsize w = {.ws_row = (unsigned short)size.rows, .ws_col = (unsigned short)size.columns};
    return ioctl(fd, TIOCSWINSZ, &w) == 0;
}
