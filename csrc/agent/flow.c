/* Flow control: bytes move only while the receiver's window lasts. */
#include "agent.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Grants gather up to GRANT_STEP, for fewer frames. Stream data is queued only up to LOW_WATER:
 * the rest waits in its pipe, and what is urgent does not wait behind it. */
enum { GRANT_STEP = 64 * 1024, LOW_WATER = 64 * 1024 };

static int drains[MAX_DRAINS], drain_slots[MAX_DRAINS];
static size_t drain_count;

static bool would_block(ssize_t n) {
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

/* Write to the sink; what could be written. A broken one takes, and drops, everything. */
static size_t sink_write(struct channel *c, const uint8_t *data, size_t size) {
    struct sink *s = &c->in;
    size_t done = 0;
    while (s->fd >= 0 && done < size) {
        ssize_t n = write(s->fd, data + done, size - done);
        if (would_block(n))
            break;
        if (n < 0) {
            int error = errno;
            close(s->fd);
            s->fd = -1;
            c->operations->failed(c, error);
        } else {
            done += (size_t)n;
        }
    }
    return s->fd >= 0 ? done : size;
}

static bool sink_keep(struct sink *s, const uint8_t *data, size_t size) {
    if (!s->buffer && !(s->buffer = malloc(WINDOW)))
        return false;
    if (s->tail + size > WINDOW) {
        memmove(s->buffer, s->buffer + s->head, s->tail - s->head);
        s->tail -= s->head;
        s->head = 0;
    }
    memcpy(s->buffer + s->tail, data, size);
    s->tail += size;
    return true;
}

problem sink_accept(struct channel *c, const uint8_t *data, uint32_t size, bool *no_memory) {
    struct sink *s = &c->in;
    if (size > s->window)
        return "DATA beyond the window";
    if (s->eof)
        return "DATA after EOF";
    s->window -= size;
    size_t done = s->head == s->tail ? sink_write(c, data, size) : 0;
    s->ungranted += (uint32_t)done;
    *no_memory = done < size && !sink_keep(s, data + done, size - done);
    return NULL;
}

void sink_close(struct sink *s) {
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->ungranted += (uint32_t)(s->tail - s->head);
    s->head = s->tail = 0;
    free(s->buffer);
    s->buffer = NULL;
}

void sink_watch(struct sink *s) {
    bool wanted = s->head < s->tail && output_room(FRAME_ROOM);
    s->slot = wanted ? watch(s->fd, POLLOUT) : -1;
}

void sink_pump(struct channel *c) {
    struct sink *s = &c->in;
    if (fired(s->slot) && s->head < s->tail) {
        size_t done = sink_write(c, s->buffer + s->head, s->tail - s->head);
        if (!c->id)
            return;
        s->head += done;
        s->ungranted += (uint32_t)done;
        if (s->head == s->tail)
            s->head = s->tail = 0;
    }
    if (s->eof && s->head == s->tail && c->operations->is_command)
        sink_close(s);
    if (s->ungranted >= GRANT_STEP) {
        output_frame(STDIN_GRANT, c->id, &s->ungranted, 4);
        s->window += s->ungranted;
        s->ungranted = 0;
    }
}

void source_open(struct source *s, int fd, uint8_t type) {
    *s = (struct source){.fd = fd, .slot = -1, .window = WINDOW, .left = -1, .type = type};
}

void source_watch(struct source *s) {
    bool wanted = s->fd >= 0 && s->window && output_pending() <= LOW_WATER;
    s->slot = wanted ? watch(s->fd, POLLIN) : -1;
}

static void source_end(struct channel *c, struct source *s, int error) {
    close(s->fd);
    s->fd = -1;
    if (error)
        c->operations->failed(c, error);
}

void source_pump(struct channel *c, struct source *s) {
    bool ready = fired(s->slot) || s->left > 0;
    if (s->fd >= 0 && s->window && ready && output_pending() <= LOW_WATER) {
        size_t size = s->window < MAX_DATA ? s->window : MAX_DATA;
        if (s->left >= 0 && (size_t)s->left < size)
            size = (size_t)s->left;
        ssize_t n = size ? read(s->fd, output_begin(size), size) : 0;
        if (n > 0) {
            output_commit(s->type, c->id, (size_t)n);
            s->window -= (uint32_t)n;
            s->left -= s->left > 0 ? (int)n : 0;
        } else if (would_block(n)) {
            s->left = s->left > 0 ? 0 : s->left; /* another reader of the pipe was faster */
        } else if (s->left != 0) {
            source_end(c, s, n < 0 ? errno : 0);
        }
    }
    if (s->left == 0)
        source_leave(s);
}

/* Read and drop what there is; false once no writer is left. */
static bool drain(int fd) {
    static uint8_t waste[MAX_DATA];
    ssize_t n = read(fd, waste, sizeof waste);
    return n > 0 || would_block(n);
}

void source_leave(struct source *s) {
    if (s->fd >= 0) {
        if (drain_count < MAX_DRAINS && drain(s->fd))
            drains[drain_count++] = s->fd;
        else
            close(s->fd);
    }
    s->fd = -1;
}

void drains_watch(void) {
    for (size_t i = 0; i < drain_count; i++)
        drain_slots[i] = watch(drains[i], POLLIN);
}

void drains_pump(void) {
    size_t kept = 0;
    for (size_t i = 0; i < drain_count; i++)
        if (!fired(drain_slots[i]) || drain(drains[i]))
            drains[kept++] = drains[i];
        else
            close(drains[i]);
    drain_count = kept;
}
