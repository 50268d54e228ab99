/* The byte stream to the host, and agents for its further ports.
 *
 * While no host has a virtio-serial port open, its read() gives 0 and its poll() POLLHUP, for as
 * long as that lasts. So we do not poll it then, but try again every RETRY_MS.
 */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { PORTS = 10 };

static const char *device, *name;
static int port = -1;
static bool away = true, ended;
static pid_t agents[PORTS]; /* of the other ports; only the first port's agent has any */

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

static bool is_first(const char *port_name) {
    size_t n = strlen(port_name);
    return n > 2 && strcmp(port_name + n - 2, ".0") == 0;
}

/* The device of the port that has a name, into path. */
static bool find_device(const char *wanted, char *path, size_t size) {
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
    if (!target && find_device(name, path, sizeof path))
        target = path;
    if (target)
        port = open(target, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (port >= 0 && name && !is_first(name)) { /* SIGIO when the host opens it */
        fcntl(port, F_SETOWN, getpid());
        fcntl(port, F_SETFL, O_NONBLOCK | O_ASYNC);
    }
    return port >= 0;
}

static void lose(void) {
    ended = !device && !name;
    close(port); /* unplugged: it may come back as another device */
    port = -1;
    away = true;
}

static void start_agent(const char *name) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* the next first agent starts others */
    execl("/proc/self/exe", "core-infra-agent", "--port", name, (char *)NULL);
    _exit(127);
}

/* Each port serves one session at a time: so the first agent starts one for each further virtio
 * port, PREFIX1 to PREFIX9. They sleep while unused. */
void port_serve_others(void) {
    if (!name || !is_first(name))
        return;
    for (int i = 1; i < PORTS; i++) {
        char other[128], path[64];
        snprintf(other, sizeof other, "%.*s%d", (int)strlen(name) - 1, name, i);
        bool runs = agents[i] > 0 && kill(agents[i], 0) == 0;
        if (runs || !find_device(other, path, sizeof path))
            continue;
        agents[i] = fork();
        if (agents[i] == 0)
            start_agent(other);
    }
}

bool port_ended(void) {
    return ended;
}

int port_retry(void) {
    return name && !is_first(name) ? RARE_MS : RETRY_MS;
}

bool port_here(void) {
    return port >= 0 && !away;
}

int port_fd(void) {
    return port;
}

ssize_t port_read(void *buffer, size_t size) {
    if (ended || (port < 0 && !open_port()))
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
