/* The open channels. */
#include "agent.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static struct channel *channels[MAX_CHANNELS];
static size_t count, first; /* first: whose turn it is to send, so that no channel starves */

/* Free what channel_done() closed; it cannot itself, as its callers still hold the channel. */
static void sweep(void) {
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (channels[i]->id)
            channels[kept++] = channels[i];
        else
            free(channels[i]);
    count = kept;
}

struct channel *channel_find(uint32_t id) {
    for (size_t i = 0; id && i < count; i++)
        if (channels[i]->id == id)
            return channels[i];
    return NULL;
}

struct channel *channel_open(uint32_t id, const struct operations *operations) {
    sweep();
    struct channel *c = count < MAX_CHANNELS ? calloc(1, sizeof *c) : NULL;
    if (!c) {
        send_done(id, FAILED, EAGAIN, 0, "256 channels are open, or there is no memory for more");
        return NULL;
    }
    *c = (struct channel){.id = id, .operations = operations, .began = now()};
    c->in = (struct sink){.fd = -1, .slot = -1, .window = WINDOW};
    source_open(&c->out[0], -1, STDOUT);
    source_open(&c->out[1], -1, STDERR);
    channels[count++] = c;
    return c;
}

static void close_channel(struct channel *c) {
    c->operations->abandon(c);
    sink_close(&c->in);
    source_leave(&c->out[0]);
    source_leave(&c->out[1]);
    c->id = 0;
}

void send_done(uint32_t id, enum outcome outcome, uint32_t code, uint64_t ns, const char *message) {
    uint8_t payload[13 + MAX_MESSAGE] = {(uint8_t)outcome};
    size_t length = strnlen(message, MAX_MESSAGE);
    memcpy(payload + 1, &code, 4);
    memcpy(payload + 5, &ns, 8);
    memcpy(payload + 13, message, length);
    output_frame(DONE, id, payload, 13 + length);
}

void channel_done(struct channel *c, enum outcome outcome, uint32_t code, const char *message) {
    send_done(c->id, outcome, code, (c->ended ? c->ended : now()) - c->began, message);
    close_channel(c);
}

void channel_fail(struct channel *c, int error, const char *format, ...) {
    char message[MAX_MESSAGE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    channel_done(c, FAILED, (uint32_t)error, message);
}

struct channel *channel_of(pid_t pid) {
    for (size_t i = 0; i < count; i++)
        if (channels[i]->id && channels[i]->pid == pid && !channels[i]->ended)
            return channels[i];
    return NULL;
}

bool commands_young(uint64_t ms) {
    uint64_t latest = now() - ms * 1000000;
    for (size_t i = 0; i < count; i++)
        if (channels[i]->pid > 0 && !channels[i]->ended && channels[i]->began > latest)
            return true;
    return false;
}

void channels_watch(void) {
    sweep();
    for (size_t i = 0; i < count; i++) {
        sink_watch(&channels[i]->in);
        source_watch(&channels[i]->out[0]);
        source_watch(&channels[i]->out[1]);
    }
}

static void pump(struct channel *c) {
    if (!output_room(FRAME_ROOM))
        return;
    sink_pump(c);
    for (int i = 0; c->id && i < 2; i++)
        source_pump(c, &c->out[i]);
    if (c->id)
        c->operations->pump(c);
}

void channels_pump(void) {
    for (size_t i = 0; i < count; i++) {
        struct channel *c = channels[(first + i) % count];
        if (c->id)
            pump(c);
    }
    first++;
}

bool channels_open(void) {
    sweep();
    return count > 0;
}

void channels_signal(int signal) {
    for (size_t i = 0; i < count; i++)
        if (channels[i]->id && channels[i]->operations->is_command)
            channels[i]->operations->signal(channels[i], signal);
}

void channels_drop(void) {
    for (size_t i = 0; i < count; i++)
        if (channels[i]->id)
            close_channel(channels[i]);
    sweep();
}
