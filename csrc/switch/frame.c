/* The clock, and queues of frames. */
#include "switch.h"

#include <stdlib.h>
#include <time.h>

uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

struct frame *frame_copy(const uint8_t *bytes, uint32_t length) {
    struct frame *f = malloc(sizeof *f + length);
    if (!f)
        return NULL; /* a lost frame, as on a busy network */
    *f = (struct frame){.length = length};
    memcpy(f->bytes, bytes, length);
    return f;
}

void queue_put(struct queue *q, struct frame *f) {
    f->next = NULL;
    if (q->last)
        q->last->next = f;
    else
        q->first = f;
    q->last = f;
    q->bytes += f->length;
}

struct frame *queue_take(struct queue *q) {
    struct frame *f = q->first;
    if (!f)
        return NULL;
    q->first = f->next;
    if (!q->first)
        q->last = NULL;
    q->bytes -= f->length;
    f->next = NULL;
    return f;
}

void queue_clear(struct queue *q) {
    for (struct frame *f; (f = queue_take(q));)
        free(f);
}
