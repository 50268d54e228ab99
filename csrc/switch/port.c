/* A card's socket. QEMU sees a full one as a busy network, and keeps the guest's frames back. */
#include "switch.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int loop = -1;

struct port *port_find(const struct network *n, uint32_t number) {
    struct port *p = n->ports;
    while (p && p->number != number)
        p = p->next;
    return p;
}

struct port *port_open(struct network *n, uint32_t number, int fd, const char *name) {
    struct port *p = port_find(n, number);
    if (!p) {
        if (!(p = calloc(1, sizeof *p)))
            return NULL;
        *p = (struct port){.watch = {CARD}, .network = n, .number = number, .fd = -1, .interface = -1};
        memcpy(p->name, name, strnlen(name, MAX_NAME - 1));
        p->next = n->ports;
        n->ports = p;
    }
    port_close(p);
    queue_clear(&p->out); /* it was for the machine before it was reverted */
    p->fd = fd;
    p->events = EPOLLIN;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = p};
    epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
    port_listen(p);
    return p;
}

void port_close(struct port *p) {
    if (p->fd < 0)
        return;
    epoll_ctl(loop, EPOLL_CTL_DEL, p->fd, NULL);
    close(p->fd);
    p->fd = -1;
}

bool ports_stalled(const struct network *n) {
    return n->undecided >= MAX_UNDECIDED;
}

void port_listen(struct port *p) {
    const struct network *n = p->network;
    uint32_t in = ports_stalled(n) ? 0 : EPOLLIN;
    uint32_t wanted = in | (p->out.first && !n->held ? EPOLLOUT : 0);
    if (p->fd < 0 || wanted == p->events)
        return;
    struct epoll_event event = {.events = wanted, .data.ptr = p};
    if (epoll_ctl(loop, EPOLL_CTL_MOD, p->fd, &event) == 0)
        p->events = wanted;
}

/* Whether it was sent, or can never be; false: the socket is full. */
static bool sent(struct port *p, const uint8_t *bytes, uint32_t length) {
    while (send(p->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        if (errno == EAGAIN)
            return false;
        if (errno != EINTR)
            break; /* the machine has ended: reading reports that */
    }
    return true;
}

void port_send(struct port *p, const uint8_t *bytes, uint32_t length, char *note) {
    if (p->fd < 0)
        return;
    if (!p->out.first && !p->network->held && sent(p, bytes, length))
        return;
    struct frame *f = p->out.bytes + length > MAX_QUEUED ? NULL : frame_copy(bytes, length);
    if (f)
        queue_put(&p->out, f);
    else if (strlen(note) + MAX_NAME + 32 < NOTE)
        stpcpy(stpcpy(note + strlen(note), *note ? ", no room to " : "no room to "), p->name);
    port_listen(p);
}

/* Takes the frame. */
void port_queue(struct port *p, struct frame *f) {
    bool room = p->fd >= 0 && p->out.bytes + f->length <= MAX_QUEUED;
    if (room && (p->out.first || p->network->held || !sent(p, f->bytes, f->length))) {
        queue_put(&p->out, f);
        port_listen(p);
    } else
        free(f);
}

void port_flush(struct port *p) {
    while (p->fd >= 0 && p->out.first && sent(p, p->out.first->bytes, p->out.first->length))
        free(queue_take(&p->out));
    port_listen(p);
}

size_t port_unread(const struct port *p) {
    int bytes = 0;
    return p->fd >= 0 && ioctl(p->fd, SIOCOUTQ, &bytes) == 0 ? (size_t)bytes : 0;
}
