/* The machine's clock, entropy and power, and what the agent says of it. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#ifndef RNDRESEEDCRNG
#define RNDRESEEDCRNG _IO('R', 0x07)
#endif

enum { SHUTDOWN_S = 30 };

const char *error_of(const char *what) {
    static char sentence[MAX_MESSAGE];
    int error = errno;
    snprintf(sentence, sizeof sentence, "%s: %s", what, strerror(error));
    errno = error;
    return sentence;
}

const char *set_clock(uint64_t ns) {
    struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    return clock_settime(CLOCK_REALTIME, &t) == 0 ? NULL : strerror(errno);
}

/* The kernel corrects its clocks by a number of microseconds at each of 100 ticks in a second, up to a
 * tenth of it, and by a finer frequency. */
const char *set_clock_rate(int64_t ppb) {
    const int64_t step = 100000; /* ppb of one microsecond in a tick */
    int64_t ticks = ppb / step;
    struct timex t = {
        .modes = ADJ_TICK | ADJ_FREQUENCY,
        .tick = 10000 + (long)ticks,
        .freq = (long)((ppb - ticks * step) * 65536 / 1000),
    };
    return adjtimex(&t) >= 0 ? NULL : strerror(errno);
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
    static int fd = -1; /* stays open: a clone is kept waiting by every call that it can be spared */
    if (fd < 0)
        fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
    bool good = fd >= 0 && ioctl(fd, RNDADDENTROPY, &pool) == 0 && ioctl(fd, RNDRESEEDCRNG) == 0;
    return good ? NULL : strerror(errno);
}

/* LinuxKit's init runs these containers if it is asked to end the machine, as busybox asks it. It is
 * given its time, but no more: the machine must end. It ends all programs before it does the rest, so
 * SIGTERM says that the agent is waited for. */
static void run_onshutdown(bool restart) {
    if (access("/containers/onshutdown", F_OK) < 0 || kill(1, restart ? SIGTERM : SIGUSR2) < 0)
        return;
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    struct timespec patience = {SHUTDOWN_S, 0};
    sigprocmask(SIG_BLOCK, &end, NULL);
    if (sigtimedwait(&end, NULL, &patience) == SIGTERM)
        _exit(0);
}

const char *power_off(bool restart) {
    run_onshutdown(restart);
    sync();
    reboot(restart ? RB_AUTOBOOT : RB_POWER_OFF);
    return strerror(errno);
}

/* What does not change while the agent lives. */
static const char *fixed_facts(void) {
    static char facts[MAX_MESSAGE / 2];
    if (*facts)
        return facts;
    struct utsname system;
    char boot[64] = "";
    uname(&system);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, boot, sizeof boot - 1);
        boot[n > 0 ? n : 0] = 0;
        close(fd);
    }
    boot[strcspn(boot, "\n")] = 0;
    snprintf(facts, sizeof facts, "version=%d\narch=%s\nkernel=%s\nboot_id=%s\npid=%d\nbinds=1\n", VERSION,
             system.machine, system.release, boot, (int)getpid());
    return facts;
}

static char *put_hex(char *to, const uint8_t *bytes, size_t n) {
    for (size_t i = 0; i < 2 * n; i++)
        *to++ = "0123456789abcdef"[bytes[i / 2] >> (i % 2 ? 0 : 4) & 15];
    return to;
}

static char *put_ns(char *to, struct timespec t) {
    char digits[24], *first = digits + sizeof digits;
    uint64_t ns = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
    do
        *--first = (char)('0' + ns % 10);
    while (ns /= 10);
    return mempcpy(to, first, (size_t)(digits + sizeof digits - first));
}

static char *put_error(char *to, const char *key, const char *error) {
    return error ? stpcpy(stpcpy(stpcpy(to, key), error), "\n") : to;
}

/* By hand, for snprintf() is long, and a clone in an emulator pays for each line that it runs the
 * first time. All that is put here is short: it fits into MAX_MESSAGE. */
size_t describe(char *text, const uint8_t *former, const char *clock_error,
                const char *entropy_error) {
    uint8_t random[16];
    struct timespec clock;
    char *to = stpcpy(text, fixed_facts());
    to = put_error(put_error(to, "clock_error=", clock_error), "entropy_error=", entropy_error);
    to = stpcpy(to, "former=");
    to = former ? put_hex(to, former, NONCE) : to;
    to = stpcpy(to, "\nrandom=");
    to = getrandom(random, sizeof random, 0) == sizeof random ? put_hex(to, random, 16) : to;
    to = stpcpy(to, "\nclock=");
    clock_gettime(CLOCK_REALTIME, &clock);
    to = stpcpy(put_ns(to, clock), "\n");
    return (size_t)(to - text);
}
