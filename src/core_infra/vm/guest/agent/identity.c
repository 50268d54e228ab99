/* What tells a clone from its twins: names, an address, and random numbers. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_NAME = 64 };

static const char *write_line(const char *path, struct text t) {
    char line[MAX_NAME + 1];
    memcpy(line, t.bytes, t.length);
    line[t.length] = '\n';
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ssize_t n = fd < 0 ? -1 : write(fd, line, t.length + 1);
    const char *error = n == (ssize_t)t.length + 1 ? NULL : error_of(path);
    if (fd >= 0)
        close(fd);
    return error;
}

static const char *set_address(const uint8_t *mac) {
    struct ifreq request = {.ifr_name = "eth0"};
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(request.ifr_hwaddr.sa_data, mac, MAC);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool good = fd >= 0 && (ioctl(fd, SIOCSIFHWADDR, &request) == 0 || errno == ENODEV);
    const char *error = good ? NULL : error_of("eth0");
    if (fd >= 0)
        close(fd);
    return error;
}

/* The kernel and its virtio driver hold bytes of the host's that were fetched before the snapshot
 * was taken, 64 each at most: the same in all clones. */
static void drop_prefetched(void) {
    uint8_t bytes[64];
    int fd = open("/dev/hwrng", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return; /* there is no such device, so nobody can be given its bytes */
    for (int i = 0; i < 3 && read(fd, bytes, sizeof bytes) > 0; i++)
        continue;
    close(fd);
}

const char *set_identity(struct text host_name, struct text machine_id, const uint8_t *mac) {
    const char *error = NULL;
    errno = ENAMETOOLONG;
    if (host_name.length > MAX_NAME || machine_id.length > MAX_NAME)
        return error_of("host name or machine-id");
    if (host_name.length && sethostname(host_name.bytes, host_name.length) < 0)
        error = error_of("host name");
    if (!error && host_name.length)
        error = write_line("/etc/hostname", host_name);
    if (!error && machine_id.length)
        error = write_line("/etc/machine-id", machine_id);
    if (!error && mac)
        error = set_address(mac);
    if (!error)
        drop_prefetched();
    return error;
}
