/* Frames out: one bounded queue, written to the port in as few calls as it takes.
 *
 * In an emulated machine each write costs as much as many system calls, since it notifies the host
 * and interrupts the guest. So the output of a command that was just started waits a moment for its
 * end: most commands are short, and all of their answer goes out at once.
 */
#include "agent.h"

enum { GATHER_MS = 20, GATHERED = 64 * 1024 };

static uint8_t queue[256 * 1024];
static size_t head, tail;
static size_t refused; /* the size of the last request for room that was refused */
static bool pressing;   /* there is something else than STARTED and a command's words */
static uint64_t since;  /* when the first of the words that wait came; 0: none wait */

void output_clear(void) {
    head = tail = 0;
    pressing = false;
    since = 0;
}

int output_patience(bool command_is_young) {
    if (head == tail)
        return -1;
    if (pressing || tail - head > GATHERED || !command_is_young)
        return 0;
    if (!since)
        return YOUNG_MS;
    uint64_t waited = (now() - since) / 1000000;
    return waited < GATHER_MS ? GATHER_MS - (int)waited : 0;
}

size_t output_pending(void) {
    return tail - head;
}

bool output_room(size_t size) {
    bool fits = sizeof queue - (tail - head) >= size;
    if (!fits)
        refused = size;
    return fits;
}

bool output_starved(void) {
    bool again = refused && sizeof queue - (tail - head) >= refused;
    if (again)
        refused = 0;
    return again;
}

uint8_t *output_begin(size_t size) {
    if (head && sizeof queue - tail < HEADER + size) {
        memmove(queue, queue + head, tail - head);
        tail -= head;
        head = 0;
    }
    if (sizeof queue - tail < HEADER + size)
        __builtin_trap(); /* a frame needs output_room() first */
    return queue + tail + HEADER;
}

void output_commit(uint8_t type, uint32_t channel, size_t size) {
    bool words = type == STDOUT || type == STDERR;
    pressing |= !words && type != STARTED;
    if (words && !since)
        since = now();
    uint8_t *header = queue + tail;
    uint32_t length = (uint32_t)size;
    memcpy(header, (uint8_t[]){'C', 'I', VERSION, type}, 4);
    memcpy(header + 4, &channel, 4);
    memcpy(header + 8, &length, 4);
    tail += HEADER + size;
}

void output_frame(uint8_t type, uint32_t channel, const void *payload, size_t size) {
    uint8_t *room = output_begin(size);
    if (size)
        memcpy(room, payload, size);
    output_commit(type, channel, size);
}

void output_flush(void) {
    ssize_t n = 1;
    while (n > 0 && tail > head) {
        n = port_write(queue + head, tail - head);
        head += (size_t)n;
    }
    if (head == tail)
        output_clear();
}
