/* The guest agent: runs the host's commands inside the machine.
 *
 * One thread, one poll() loop, no dependency. The protocol and its reasons are told in
 * docs/agent-protocol.md; the host's side of it is ../protocol.py. In the order of reading:
 *
 *   main.c      arguments, and the loop
 *   port.c      the byte stream to the host, which may be away
 *   input.c     bytes in -> frames; finds the HELLO in anything
 *   output.c    frames -> bytes out
 *   dispatch.c  what each frame does
 *   channel.c   the open channels; flow.c moves their bytes as the windows allow
 *   command.c   EXEC; spawn.c starts the process, tree.c ends all that it has started,
 *               user.c knows /etc/passwd
 *   file.c      READ and WRITE
 *   system.c    clock, entropy, power
 *   lines.c     agents for further lines to the host
 *   freeze.c    FREEZE and THAW
 *   identity.c  tells a clone from its twins; network.c does it for its cards
 */
#ifndef AGENT_H
#define AGENT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "frames are little-endian");

enum {
    VERSION = 1,
    HEADER = 12,
    NONCE = 16,
    MAC = 6,
    MAX_DATA = 64 * 1024,
    MAX_PAYLOAD = 4 * 1024 * 1024,
    MAX_ENTROPY = 4096,
    MIN_HELLO = NONCE + 8,
    MAX_HELLO = MIN_HELLO + MAX_ENTROPY,
    WINDOW = 256 * 1024,
    MAX_CHANNELS = 256,
    MAX_DRAINS = 1024,
    MAX_MESSAGE = 1024,
};

enum frame_type {
    HELLO = 0x01, EXEC, DATA, END_OF_DATA, SIGNAL, GRANT, READ, WRITE, CLOCK, RESEED, POWEROFF,
    PING, FREEZE, THAW, BIND,
    HELLO_ACK = 0x81, STARTED, STDOUT, STDERR, DONE, STDIN_GRANT,
    PONG = 0x8C,
    PROTOCOL_ERROR = 0x8F,
};

enum outcome { EXITED, SIGNALED, FAILED };

struct frame {
    uint8_t type;
    uint32_t channel;
    const uint8_t *payload;
    uint32_t length;
};

/* What is wrong with a frame that makes no sense, for PROTOCOL_ERROR; NULL: nothing. */
typedef const char *problem;

/* input.c */
bool input_read(void);             /* take what the port has; false: nothing */
bool input_next(struct frame *f);  /* the next whole frame; false: none, or bytes that are none */
problem input_problem(void);       /* why input_next() found bytes that are no frame */
void input_lost(void);             /* give up on frames; look for the next HELLO */
bool input_empty(void);
int input_patience(void);          /* ms until a half frame counts as abandoned; -1: never */
void input_check_stalled(void);

struct cursor {                    /* reads a payload from left to right */
    const uint8_t *at, *end;
    bool bad;                      /* it was shorter than it said */
};
struct text {
    const char *bytes;
    uint32_t length;
};
struct cursor cursor_of(const struct frame *f);
uint32_t take_u32(struct cursor *c);
uint64_t take_u64(struct cursor *c);
struct text take_text(struct cursor *c);  /* free of NUL bytes, or bad */
char *text_copy(struct text t);           /* malloc()ed; NULL: no memory */

/* output.c */
enum { CONTROL_ROOM = 4096, FRAME_ROOM = HEADER + MAX_DATA + CONTROL_ROOM };
void output_clear(void);
bool output_room(size_t size);            /* false is remembered for output_starved() */
bool output_starved(void);                /* has somebody been refused who would fit in now? */
size_t output_pending(void);
uint8_t *output_begin(size_t size);       /* where to put the payload of the next frame */
void output_commit(uint8_t type, uint32_t channel, size_t size);
void output_frame(uint8_t type, uint32_t channel, const void *payload, size_t size);
int output_patience(void);                /* ms until output_flush() is due; -1: nothing waits */
void output_flush(void);

/* port.c */
enum { RETRY_MS = 20, RARE_MS = 1000 };
void port_use_fd(int fd);                 /* a stream that is open already; its end ends us */
void port_use_device(const char *path);
void port_use_name(const char *name);     /* of a virtio-serial port, now or once it appears */
void port_serve_lines(void);              /* see lines.c */
bool port_find_device(const char *name, char *path, size_t size);
int port_retry(void);                     /* ms until a port that is away is looked at again */
bool port_here(void);                     /* false: poll() would spin; try again in RETRY_MS */
int port_fd(void);
ssize_t port_read(void *buffer, size_t size);         /* 0: nothing now */
ssize_t port_write(const void *buffer, size_t size);  /* 0: nothing now */

/* main.c */
int watch(int fd, short events);          /* add to the next poll(); the slot for fired() */
bool fired(int slot);
bool is_ending(void);                     /* it was sent SIGTERM: nothing new is begun */
_Noreturn void quit(void);

/* lines.c */
bool line_is_first(const char *name);
void lines_serve(const char *first);      /* if this is the first line: start the others' agents */

/* tree.c */
void tree_kill(pid_t root);               /* the process, its session, and what descends from it */

/* dispatch.c */
extern bool bound;                        /* what the session began ends when the host goes away */
problem dispatch(const struct frame *f);
extern bool in_guest;                     /* may act on the machine: clock, entropy, power */

/* channel.c */
struct sink {                  /* what the host sends: a command's stdin, a file being written */
    int fd;                    /* -1: drop it, but go on granting */
    int slot;
    uint8_t *buffer;           /* what fd did not take yet, [head, tail) of WINDOW bytes */
    size_t head, tail;
    uint32_t window, ungranted;
    bool eof;
};
struct source {                /* what the guest sends: stdout, stderr, a file being read */
    int fd;                    /* -1: at its end */
    int slot;
    uint32_t window;
    int left;                  /* bytes still to deliver, once the command ended; -1: all */
    uint8_t type;
};
struct file;
enum kind { COMMAND, READER, WRITER };
struct channel {
    uint32_t id;               /* 0: closed */
    enum kind kind;
    struct sink in;
    struct source out[2];
    uint64_t began, ended;     /* monotonic ns; ended is 0 while the command runs */
    pid_t pid;
    int status;                /* as of waitpid() */
    struct file *file;
};
uint64_t now(void);
struct channel *channel_find(uint32_t id);
struct channel *channel_of(pid_t pid);              /* that still runs */
bool commands_young(uint64_t ms);                   /* was one that runs started just now? */
struct channel *channel_open(uint32_t id, enum kind kind);  /* NULL: DONE was sent */
void channel_done(struct channel *c, enum outcome outcome, uint32_t code, const char *message);
void channel_fail(struct channel *c, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void send_done(uint32_t id, enum outcome outcome, uint32_t code, uint64_t ns, const char *message);
void channels_watch(void);
void channels_pump(void);
bool channels_open(void);      /* is there any? */
void channels_signal(int signal); /* to all commands that run */
void channels_drop(void);      /* kill and forget all that the host began */

/* flow.c */
problem sink_accept(struct channel *c, const uint8_t *data, uint32_t size);
void sink_close(struct sink *s);
void sink_watch(struct sink *s);
void sink_pump(struct channel *c);
void source_open(struct source *s, int fd, uint8_t type);
void source_leave(struct source *s);      /* stop reading, but let its writers live */
void source_watch(struct source *s);
void source_pump(struct channel *c, struct source *s);
void drains_watch(void);
void drains_pump(void);

/* command.c */
problem command_start(const struct frame *f);
void commands_reap(void);
void command_pump(struct channel *c);
void command_kill(const struct channel *c, int signal);  /* if it is one, and runs */

/* spawn.c */
struct user;
enum stage { AS_USER, IN_DIRECTORY, RUN };
struct spawn {
    char **argv, **envp;
    const char *path;          /* the directories to search, PATH's value */
    const char *cwd;           /* NULL: the user's home, or / */
    const struct user *user;
    bool switch_user;
    int stdio[3];
    enum stage stage;          /* set when it failed: where, and the errno */
    int error;
};
void spawn_prepare(void);      /* once: make the agent hard to kill, its children not */
pid_t spawn(struct spawn *s);  /* -1: failed */

/* user.c */
enum { MAX_GROUPS = 256 };
struct user {
    char *name, *home, *shell; /* in text */
    uid_t uid;
    gid_t gid;
    gid_t groups[MAX_GROUPS];
    size_t group_count;
    char *text;                /* to be freed */
};
bool user_find(const char *name, struct user *u);  /* a name or number; "": the agent's own */

/* file.c */
problem file_read(const struct frame *f);
problem file_write(const struct frame *f);
void file_failed(struct channel *c, int error);
void file_pump(struct channel *c);
void file_abandon(struct file *f);        /* frees it, too */

/* system.c */
const char *error_of(const char *what);                   /* "what: errno's text"; keeps errno */
const char *set_clock(uint64_t ns);                       /* NULL, or what went wrong */
const char *add_entropy(const uint8_t *bytes, size_t n);  /* NULL, or what went wrong */
const char *power_off(bool restart);                      /* comes back only if it failed */
size_t describe(char *text, const uint8_t *former, const char *clock_error,
                const char *entropy_error);               /* into MAX_MESSAGE bytes; the length */

/* freeze.c */
const char *freeze(void);                                 /* NULL, or what went wrong */
const char *thaw(void);                                   /* NULL, or what went wrong */

/* identity.c */
void identity_prepare(void);                              /* open what is needed, ahead of time */
const char *set_identity(struct text host_name, struct text machine_id, const uint8_t *mac);

/* network.c */
void network_prepare(void);               /* look at the cards; the kernel will announce changes */
const char *network_set(const uint8_t *mac);  /* of the first card; the next gets the next one */
void network_announce(void);              /* as they are */
void network_done(void);                  /* what network_prepare() has switched on is off again */

#endif
