/* The machine's clock, entropy and power, and what the agent says of it. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#ifndef RNDRESEEDCRNG
#define RNDRESEEDCRNG _IO('R', 0x07)
#endif

const char *set_clock(uint64_t ns) {
    struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    return clock_settime(CLOCK_REALTIME, &t) == 0 ? NULL : strerror(errno);
}

const char *add_entropy(const uint8_t *bytes, size_t n) {
    struct {
        int bits, size; /* as the kernel's struct rand_pool_info */
        uint8_t bytes[MAX_ENTROPY];
    } pool;
    if (n > MAX_ENTROPY)
        n = MAX_ENTROPY;
    pool.bits = (int)n * 8;
    pool.size = (int)n;
    memcpy(pool.bytes, bytes, n);
    int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
    bool good = fd >= 0 && ioctl(fd, RNDADDENTROPY, &pool) == 0 && ioctl(fd, RNDRESEEDCRNG) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return good ? NULL : strerror(error);
}

const char *power_off(bool restart) {
    sync();
    reboot(restart ? RB_AUTOBOOT : RB_POWER_OFF);
    return strerror(errno);
}

size_t describe(char *text, size_t size, const char *clock_error, const char *entropy_error) {
    struct utsname system;
    uname(&system);
    char boot[64] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, boot, sizeof boot - 1);
        boot[n > 0 ? n : 0] = 0;
        close(fd);
    }
    boot[strcspn(boot, "\n")] = 0;
    int n = snprintf(text, size, "version=%d\narch=%s\nkernel=%s\nboot_id=%s\npid=%d\n%s%s%s%s%s%s",
                     VERSION, system.machine, system.release, boot, (int)getpid(),
                     clock_error ? "clock_error=" : "", clock_error ? clock_error : "",
                     clock_error ? "\n" : "", entropy_error ? "entropy_error=" : "",
                     entropy_error ? entropy_error : "", entropy_error ? "\n" : "");
    return n < (int)size ? (size_t)n : size - 1;
}
