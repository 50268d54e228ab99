/* What must differ between the clones of a machine: names, addresses, random numbers. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { MAX_NAME = 64, MAX_HOSTS = 16 * 1024 };

static int hwrng = -1;
static bool prepared;
static char former[MAX_NAME + 1]; /* the host name */
static char hosts[MAX_HOSTS];     /* /etc/hosts; empty if the host name is not in it */

/* Whether this, in hosts, is the host name, whole or before its domain, on a line of this machine's
 * own addresses. */
static bool is_own_name(const char *at) {
    const char *line = memrchr(hosts, '\n', (size_t)(at - hosts));
    line = line ? line + 1 : hosts;
    return at > line && strchr(" \t", at[-1]) && strchr(" \t.#\n", at[strlen(former)]) &&
           (strncmp(line, "127.", 4) == 0 || strncmp(line, "::1", 3) == 0) &&
           !memchr(line, '#', (size_t)(at - line));
}

static const char *next_name(const char *from) {
    for (const char *at = from; *former && (at = strstr(at, former)); at++)
        if (is_own_name(at))
            return at;
    return NULL;
}

static void read_hosts(void) {
    int fd = open("/etc/hosts", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, hosts, sizeof hosts - 1) : 0;
    hosts[n > 0 ? n : 0] = 0;
    if (fd >= 0)
        close(fd);
    if (n == sizeof hosts - 1 || gethostname(former, sizeof former - 1) < 0)
        *former = 0; /* too long for us: it stays as it is */
    if (!next_name(hosts))
        *hosts = 0;
}

void identity_prepare(void) {
    if (hwrng < 0)
        hwrng = open("/dev/hwrng", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    network_prepare();
    read_hosts();
    prepared = true;
}

static const char *write_line(const char *path, struct text t) {
    char line[MAX_NAME + 1];
    memcpy(line, t.bytes, t.length);
    line[t.length] = '\n';
    return write_over(path, line, t.length + 1);
}

/* Where /etc/hosts has the former host name, it gets the new one: without, a program that looks its
 * own host up asks a name server, and waits. */
static const char *rename_in_hosts(struct text name) {
    static char fresh[2 * MAX_HOSTS];
    const char *from = hosts, *found;
    size_t old = strlen(former);
    char *to = fresh;
    if (old == name.length && memcmp(former, name.bytes, old) == 0)
        return NULL;
    while ((found = next_name(from))) {
        size_t before = (size_t)(found - from);
        if (to + before + name.length + strlen(found) > fresh + sizeof fresh)
            return NULL; /* a hosts file with so many such lines is left as it is */
        to = mempcpy(mempcpy(to, from, before), name.bytes, name.length);
        from = found + old;
    }
    if (from == hosts)
        return NULL;
    to = stpcpy(to, from);
    return write_over("/etc/hosts", fresh, (size_t)(to - fresh));
}

/* The kernel and its virtio driver hold bytes of the host's that were fetched before the snapshot
 * was taken, 64 each at most: the same in all clones. Without such a device there are none. */
static void drop_prefetched(void) {
    uint8_t bytes[64];
    for (int i = 0; i < 3 && read(hwrng, bytes, sizeof bytes) > 0; i++)
        continue;
}

static const char *set_names(struct text host_name, struct text machine_id) {
    const char *error = NULL;
    errno = ENAMETOOLONG;
    if (host_name.length > MAX_NAME || machine_id.length > MAX_NAME)
        return error_of("host name or machine-id");
    if (host_name.length && sethostname(host_name.bytes, host_name.length) < 0)
        error = error_of("host name");
    if (!error && host_name.length)
        error = write_line("/etc/hostname", host_name);
    if (!error && host_name.length)
        error = rename_in_hosts(host_name);
    if (!error && machine_id.length)
        error = write_line("/etc/machine-id", machine_id);
    return error;
}

const char *set_identity(struct text host_name, struct text machine_id, const uint8_t *mac) {
    if (!prepared) /* it was not put to sleep by us */
        identity_prepare();
    const char *error = set_names(host_name, machine_id);
    if (!error && mac)
        error = network_set(mac);
    if (!error)
        drop_prefetched();
    network_done();
    prepared = false;
    return error;
}
