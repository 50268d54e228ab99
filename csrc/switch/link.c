/* The fate of the frames from one card to another.
 *
 * It depends only on the seed and on how many frames have passed before: each frame draws the same
 * number of random numbers, whatever the settings are. So the same frames have the same fate in
 * each run, and a link with more loss loses all that one with less would have lost.
 */
#include "switch.h"

#include <stdlib.h>

/* How long a frame that is to be overtaken waits for another one. */
static const uint64_t PATIENCE = 20 * 1000 * 1000;
/* A link with a rate queues this long at most, but always some frames. */
static const uint64_t MAX_BACKLOG = 500 * 1000 * 1000;
enum { MIN_BACKLOG = 32 * 1514 };

enum draw { LOSS, DUPLICATE, REORDER, CORRUPT, JITTER, PLACE, DRAWS };

/* splitmix64 (Steele, Lea, Flood, 2014). */
static uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

static uint64_t drawn(const struct link *l, enum draw what) {
    return mix(mix(l->settings.seed) + l->count * DRAWS + (uint64_t)what);
}

static bool hit(const struct link *l, enum draw what, uint32_t part) {
    return part == UINT32_MAX || (uint32_t)(drawn(l, what) >> 32) < part;
}

struct link *link_between(struct port *from, struct port *to, bool create) {
    struct link *l = from->links;
    while (l && l->to != to)
        l = l->next;
    if (!l && create && (l = calloc(1, sizeof *l))) {
        l->to = to;
        l->next = from->links;
        from->links = l;
    }
    return l;
}

static void hasten(struct frame *f, uint64_t latest) {
    if (f && f->due > latest)
        f->due = latest;
}

/* Frames that are under way arrive no later than one that is sent now: a link that was slow does
 * not stay so until its last frame has arrived. */
void link_set(struct link *l, const struct settings *s) {
    const struct network *n = l->to->network;
    uint64_t at = n->held ? n->held_at : now(), latest = at + s->delay + s->jitter;
    l->settings = *s;
    l->count = 0;
    for (struct frame *f = l->delayed.first; f; f = f->next)
        hasten(f, latest);
    hasten(l->late, latest);
    if (l->last_due > latest)
        l->last_due = latest;
    if (l->free_at > at)
        l->free_at = at;
}

static void note_loss(char *note, const char *why, const struct link *l) {
    size_t used = strlen(note);
    if (used + MAX_NAME + 32 < NOTE)
        stpcpy(stpcpy(stpcpy(stpcpy(note + used, used ? ", " : ""), why), " to "), l->to->name);
}

static uint64_t leaves_at(struct link *l, uint32_t length) {
    const struct settings *s = &l->settings;
    uint64_t at = now();
    if (s->rate) {
        l->free_at = (l->free_at > at ? l->free_at : at) + length * UINT64_C(8000000000) / s->rate;
        at = l->free_at;
    }
    at += s->delay;
    if (s->jitter) {
        uint64_t spread = drawn(l, JITTER) % (2 * s->jitter + 1);
        at = at + spread > s->jitter ? at + spread - s->jitter : 0;
    }
    return at;
}

static bool is_full(const struct link *l) {
    uint64_t at = now();
    return l->delayed.bytes > MAX_DELAYED ||
           (l->settings.rate && l->delayed.bytes > MIN_BACKLOG && l->free_at > at + MAX_BACKLOG);
}

/* Jitter and later settings do not reorder frames: only what is to reorder them does. */
void link_put(struct link *l, struct frame *f) {
    if (f->due < l->last_due)
        f->due = l->last_due;
    l->last_due = f->due;
    queue_put(&l->delayed, f);
}

static void pass(struct link *l, struct frame *f) {
    f->due = leaves_at(l, f->length);
    link_put(l, f);
}

static void corrupt(const struct link *l, struct frame *f) {
    if (f->length <= MIN_FRAME)
        return;
    uint64_t place = drawn(l, PLACE) % ((f->length - MIN_FRAME) * 8u);
    f->bytes[MIN_FRAME + place / 8] ^= (uint8_t)(1u << place % 8);
}

void link_send(struct link *l, const uint8_t *bytes, uint32_t length, char *note) {
    const struct settings *s = &l->settings;
    if (l->cut) {
        note_loss(note, "cut", l);
        return;
    }
    bool lost = hit(l, LOSS, s->loss), twice = hit(l, DUPLICATE, s->duplicate);
    bool late = hit(l, REORDER, s->reorder), bad = hit(l, CORRUPT, s->corrupt);
    struct frame *f = NULL, *again = NULL, *former = l->late;
    if (lost)
        note_loss(note, "lost", l);
    else if (is_full(l))
        note_loss(note, "no room", l);
    else if ((f = frame_copy(bytes, length))) {
        if (bad)
            corrupt(l, f);
        if (twice)
            again = frame_copy(f->bytes, length);
        if (late && !former) {
            l->late = f;
            f->due = now() + PATIENCE;
        } else {
            pass(l, f);
            if (former) {
                l->late = NULL;
                pass(l, former);
            }
        }
        if (again)
            pass(l, again);
    }
    l->count++;
    if (!l->to->network->held)
        link_deliver(l, now());
}

void link_deliver(struct link *l, uint64_t at) {
    if (l->late && l->late->due <= at) {
        struct frame *f = l->late;
        l->late = NULL;
        pass(l, f);
    }
    while (l->delayed.first && l->delayed.first->due <= at)
        port_queue(l->to, queue_take(&l->delayed));
}

uint64_t link_due(const struct link *l) {
    uint64_t due = l->delayed.first ? l->delayed.first->due : UINT64_MAX;
    return l->late && l->late->due < due ? l->late->due : due;
}

void link_shift(struct link *l, uint64_t by) {
    for (struct frame *f = l->delayed.first; f; f = f->next)
        f->due += by;
    if (l->late)
        l->late->due += by;
    l->free_at += by;
    l->last_due += by;
}

static void destroy(struct link *l) {
    queue_clear(&l->delayed);
    free(l->late);
    free(l);
}

/* All links from this card and to it. */
void links_drop(struct port *p) {
    for (struct link *l; (l = p->links);) {
        p->links = l->next;
        destroy(l);
    }
    for (struct port *other = p->network->ports; other; other = other->next)
        for (struct link **at = &other->links; *at;) {
            struct link *l = *at;
            if (l->to == p) {
                *at = l->next;
                destroy(l);
            } else
                at = &l->next;
        }
}
