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

static char control_mark, inspector_mark, timer_mark; /* what epoll reports for these */

static bool add(int fd, void *mark) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = mark};
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

static bool reported(const struct epoll_event *events, int count, const void *mark) {
    for (int i = 0; i < count; i++)
        if (events[i].data.ptr == mark)
            return true;
    return false;
}

static void watch_inspector(void) {
    static int watched = -1;
    if (inspector != watched && inspector >= 0)
        add(inspector, &inspector_mark);
    watched = inspector;
}

static void lose_inspector(void) {
    close(inspector);
    inspector = -1;
    for (struct network *n = networks; n; n = n->next)
        network_inspect(n, false);
}

static void serve_cards(const struct epoll_event *events, int count, int timer) {
    for (int i = 0; i < count; i++) {
        struct port *p = events[i].data.ptr;
        uint64_t expirations;
        if ((void *)p == &timer_mark) {
            if (read(timer, &expirations, sizeof expirations) < 0)
                continue;
        } else {
            if (events[i].events & EPOLLOUT)
                port_flush(p);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                network_read(p, BATCH);
        }
    }
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    if (argc == 4 && strcmp(argv[1], "relay") == 0)
        return relay(argv[2], argv[3]);
    if (argc != 2) {
        fprintf(stderr, "usage: switch CONTROL | switch relay ADDRESS PORT\n");
        return 2;
    }
    int control = atoi(argv[1]);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    loop = epoll_create1(EPOLL_CLOEXEC);
    if (loop < 0 || timer < 0 || !add(control, &control_mark) || !add(timer, &timer_mark))
        return 1;
    bool led = true; /* the host is there */
    while (led || (stays() && has_machines())) {
        struct epoll_event events[EVENTS];
        watch_inspector();
        set_timer(timer, networks_tick());
        int count = epoll_wait(loop, events, EVENTS, -1);
        if (count < 0 && errno != EINTR)
            return 1;
        if (reported(events, count, &control_mark)) {
            if (!control_serve(control)) {
                led = false;
                close(control);
            }
        } else if (reported(events, count, &inspector_mark)) {
            if (inspector >= 0 && !inspector_serve())
                lose_inspector();
        } else
            serve_cards(events, count, timer);
    }
    return 0;
}
