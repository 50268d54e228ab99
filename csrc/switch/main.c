/* The loop of the switch. Requests come first: what a request forbids does not happen after it. */
#include "switch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { EVENTS = 64 };

static struct watch control_watch = {CONTROL}, timer_watch = {TIMER};

static bool add(int fd, struct watch *watch) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = watch};
    return epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* epoll_wait() waits for whole milliseconds. */
static void set_timer(int timer, uint64_t due) {
    static uint64_t set = UINT64_MAX;
    if (due == set)
        return;
    set = due;
    struct itimerspec at = {0};
    if (due != UINT64_MAX) {
        at.it_value.tv_sec = (time_t)(due / 1000000000);
        at.it_value.tv_nsec = (long)(due % 1000000000);
    }
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static bool has_machines(void) {
    for (struct network *n = networks; n; n = n->next)
        for (struct port *p = n->ports; p; p = p->next)
            if (p->fd >= 0)
                return true;
    return false;
}

static bool has_requests(const struct epoll_event *events, int count) {
    for (int i = 0; i < count; i++)
        if (events[i].data.ptr == &control_watch)
            return true;
    return false;
}

static void serve_card(struct port *p, uint32_t events) {
    if (events & EPOLLOUT)
        port_flush(p);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        network_read(p, BATCH);
}

static void serve(const struct epoll_event *event, int timer) {
    struct watch *watch = event->data.ptr;
    uint64_t expirations;
    switch (watch->kind) {
    case TIMER:
        if (read(timer, &expirations, sizeof expirations) < 0)
            return; /* it was set again: what is due is delivered anyway */
        break;
    case CARD:
        serve_card((struct port *)watch, event->events);
        break;
    case INSPECTOR:
        inspection_serve((struct network *)watch);
        break;
    case CONTROL:
        break;
    }
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a capture at the limit of a file's size: write() fails */
    if (argc == 4 && strcmp(argv[1], "relay") == 0)
        return relay(argv[2], argv[3]);
    if (argc != 2) {
        fprintf(stderr, "usage: switch CONTROL | switch relay ADDRESS PORT\n");
        return 2;
    }
    int control = atoi(argv[1]);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    loop = epoll_create1(EPOLL_CLOEXEC);
    if (loop < 0 || timer < 0 || !add(control, &control_watch) || !add(timer, &timer_watch))
        return 1;
    bool led = true; /* the host is there */
    while (led || (stays() && has_machines())) {
        struct epoll_event events[EVENTS];
        set_timer(timer, networks_tick());
        int count = epoll_wait(loop, events, EVENTS, -1);
        if (count < 0 && errno != EINTR)
            return 1;
        /* A request may remove what another event is about; that one is reported again. */
        if (has_requests(events, count)) {
            if (!control_serve(control)) {
                led = false;
                close(control);
            }
        } else
            for (int i = 0; i < count; i++)
                serve(&events[i], timer);
    }
    return 0;
}
