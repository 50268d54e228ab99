/* Bytes in: cut into frames, however they arrive, and recovery when they are not frames.
 *
 * A former host may have left half a frame in the stream, so that the next host's HELLO is taken
 * for the rest of it, in part or whole. But a host waits for the answer after HELLO. So when no
 * byte has come for STALL_MS, something is left over, and the last bytes are a whole HELLO, then
 * that HELLO counts; what has been consumed stays in the buffer long enough for this.
 *
 * One case is left, a HELLO that ends exactly where the half frame would; so a host that gets no
 * answer says HELLO again.
 */
#include "agent.h"

enum { LOOKBACK = HEADER + MAX_HELLO, READ_SIZE = 64 * 1024, STALL_MS = 50 };

static const uint8_t hello_start[8] = {'C', 'I', VERSION, HELLO, 0, 0, 0, 0};

static uint8_t buffer[LOOKBACK + HEADER + MAX_PAYLOAD + READ_SIZE];
static size_t start, end;   /* what is not consumed */
static size_t current;      /* where the frame that was handed out last begins */
static bool seeking = true; /* for a HELLO */
static uint64_t last_read;
static bool stall_checked;
static problem trouble;

static uint32_t u32_at(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* The size of the consumed part that is no longer needed for looking back. */
static size_t outdated(void) {
    return start < LOOKBACK ? 0 : start - LOOKBACK;
}

static void compact(void) {
    size_t shift = outdated();
    memmove(buffer, buffer + shift, end - shift);
    start -= shift;
    end -= shift;
}

bool input_read(void) {
    if (start > 2 * READ_SIZE || sizeof buffer - end < READ_SIZE)
        compact();
    size_t room = sizeof buffer - end;
    ssize_t n = port_read(buffer + end, room < READ_SIZE ? room : READ_SIZE);
    if (n <= 0)
        return false;
    end += (size_t)n;
    last_read = now();
    stall_checked = false;
    return true;
}

bool input_empty(void) {
    return start == end;
}

static bool is_hello_length(uint32_t length) {
    return length >= MIN_HELLO && length <= MAX_HELLO;
}

static bool seek(void) {
    const uint8_t *at;
    while ((at = memmem(buffer + start, end - start, hello_start, sizeof hello_start))) {
        start = (size_t)(at - buffer);
        if (end - start < HEADER)
            return false;
        uint32_t length = u32_at(at + 8);
        if (is_hello_length(length)) {
            seeking = false;
            return true;
        }
        start++;
    }
    if (end - start >= sizeof hello_start)
        start = end - (sizeof hello_start - 1);
    return false;
}

bool input_next(struct frame *f) {
    if ((seeking && !seek()) || end - start < HEADER)
        return false;
    const uint8_t *header = buffer + start;
    uint32_t length = u32_at(header + 8);
    current = start;
    if (header[0] != 'C' || header[1] != 'I')
        trouble = "these bytes are no frame";
    else if (header[2] != VERSION)
        trouble = "a frame of another version of the protocol";
    else if (length > MAX_PAYLOAD)
        trouble = "a frame longer than any may be";
    if (trouble || end - start - HEADER < length)
        return false;
    *f = (struct frame){header[3], u32_at(header + 4), header + HEADER, length};
    start += HEADER + length;
    return true;
}

problem input_problem(void) {
    return trouble;
}

void input_lost(void) {
    trouble = NULL;
    seeking = true;
    start = current + 1;
}

int input_patience(void) {
    return start == end || stall_checked ? -1 : STALL_MS;
}

void input_check_stalled(void) {
    if (input_patience() < 0 || now() - last_read < STALL_MS * UINT64_C(1000000))
        return;
    stall_checked = true;
    const uint8_t *at = buffer + outdated(), *stop = buffer + end;
    while ((at = memmem(at, (size_t)(stop - at), hello_start, sizeof hello_start))) {
        size_t size = (size_t)(stop - at);
        if (size >= HEADER && is_hello_length(u32_at(at + 8)) && size == HEADER + u32_at(at + 8)) {
            start = (size_t)(at - buffer);
            seeking = false;
            return;
        }
        at++;
    }
}

struct cursor cursor_of(const struct frame *f) {
    return (struct cursor){f->payload, f->payload + f->length, false};
}

static const uint8_t *take(struct cursor *c, size_t size) {
    if (c->bad || (size_t)(c->end - c->at) < size) {
        c->bad = true;
        return NULL;
    }
    c->at += size;
    return c->at - size;
}

uint32_t take_u32(struct cursor *c) {
    const uint8_t *at = take(c, 4);
    return at ? u32_at(at) : 0;
}

uint64_t take_u64(struct cursor *c) {
    uint64_t low = take_u32(c);
    return low | (uint64_t)take_u32(c) << 32;
}

struct text take_text(struct cursor *c) {
    uint32_t length = take_u32(c);
    const uint8_t *at = take(c, length);
    if (at && memchr(at, 0, length))
        c->bad = true;
    return c->bad ? (struct text){"", 0} : (struct text){(const char *)at, length};
}

char *text_copy(struct text t) {
    return strndup(t.bytes, t.length);
}
