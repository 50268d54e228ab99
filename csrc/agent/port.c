/* The byte stream to the host.
 *
 * While no host has a virtio-serial port open, its read() gives 0 and its poll() POLLHUP, for as
 * long as that lasts. So we do not poll it then, but try again every RETRY_MS.
 */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

static const char *device, *name;
static int port = -1;
static bool away = true;

void port_use_fd(int fd) {
    port = fd;
    away = false;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, O_NONBLOCK);
}

void port_use_device(const char *path) {
    device = path;
}

void port_use_name(const char *wanted) {
    name = wanted;
}

/* The device of the port that has a name, into path. */
bool port_find_device(const char *wanted, char *path, size_t size) {
    DIR *ports = opendir("/sys/class/virtio-ports");
    bool found = false;
    for (struct dirent *entry; !found && ports && (entry = readdir(ports));) {
        char text[128];
        snprintf(path, size, "/sys/class/virtio-ports/%s/name", entry->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        ssize_t n = read(fd, text, sizeof text - 1);
        close(fd);
        text[n > 0 ? n : 0] = 0;
        text[strcspn(text, "\n")] = 0;
        found = strcmp(text, wanted) == 0;
        snprintf(path, size, "/dev/%s", entry->d_name);
    }
    if (ports)
        closedir(ports);
    return found;
}

static bool open_port(void) {
    char path[PATH_MAX];
    const char *target = device;
    if (!target && port_find_device(name, path, sizeof path))
        target = path;
    if (target)
        port = open(target, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (port >= 0 && name && !line_is_first(name)) { /* SIGIO tells when the host comes */
        fcntl(port, F_SETOWN, getpid());
        fcntl(port, F_SETFL, O_NONBLOCK | O_ASYNC);
    }
    return port >= 0;
}

static void lose(void) {
    if (!device && !name)
        quit();
    close(port); /* unplugged: it may come back as another device */
    port = -1;
    away = true;
}

void port_serve_lines(void) {
    lines_serve(name);
}

int port_retry(void) {
    return name && !line_is_first(name) ? RARE_MS : RETRY_MS;
}

bool port_here(void) {
    return port >= 0 && !away;
}

int port_fd(void) {
    return port;
}

ssize_t port_read(void *buffer, size_t size) {
    if (port < 0 && !open_port())
        return 0;
    ssize_t n = read(port, buffer, size);
    away = n == 0;
    if (n > 0)
        return n;
    if (n == 0 ? !device && !name : errno != EAGAIN && errno != EINTR)
        lose();
    return 0;
}

ssize_t port_write(const void *buffer, size_t size) {
    if (!port_here())
        return 0;
    ssize_t n = write(port, buffer, size);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        lose();
    return n > 0 ? n : 0;
}
