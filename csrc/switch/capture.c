/* A file of all frames that machines send, in pcapng, which Wireshark and tcpdump read: an
 * interface for each card, and a comment where a frame was lost.
 *
 * Source: the Internet draft draft-ietf-opsawg-pcapng. */
#include "switch.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    SECTION = 0x0a0d0d0a,
    INTERFACE = 1,
    PACKET = 6,
    ETHERNET = 1,
    OPTION_COMMENT = 1,
    OPTION_NAME = 2,
    OPTION_RESOLUTION = 9,
    NANOSECONDS = 9,
};

/* The bytes of the whole blocks among the first ones of the buffer. */
static size_t whole_blocks(const struct capture *c, size_t written) {
    size_t whole = 0;
    for (uint32_t length; whole < written; whole += length) {
        memcpy(&length, c->buffer + whole + 4, sizeof length);
        if (whole + length > written)
            break;
    }
    return whole;
}

/* The buffer has whole blocks. If there is no room for all of them, the file ends with the last one
 * that fits, so that it can be read; the network does not suffer. */
void capture_flush(struct capture *c) {
    size_t done = 0;
    while (done < c->used && !c->error) {
        ssize_t n = write(c->file, c->buffer + done, c->used - done);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            c->error = n < 0 ? errno : EIO;
    }
    size_t whole = whole_blocks(c, done);
    c->size += (off_t)whole;
    if (whole < done && ftruncate(c->file, c->size) < 0)
        c->error = errno; /* it is no regular file: what reads it sees where it ends */
    c->used = 0;
}

static void put(struct capture *c, const void *bytes, size_t size) {
    static const uint8_t zeros[4];
    memcpy(c->buffer + c->used, bytes, size);
    memcpy(c->buffer + c->used + size, zeros, -size & 3);
    c->used += size + (-size & 3);
}

static void put_number(struct capture *c, uint32_t number) {
    put(c, &number, sizeof number);
}

static void put_option(struct capture *c, uint16_t code, const void *bytes, size_t size) {
    uint16_t head[2] = {code, (uint16_t)size};
    put(c, head, sizeof head);
    put(c, bytes, size);
}

/* A block has its length at both ends. */
static size_t begin(struct capture *c, uint32_t type, size_t room) {
    if (c->used + room + 64 > sizeof c->buffer)
        capture_flush(c);
    put_number(c, type);
    put_number(c, 0);
    return c->used - 8;
}

static void end(struct capture *c, size_t start) {
    uint32_t length = (uint32_t)(c->used + 4 - start);
    put_number(c, length);
    memcpy(c->buffer + start + 4, &length, sizeof length);
}

struct capture *capture_open(int file) {
    struct capture *c = malloc(sizeof *c);
    if (!c)
        return NULL;
    c->file = file;
    c->error = 0;
    c->size = 0;
    c->interfaces = 0;
    c->used = 0;
    static const uint32_t order = 0x1a2b3c4d;
    static const uint16_t version[2] = {1, 0};
    static const int64_t unknown = -1; /* the section's length */
    size_t start = begin(c, SECTION, 0);
    put(c, &order, sizeof order);
    put(c, version, sizeof version);
    put(c, &unknown, sizeof unknown);
    end(c, start);
    capture_flush(c);
    return c;
}

int capture_close(struct capture *c) {
    capture_flush(c);
    int error = c->error;
    close(c->file);
    free(c);
    return error;
}

uint32_t capture_interface(struct capture *c, const char *name) {
    static const uint16_t kind[2] = {ETHERNET, 0};
    static const uint8_t resolution = NANOSECONDS;
    size_t start = begin(c, INTERFACE, MAX_NAME);
    put(c, kind, sizeof kind);
    put_number(c, 0); /* frames are stored whole */
    put_option(c, OPTION_NAME, name, strlen(name));
    put_option(c, OPTION_RESOLUTION, &resolution, sizeof resolution);
    put_option(c, 0, "", 0);
    end(c, start);
    return c->interfaces++;
}

void capture_frame(struct capture *c, uint32_t interface, const uint8_t *bytes, uint32_t length,
                   const char *note) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t ns = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
    size_t start = begin(c, PACKET, length + NOTE);
    put_number(c, interface);
    put_number(c, (uint32_t)(ns >> 32));
    put_number(c, (uint32_t)ns);
    put_number(c, length);
    put_number(c, length);
    put(c, bytes, length);
    if (*note) {
        put_option(c, OPTION_COMMENT, note, strlen(note));
        put_option(c, 0, "", 0);
    }
    end(c, start);
}
