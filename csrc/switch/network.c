/* Which card gets a frame, as a learning bridge decides it. */
#include "switch.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct network *networks;

static size_t slot_of(const uint8_t *mac) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (int i = 0; i < MAC; i++)
        hash = (hash ^ mac[i]) * 16777619u;
    return hash % MAX_MACS;
}

/* Two addresses of one slot forget each other, and their frames go to all cards. */
static void learn(struct network *n, const uint8_t *mac, struct port *from) {
    size_t slot = slot_of(mac);
    if (mac[0] & 1)
        return; /* a group has no card */
    memcpy(n->macs[slot].mac, mac, MAC);
    n->macs[slot].port = from;
}

static struct port *known(const struct network *n, const uint8_t *mac) {
    size_t slot = slot_of(mac);
    bool found = n->macs[slot].port && memcmp(n->macs[slot].mac, mac, MAC) == 0;
    return found && !(mac[0] & 1) ? n->macs[slot].port : NULL;
}

static void deliver(struct port *from, struct port *to, const uint8_t *bytes, uint32_t length,
                    char *note) {
    struct link *l = from->links ? link_between(from, to, false) : NULL;
    if (l)
        link_send(l, bytes, length, note);
    else
        port_send(to, bytes, length, note);
}

static void record(struct port *from, const uint8_t *bytes, uint32_t length, const char *note) {
    struct capture *c = from->network->capture;
    if (from->interface < 0)
        from->interface = capture_interface(c, from->name);
    capture_frame(c, (uint32_t)from->interface, bytes, length, note);
}

static void forward(struct port *from, const uint8_t *bytes, uint32_t length, bool drop) {
    struct network *n = from->network;
    char note[NOTE] = "";
    if (drop)
        stpcpy(note, "dropped");
    struct port *to = drop ? NULL : known(n, bytes);
    if (to && to != from)
        deliver(from, to, bytes, length, note);
    for (struct port *p = to || drop ? NULL : n->ports; p; p = p->next)
        if (p != from)
            deliver(from, p, bytes, length, note);
    if (n->capture)
        record(from, bytes, length, note);
}

struct network *network_find(uint32_t number, bool create) {
    struct network *n = networks;
    while (n && n->number != number)
        n = n->next;
    if (!n && create && (n = calloc(1, sizeof *n))) {
        n->watch.kind = INSPECTOR;
        n->forward = forward;
        n->inspector = -1;
        n->number = number;
        n->next = networks;
        networks = n;
    }
    return n;
}

static void receive(struct port *from, const uint8_t *bytes, uint32_t length) {
    learn(from->network, bytes + MAC, from);
    if (from->network->inspector >= 0)
        inspection_ask(from, bytes, length);
    else
        forward(from, bytes, length, false);
}

/* An empty frame reads as the end does. */
static bool has_ended(int fd) {
    struct pollfd p = {.fd = fd};
    return poll(&p, 1, 0) != 0; /* it hung up, or failed */
}

bool network_read(struct port *p, int limit) {
    static uint8_t bytes[MAX_FRAME];
    while (p->fd >= 0 && limit-- > 0) {
        ssize_t n = recv(p->fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_TRUNC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n < 0 || (n == 0 && has_ended(p->fd))) {
            port_close(p);
            return false;
        }
        if (n >= MIN_FRAME && n <= MAX_FRAME)
            receive(p, bytes, (uint32_t)n);
        if (ports_stalled(p->network))
            return true;
    }
    return p->fd >= 0;
}

void network_hold(struct network *n, bool on) {
    if (on == n->held)
        return;
    n->held = on;
    if (on)
        n->held_at = now();
    for (struct port *p = n->ports; p; p = p->next) {
        for (struct link *l = p->links; l && !on; l = l->next)
            link_shift(l, now() - n->held_at);
        if (on)
            port_listen(p);
        else
            port_flush(p);
    }
}

static void forget_addresses(const struct port *p) {
    struct network *n = p->network;
    for (size_t i = 0; i < MAX_MACS; i++)
        if (n->macs[i].port == p)
            n->macs[i].port = NULL;
}

void network_remove_port(struct port *p) {
    port_close(p);
    links_drop(p);
    inspection_forget(p);
    forget_addresses(p);
    queue_clear(&p->out);
    struct port **at = &p->network->ports;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    free(p);
}

void network_remove(struct network *n) {
    while (n->ports)
        network_remove_port(n->ports);
    inspection_end(n);
    if (n->capture)
        capture_close(n->capture);
    struct network **at = &networks;
    while (*at != n)
        at = &(*at)->next;
    *at = n->next;
    free(n);
}

uint64_t networks_tick(void) {
    uint64_t next = UINT64_MAX, at = now();
    for (struct network *n = networks; n; n = n->next) {
        for (struct port *p = n->held ? NULL : n->ports; p; p = p->next)
            for (struct link *l = p->links; l; l = l->next) {
                link_deliver(l, at);
                if (link_due(l) < next)
                    next = link_due(l);
            }
        if (n->capture)
            capture_flush(n->capture);
    }
    return next;
}
