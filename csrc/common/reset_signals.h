/* Every signal's disposition becomes the default, as a program expects that is started by others. */
#pragma once

#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* By the kernel's own call: the C library refuses the signals that it uses itself, and glibc's
 * posix_spawn() starts programs with those ignored, so Python 3.13's subprocess does, too. */
static inline void reset_signals(void) {
    static const struct {
        uintptr_t handler;
        unsigned long flags;
        uintptr_t restorer;
        uint64_t mask;
    } by_default;
    for (int i = 1; i <= 64; i++)
        syscall(SYS_rt_sigaction, i, &by_default, 0, sizeof by_default.mask);
}
