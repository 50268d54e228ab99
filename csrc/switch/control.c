/* The host's requests: one in each message, answered by a number unless it is not wanted. */
#include "switch.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum operation {
    OPEN = 1,  /* from: a card; with its socket: a new one, or its machine was reverted */
    CLOSE,     /* from: a card that is removed */
    LINK,      /* from, to: settings */
    CUT,       /* from, to; value: whether nothing passes */
    CAPTURE,   /* with a file: all frames go there; without: no more. The answer: errno of the former */
    INSPECT,   /* with a socket: frames are shown there, and verdicts are read; without: no more */
    HOLD,      /* value: whether nothing is delivered */
    UNREAD,    /* the answer: bytes that machines have not read, and frames without a verdict */
    DRAIN,     /* read all that machines have sent */
    DUMP,      /* write the frames under way to a file; the answer: their number */
    LOAD,      /* take frames from such a file; the network is held */
    REMOVE,    /* the network */
    STAY,      /* when the host goes: until the last machine has ended */
    SYNC,      /* all former requests are done when this is answered */
};
enum { QUIET = 1u << 31 };

struct request {
    uint32_t operation, network, from, to;
    struct settings settings;
    uint64_t value;
    char name[MAX_NAME];
};
_Static_assert(sizeof(struct request) == 136, "as the host packs it");

struct record { /* of a frame under way; from 0: it has left its link */
    uint32_t from, to;
    uint64_t left; /* ns */
    uint32_t length, padding;
};

static bool staying;

bool stays(void) {
    return staying;
}

static uint64_t dump_frame(int file, uint32_t from, uint32_t to, uint64_t left,
                           const struct frame *f) {
    struct record r = {from, to, left, f->length, 0};
    struct iovec parts[] = {{&r, sizeof r}, {(void *)f->bytes, f->length}};
    return writev(file, parts, 2) == (ssize_t)(sizeof r + f->length);
}

/* Those that have left their links come first: they are delivered before the others. */
static uint64_t dump(const struct network *n, int file) {
    uint64_t count = 0, at = n->held ? n->held_at : now();
    for (const struct port *p = n->ports; p; p = p->next)
        for (const struct frame *f = p->out.first; f; f = f->next)
            count += dump_frame(file, 0, p->number, 0, f);
    for (const struct port *p = n->ports; p; p = p->next)
        for (const struct link *l = p->links; l; l = l->next) {
            const struct frame *f = l->delayed.first;
            for (; f; f = f->next)
                count += dump_frame(file, p->number, l->to->number, f->due > at ? f->due - at : 0, f);
            if ((f = l->late))
                count += dump_frame(file, p->number, l->to->number, f->due > at ? f->due - at : 0, f);
        }
    return count;
}

static bool load(struct network *n, int file) {
    static uint8_t bytes[MAX_FRAME];
    struct record r;
    while (read(file, &r, sizeof r) == sizeof r) {
        if (r.length > sizeof bytes || read(file, bytes, r.length) != (ssize_t)r.length)
            return false;
        struct port *to = port_find(n, r.to), *from = r.from ? port_find(n, r.from) : NULL;
        struct frame *f = to ? frame_copy(bytes, r.length) : NULL;
        struct link *l = f && from ? link_between(from, to, true) : NULL;
        if (l) {
            f->due = n->held_at + r.left;
            link_put(l, f);
        } else if (f)
            port_queue(to, f);
    }
    return true;
}

static void drain(struct network *n) {
    for (struct port *p = n->ports; p; p = p->next)
        while (network_read(p, BATCH) && !ports_stalled(n))
            continue;
}

static uint64_t unread(const struct network *n) {
    uint64_t sum = n->undecided;
    for (const struct port *p = n->ports; p; p = p->next)
        sum += port_unread(p);
    return sum;
}

static int capture(struct network *n, int file) {
    int error = n->capture ? capture_close(n->capture) : 0;
    n->capture = file >= 0 ? capture_open(file) : NULL;
    for (struct port *p = n->ports; p; p = p->next)
        p->interface = -1;
    return error;
}

static void set_link(struct network *n, const struct request *r) {
    struct port *from = port_find(n, r->from), *to = port_find(n, r->to);
    struct link *l = from && to ? link_between(from, to, true) : NULL;
    if (l && r->operation == CUT)
        l->cut = r->value;
    else if (l)
        link_set(l, &r->settings);
}

static uint64_t perform_on(struct network *n, const struct request *r, int fd) {
    struct port *p;
    switch (r->operation) {
    case OPEN:
        if (!port_open(n, r->from, fd, r->name))
            close(fd);
        return 0;
    case CLOSE:
        if ((p = port_find(n, r->from)))
            network_remove_port(p);
        return 0;
    case LINK: case CUT:
        set_link(n, r);
        return 0;
    case CAPTURE:
        return (uint64_t)capture(n, fd);
    case INSPECT:
        if (fd >= 0)
            inspection_begin(n, fd);
        else
            inspection_end(n);
        return 0;
    case HOLD:
        network_hold(n, r->value);
        return 0;
    case UNREAD:
        return unread(n);
    case DRAIN:
        drain(n);
        return 0;
    case REMOVE:
        network_remove(n);
        return 0;
    case DUMP: case LOAD: {
        uint64_t done = r->operation == DUMP ? dump(n, fd) : load(n, fd);
        close(fd);
        return done;
    }
    default:
        return UINT64_MAX;
    }
}

static uint64_t perform(const struct request *r, int fd) {
    switch (r->operation) {
    case STAY:
        staying = true;
        return 0;
    case SYNC:
        return 0;
    default:
        return perform_on(network_find(r->network, true), r, fd);
    }
}

static int descriptor_of(struct msghdr *message) {
    struct cmsghdr *c = CMSG_FIRSTHDR(message);
    int fd = -1;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

bool control_serve(int control) {
    for (;;) {
        struct request r;
        union {
            struct cmsghdr head;
            char room[CMSG_SPACE(sizeof(int))];
        } rights;
        struct iovec part = {&r, sizeof r};
        struct msghdr message = {
            .msg_iov = &part,
            .msg_iovlen = 1,
            .msg_control = &rights,
            .msg_controllen = sizeof rights,
        };
        ssize_t n = recvmsg(control, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return true;
        if (n != sizeof r)
            return false;
        bool quiet = r.operation & QUIET;
        r.operation &= ~QUIET;
        uint64_t answer = perform(&r, descriptor_of(&message));
        if (!quiet && send(control, &answer, sizeof answer, MSG_NOSIGNAL) < 0)
            return false;
    }
}
