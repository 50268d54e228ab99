/* Connects its standard streams with a server of the host: QEMU starts one for each connection of a
 * guest to an address that the network exposes. */
#include "switch.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static int connected(const char *address, const char *port) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all = NULL;
    int fd = -1;
    if (getaddrinfo(address, port, &hints, &all) != 0)
        return -1;
    for (struct addrinfo *a = all; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(all);
    return fd;
}

/* Whether there is more to come. */
static bool move(int from, int to) {
    char bytes[64 * 1024];
    ssize_t size = read(from, bytes, sizeof bytes);
    for (ssize_t done = 0, n; done < size; done += n)
        if ((n = write(to, bytes + done, (size_t)(size - done))) < 0)
            return false;
    return size > 0;
}

int relay(const char *address, const char *port) {
    int server = connected(address, port);
    if (server < 0)
        return 1;
    struct pollfd ends[] = {{STDIN_FILENO, POLLIN, 0}, {server, POLLIN, 0}};
    while (ends[1].fd >= 0) {
        if (poll(ends, 2, -1) < 0 && errno != EINTR)
            return 1;
        if (ends[0].revents && !move(STDIN_FILENO, server)) {
            shutdown(server, SHUT_WR);
            ends[0].fd = -1;
        }
        if (ends[1].revents && !move(server, STDOUT_FILENO))
            ends[1].fd = -1; /* what the guest still sends, nobody reads */
    }
    return 0;
}
