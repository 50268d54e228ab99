/* What QEMU may not do if it is to be forked. */
#include "forkserver.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

enum { KERNEL_SET_SIZE = 8, FIRST_REALTIME = 32 };

/* PARK, and as in the C library the two signals that are its own, are never blocked. */
static void keep_unblocked(sigset_t *set) {
    unsigned long ours = 1UL << (PARK - 1) | 3UL << (FIRST_REALTIME - 1);
    *(unsigned long *)set &= ~ours;
}

PUBLIC int pthread_sigmask(int how, const sigset_t *set, sigset_t *old) {
    sigset_t allowed;
    if (set && how != SIG_UNBLOCK) {
        allowed = *set;
        keep_unblocked(&allowed);
        set = &allowed;
    }
    int before = errno;
    int error = syscall(SYS_rt_sigprocmask, how, set, old, KERNEL_SET_SIZE) < 0 ? errno : 0;
    errno = before;
    return error;
}

PUBLIC int sigprocmask(int how, const sigset_t *set, sigset_t *old) {
    int error = pthread_sigmask(how, set, old);
    if (error)
        errno = error;
    return error ? -1 : 0;
}

/* QEMU keeps the guest's memory and its translated code out of its children; a clone needs both. */
PUBLIC int madvise(void *address, size_t length, int advice) {
    return advice == MADV_DONTFORK ? 0 : (int)syscall(SYS_madvise, address, length, advice);
}

/* A ring is memory that the kernel shares with one process. QEMU then polls, as on old kernels. */
PUBLIC int io_uring_queue_init(unsigned entries, void *ring, unsigned flags) {
    (void)entries, (void)ring, (void)flags;
    return -ENOSYS;
}

PUBLIC int io_uring_queue_init_params(unsigned entries, void *ring, void *parameters) {
    (void)entries, (void)ring, (void)parameters;
    return -ENOSYS;
}
