/* What each frame of the host does. */
#include "agent.h"

#include <errno.h>
#include <stdio.h>

bool in_guest, bound, is_ending;

static const char not_ours[] =
    "this agent leaves its machine alone, it was started without --guest";

static problem hello(const struct frame *f) {
    if (f->channel != 0 || f->length < MIN_HELLO || f->length > MAX_HELLO)
        return "bad HELLO";
    const char *clock_error = NULL, *entropy_error = NULL;
    uint64_t clock;
    memcpy(&clock, f->payload + NONCE, sizeof clock);
    channels_drop();
    output_clear();
    bound = false;
    if (in_guest && clock)
        clock_error = set_clock(clock);
    if (in_guest && f->length > MIN_HELLO)
        entropy_error = add_entropy(f->payload + MIN_HELLO, f->length - MIN_HELLO);
    static uint8_t nonce[NONCE]; /* in memory only: it proves that a clone continues the session */
    static bool again;
    if (in_guest && !again)
        network_announce();
    uint8_t *ack = output_begin(NONCE + MAX_MESSAGE);
    char *text = (char *)ack + NONCE;
    size_t size = describe(text, again ? nonce : NULL, clock_error, entropy_error);
    memcpy(ack, f->payload, NONCE);
    memcpy(nonce, f->payload, NONCE);
    again = true;
    output_commit(HELLO_ACK, 0, NONCE + size);
    output_flush(); /* THAW, which follows at once, takes so long that the clock would be old */
    return NULL;
}

static problem signal_channel(struct channel *c, const struct frame *f) {
    struct cursor cursor = cursor_of(f);
    uint32_t signal = take_u32(&cursor);
    if (f->length != 4 || signal < 1 || signal > 64)
        return "bad SIGNAL";
    c->operations->signal(c, (int)signal);
    return NULL;
}

static problem grant(struct channel *c, const struct frame *f) {
    struct cursor cursor = cursor_of(f);
    uint32_t stream = take_u32(&cursor), n = take_u32(&cursor);
    if (f->length != 8 || stream < 1 || stream > 2)
        return "bad GRANT";
    struct source *s = &c->out[stream - 1];
    if (n > WINDOW - s->window)
        return "GRANT of more than was sent";
    s->window += n;
    return NULL;
}

static problem take_input(struct channel *c, const struct frame *f) {
    bool no_memory = false;
    problem bad = sink_accept(c, f->payload, f->length, &no_memory);
    if (no_memory)
        channel_fail(c, ENOMEM, "the agent has no memory for the input");
    return bad;
}

static problem for_channel(const struct frame *f) {
    struct channel *c = channel_find(f->channel);
    if (f->type == DATA && f->length > MAX_DATA)
        return "DATA longer than 64 KiB";
    if (!c)
        return NULL; /* it was under way when the channel ended */
    if (f->type == SIGNAL)
        return signal_channel(c, f);
    if (f->type == GRANT)
        return grant(c, f);
    if (f->type == RESIZE)
        return command_resize(c, f);
    if (!c->operations->takes_input)
        return "input for a READ";
    if (f->type == DATA)
        return take_input(c, f);
    c->in.eof = true;
    return NULL;
}

static problem new_channel(const struct frame *f) {
    if (f->channel == 0 || channel_find(f->channel))
        return "EXEC, TERMINAL, READ or WRITE on a channel in use";
    if (is_ending)
        return NULL; /* the host learns from the port's end that it is not done */
    if (f->type == READ || f->type == WRITE)
        return f->type == READ ? file_read(f) : file_write(f);
    return command_start(f);
}

static const char *thaw_as(struct cursor *c, problem *bad) {
    struct text host_name = take_text(c), machine_id = take_text(c);
    bool with_mac = c->end - c->at >= MAC;
    if (c->bad || (c->at != c->end && !with_mac)) {
        *bad = "bad THAW";
        return NULL;
    }
    const uint8_t *mac = with_mac ? c->at : NULL;
    c->at += with_mac ? MAC : 0;
    bool with_cards = c->at != c->end;
    *bad = with_cards ? cards_take(c) : NULL;
    if (*bad || !in_guest)
        return not_ours;
    const char *error = set_identity(host_name, machine_id, mac);
    if (!error && with_cards)
        error = cards_set();
    return error ? error : thaw();
}

/* What the frame asks for, done if this is the guest; *action names it. */
static const char *act(const struct frame *f, const char **action, problem *bad) {
    struct cursor cursor = cursor_of(f);
    switch (f->type) {
    case CLOCK:
        *action = "set the clock";
        *bad = f->length == 8 || f->length == 16 ? NULL : "bad CLOCK";
        if (*bad || !in_guest)
            return not_ours;
        const char *wrong = set_clock(take_u64(&cursor));
        return wrong || f->length == 8 ? wrong : set_clock_rate((int64_t)take_u64(&cursor));
    case RESEED:
        *action = "add entropy";
        *bad = f->length <= MAX_ENTROPY ? NULL : "bad RESEED";
        return *bad || !in_guest ? not_ours : add_entropy(f->payload, f->length);
    case FREEZE:
        *action = "freeze the other processes";
        *bad = f->length == 0 ? NULL : "bad FREEZE";
        return *bad || !in_guest ? not_ours : freeze();
    case THAW:
        *action = "thaw the machine";
        return thaw_as(&cursor, bad);
    case CARDS:
        *action = "set up its network cards";
        *bad = cards_take(&cursor);
        return *bad || !in_guest ? not_ours : cards_set();
    default:
        *action = "power off";
        *bad = f->length == 1 ? NULL : "bad POWEROFF";
        return *bad || !in_guest ? not_ours : power_off(f->payload[0]);
    }
}

/* Requests that act on the machine, which needs --guest. */
static problem for_machine(const struct frame *f) {
    if (channel_find(f->channel))
        return "CLOCK, RESEED, POWEROFF, FREEZE, THAW or CARDS on a channel in use";
    uint64_t began = now();
    const char *action;
    problem bad = NULL;
    errno = EPERM;
    const char *error = act(f, &action, &bad);
    int code = errno;
    if (bad)
        return bad;
    char message[MAX_MESSAGE] = "";
    if (error)
        snprintf(message, sizeof message, "cannot %s: %s", action, error);
    send_done(f->channel, error ? FAILED : EXITED, error ? (uint32_t)code : 0, now() - began,
              message);
    return NULL;
}

problem dispatch(const struct frame *f) {
    switch (f->type) {
    case HELLO:
        return hello(f);
    case EXEC: case TERMINAL: case READ: case WRITE:
        return new_channel(f);
    case DATA: case END_OF_DATA: case SIGNAL: case GRANT: case RESIZE:
        return for_channel(f);
    case CLOCK: case RESEED: case POWEROFF: case FREEZE: case THAW: case CARDS:
        return for_machine(f);
    case PING:
        if (f->length > MAX_DATA)
            return "PING longer than 64 KiB";
        output_frame(PONG, f->channel, f->payload, f->length);
        return NULL;
    case BIND:
        if (f->channel != 0 || f->length != 0)
            return "bad BIND";
        bound = true;
        port_serve_others();
        return NULL;
    default:
        return "a frame of unknown type";
    }
}
