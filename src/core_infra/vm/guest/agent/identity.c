/* What tells a clone from its twins: names, an address, and random numbers. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_NAME = 64 };

static int hwrng = -1, network = -1;
static char card[IFNAMSIZ]; /* the network card's name; empty if there is none */

/* Distributions call it eth0, enp0s2, ens3, …: it is the one with QEMU's prefix. */
static void find_card(void) {
    static const uint8_t prefix[] = {0x52, 0x54, 0x00};
    struct ifreq known = {0};
    memcpy(known.ifr_name, card, IFNAMSIZ);
    if (*card && ioctl(network, SIOCGIFHWADDR, &known) == 0)
        return; /* whatever address it has been given since */
    struct if_nameindex *all = if_nameindex();
    *card = 0;
    for (struct if_nameindex *one = all; one && one->if_index && !*card; one++) {
        struct ifreq request = {0};
        strncpy(request.ifr_name, one->if_name, IFNAMSIZ - 1);
        if (ioctl(network, SIOCGIFHWADDR, &request) == 0 &&
            request.ifr_hwaddr.sa_family == ARPHRD_ETHER &&
            memcmp(request.ifr_hwaddr.sa_data, prefix, sizeof prefix) == 0)
            memcpy(card, request.ifr_name, IFNAMSIZ);
    }
    if_freenameindex(all);
}

void identity_prepare(void) {
    if (hwrng < 0)
        hwrng = open("/dev/hwrng", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (network < 0)
        network = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    find_card();
}

/* Not O_TRUNC: most often the new line is as long as the old one. */
static const char *write_line(const char *path, struct text t) {
    char line[MAX_NAME + 1];
    struct stat old;
    ssize_t size = (ssize_t)t.length + 1;
    memcpy(line, t.bytes, t.length);
    line[t.length] = '\n';
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    bool good = fd >= 0 && write(fd, line, (size_t)size) == size && fstat(fd, &old) == 0 &&
                (old.st_size == size || ftruncate(fd, size) == 0);
    const char *error = good ? NULL : error_of(path);
    if (fd >= 0)
        close(fd);
    return error;
}

static const char *set_address(const uint8_t *mac) {
    struct ifreq request = {0};
    if (!*card)
        return NULL;
    memcpy(request.ifr_name, card, IFNAMSIZ);
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(request.ifr_hwaddr.sa_data, mac, MAC);
    return ioctl(network, SIOCSIFHWADDR, &request) == 0 ? NULL : error_of(card);
}

/* The kernel and its virtio driver hold bytes of the host's that were fetched before the snapshot
 * was taken, 64 each at most: the same in all clones. Without such a device nobody can be given
 * its bytes. */
static void drop_prefetched(void) {
    uint8_t bytes[64];
    for (int i = 0; i < 3 && read(hwrng, bytes, sizeof bytes) > 0; i++)
        continue;
}

const char *set_identity(struct text host_name, struct text machine_id, const uint8_t *mac) {
    const char *error = NULL;
    if (network < 0) /* it was not put to sleep by us */
        identity_prepare();
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
