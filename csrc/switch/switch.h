/* The switch: moves Ethernet frames between the machines of a run, and hurts them on request.
 *
 * One process for all networks, one thread, one epoll loop. Each card is one end of a
 * SOCK_SEQPACKET socket pair whose other end QEMU has; a message is a frame. The host's side is
 * src/core_infra/vm/_network/switch.py; it sends one request in each message of the control socket.
 * The files, lowest first; each uses only what is declared above its own part of this header:
 *
 *   frame.c     the clock, and queues of frames
 *   capture.c   a file of all frames, in pcapng
 *   port.c      a card's socket, and its queue
 *   link.c      the fate of the frames from one card to another: delay, loss, …
 *   inspection.c  frames that wait for a verdict of the host
 *   network.c   which card gets a frame
 *   control.c   the host's requests
 *   relay.c     another program: connects a guest with a server of the host
 *   main.c      the loop
 */
#ifndef SWITCH_H
#define SWITCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

enum {
    MAC = 6,
    MIN_FRAME = 14,
    MAX_FRAME = 65536 + 64,
    MAX_NAME = 64,
    MAX_MACS = 1024,
    BATCH = 64,                       /* frames that are read from a card before the next card */
    MAX_QUEUED = 8 * 1024 * 1024,     /* bytes that wait for a machine that does not read */
    MAX_DELAYED = 16 * 1024 * 1024,   /* bytes that are under way on one link */
    MAX_UNDECIDED = 64,               /* frames that wait for a verdict before no more are read */
    NOTE = 512,
};

/* frame.c */
uint64_t now(void);                   /* monotonic, in ns */
struct frame {
    struct frame *next;
    uint64_t due;                     /* when it leaves its link */
    uint64_t number;                  /* of its verdict */
    struct port *source;              /* while it waits for a verdict */
    int verdict;
    uint32_t length;
    uint8_t bytes[];
};
struct queue {
    struct frame *first, *last;
    size_t bytes;
};
struct frame *frame_copy(const uint8_t *bytes, uint32_t length);
void queue_put(struct queue *q, struct frame *f);
struct frame *queue_take(struct queue *q);
void queue_clear(struct queue *q);

/* capture.c */
struct capture {
    int file;                         /* -1: none */
    int error;                        /* why no more is written; 0: more is */
    off_t size;                       /* of the file */
    uint32_t interfaces;              /* the number of cards in the file */
    size_t used;
    uint8_t buffer[128 * 1024];
};
struct capture *capture_open(int file);
int capture_close(struct capture *c); /* 0, or the error that ended it early */
uint32_t capture_interface(struct capture *c, const char *name);
void capture_frame(struct capture *c, uint32_t interface, const uint8_t *bytes, uint32_t length,
                   const char *note);
void capture_flush(struct capture *c);

/* port.c */
extern int loop;                      /* the epoll descriptor */
struct watch {                        /* the first member of what the loop waits for */
    enum { CONTROL, TIMER, CARD, INSPECTOR } kind;
};
struct port {
    struct watch watch;
    struct port *next;                /* of the same network */
    struct network *network;
    uint32_t number;
    int fd;                           /* -1: the card has no machine now */
    uint32_t events;                  /* what the loop waits for */
    struct queue out;                 /* for a machine that does not read fast enough */
    struct link *links;               /* from this card to others */
    int64_t interface;                /* in the capture; -1: not yet */
    char name[MAX_NAME];
};
struct port *port_find(const struct network *n, uint32_t number);
struct port *port_open(struct network *n, uint32_t number, int fd, const char *name);
void port_close(struct port *p);      /* the socket; the card stays */
void port_send(struct port *p, const uint8_t *bytes, uint32_t length, char *note);
void port_queue(struct port *p, struct frame *f);
void port_flush(struct port *p);
void port_listen(struct port *p);     /* wait for what the network now allows */
size_t port_unread(const struct port *p);  /* bytes that its machine has not read */
bool ports_stalled(const struct network *n); /* nothing is read until some verdicts have come */

/* link.c */
struct settings {                     /* a part is the share of frames, in 2^-32; all ones: each */
    uint64_t delay, jitter;           /* ns */
    uint64_t rate;                    /* bits in a second; 0: no limit */
    uint64_t seed;
    uint32_t loss, duplicate, reorder, corrupt;
};
struct link {
    struct link *next;
    struct port *to;
    bool cut;
    struct settings settings;
    uint64_t count;                   /* frames whose fate was decided */
    uint64_t free_at, last_due;
    struct queue delayed;             /* in the order in which they arrive */
    struct frame *late;               /* is overtaken by the next one */
};
struct link *link_between(struct port *from, struct port *to, bool create);
void link_set(struct link *l, const struct settings *s);
void link_send(struct link *l, const uint8_t *bytes, uint32_t length, char *note);
void link_put(struct link *l, struct frame *f); /* one that is due at f->due */
void link_deliver(struct link *l, uint64_t at); /* what is due */
uint64_t link_due(const struct link *l);        /* UINT64_MAX: nothing is under way */
void link_shift(struct link *l, uint64_t by);
void links_drop(struct port *p);

/* inspection.c */
void inspection_begin(struct network *n, int fd);
void inspection_end(struct network *n);        /* the frames that wait pass */
void inspection_ask(struct port *from, const uint8_t *bytes, uint32_t length);
void inspection_serve(struct network *n);
void inspection_forget(struct port *p);        /* the frames that a card has sent */

/* network.c */
struct network {
    struct watch watch;               /* for the inspector */
    struct network *next;
    uint32_t number;
    bool held;                        /* nothing is delivered, and no time passes */
    uint64_t held_at;
    void (*forward)(struct port *from, const uint8_t *bytes, uint32_t length, bool drop);
    int inspector;                    /* shows frames to the host, and has its verdicts; -1: none */
    uint32_t inspector_events;        /* what the loop waits for */
    uint64_t questions;
    size_t undecided;
    struct queue waiting;             /* for their verdicts, in the order of arrival */
    struct port *ports;
    struct capture *capture;
    struct {
        uint8_t mac[MAC];
        struct port *port;
    } macs[MAX_MACS];
};
extern struct network *networks;
struct network *network_find(uint32_t number, bool create);
void network_remove(struct network *n);
bool network_read(struct port *from, int limit); /* false: nothing is left to be read */
void network_remove_port(struct port *p);
void network_hold(struct network *n, bool on);
uint64_t networks_tick(void);         /* deliver what is due; when the next frame is */

/* control.c */
bool control_serve(int control);      /* false: the host has gone */
bool stays(void);                     /* until the last card is closed */

/* relay.c */
int relay(const char *address, const char *port);

#endif
