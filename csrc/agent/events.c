/* The clock, and the descriptors that the loop waits for. */
#include "agent.h"

#include <time.h>

enum { MAX_WATCHED = 2 + 3 * MAX_CHANNELS + MAX_DRAINS };

static struct pollfd watched[MAX_WATCHED];
static int count;

uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void events_clear(void) {
    count = 0;
}

int watch(int fd, short events) {
    watched[count] = (struct pollfd){.fd = fd, .events = events};
    return count++;
}

void events_wait(int timeout) {
    poll(watched, (nfds_t)count, timeout);
}

bool fired(int slot) {
    return slot >= 0 && watched[slot].revents;
}

bool hung_up(int slot) {
    return slot >= 0 && watched[slot].revents & POLLHUP;
}
