/* The host decides about each frame of a network: the frames that wait for a verdict.
 *
 * Each network that is inspected has a socket of its own, and the switch waits for none of them: a
 * function of the host that takes its time delays the frames of its network only. At most
 * MAX_UNDECIDED frames wait; then nothing more is read from the network's cards, so their machines
 * see a busy network, and nothing is lost. */
#include "switch.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { UNSHOWN, SHOWN, PASSES, DROPPED };

static void listen_to_all(struct network *n) {
    for (struct port *p = n->ports; p; p = p->next)
        port_listen(p);
}

static void forward_decided(struct network *n) {
    bool stalled = ports_stalled(n);
    while (n->waiting.first && (n->waiting.first->verdict >= PASSES || n->inspector < 0)) {
        struct frame *f = queue_take(&n->waiting);
        n->undecided--;
        n->forward(f->source, f->bytes, f->length, f->verdict == DROPPED);
        free(f);
    }
    if (stalled)
        listen_to_all(n);
}

void inspection_end(struct network *n) {
    if (n->inspector < 0)
        return;
    epoll_ctl(loop, EPOLL_CTL_DEL, n->inspector, NULL);
    close(n->inspector);
    n->inspector = -1;
    forward_decided(n);
}

static ssize_t show(const struct network *n, const struct frame *f) {
    struct {
        uint64_t number, port;
    } head = {f->number, f->source->number};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)f->bytes, f->length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent;
    while ((sent = sendmsg(n->inspector, &message, MSG_DONTWAIT | MSG_NOSIGNAL)) < 0 &&
           errno == EINTR)
        continue;
    return sent;
}

static void wait_for(struct network *n, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = n};
    if (events != n->inspector_events && epoll_ctl(loop, EPOLL_CTL_MOD, n->inspector, &event) == 0)
        n->inspector_events = events;
}

static void show_waiting(struct network *n) {
    struct frame *f = n->waiting.first;
    for (; f; f = f->next)
        if (f->verdict == UNSHOWN) {
            if (show(n, f) < 0)
                break;
            f->verdict = SHOWN;
        }
    if (f && errno != EAGAIN)
        inspection_end(n);
    else
        wait_for(n, EPOLLIN | (f ? EPOLLOUT : 0));
}

void inspection_begin(struct network *n, int fd) {
    inspection_end(n);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = n};
    if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) < 0) {
        close(fd);
        return;
    }
    n->inspector = fd;
    n->inspector_events = EPOLLIN;
}

void inspection_ask(struct port *from, const uint8_t *bytes, uint32_t length) {
    struct network *n = from->network;
    struct frame *f = frame_copy(bytes, length);
    if (!f)
        return;
    f->source = from;
    f->number = ++n->questions;
    f->verdict = UNSHOWN;
    queue_put(&n->waiting, f);
    n->undecided++;
    show_waiting(n);
    if (ports_stalled(n))
        listen_to_all(n);
}

static void decide(struct network *n, uint64_t number, bool drop) {
    for (struct frame *f = n->waiting.first; f; f = f->next)
        if (f->number == number)
            f->verdict = drop ? DROPPED : PASSES;
}

void inspection_serve(struct network *n) {
    struct {
        uint64_t number, drop;
    } verdict;
    while (n->inspector >= 0) {
        ssize_t size = recv(n->inspector, &verdict, sizeof verdict, MSG_DONTWAIT);
        if (size == sizeof verdict)
            decide(n, verdict.number, verdict.drop);
        else if (size < 0 && errno == EAGAIN)
            break;
        else if (size >= 0 || errno != EINTR)
            inspection_end(n); /* the host has hung up */
    }
    if (n->inspector < 0)
        return;
    forward_decided(n);
    show_waiting(n);
}

void inspection_forget(struct port *p) {
    struct network *n = p->network;
    struct queue kept = {0};
    for (struct frame *f; (f = queue_take(&n->waiting));)
        if (f->source == p) {
            n->undecided--;
            free(f);
        } else
            queue_put(&kept, f);
    n->waiting = kept;
}
