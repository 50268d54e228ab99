/* The guest agent: runs the host's commands inside the machine.
 *
 * One thread, one poll() loop, no dependency. docs/agent-protocol.md describes the protocol and its
 * reasons; the host's side is src/core_infra/vm/_guest/protocol.py. The files, lowest first; each
 * uses only what is declared above its own part of this header:
 *
 *   events.c    the clock, and the descriptors that the loop waits for
 *   port.c      the byte stream to the host, which may be away
 *   input.c     bytes in -> frames; finds the HELLO in anything
 *   output.c    frames -> bytes out
 *   flow.c      the bytes of a channel, as its windows allow
 *   channel.c   the open channels
 *   user.c      /etc/passwd and /etc/group
 *   tree.c      a process with all that it has started; ends these
 *   waits.c     what these wait for
 *   spawn.c     starts a process
 *   terminal.c  opens a pseudoterminal
 *   command.c   EXEC and TERMINAL
 *   file.c      READ and WRITE
 *   system.c    clock, entropy, power
 *   network.c   a clone's own hardware addresses
 *   hosts.c     the names of other machines, in /etc/hosts
 *   cards.c     the machine's cards on the networks of its run
 *   identity.c  a clone's own names, addresses and random numbers
 *   freeze.c    FREEZE and THAW
 *   survey_content.c   what the content of changed files shows
 *   survey.c    what the machine looks like, for the report of a failed test
 *   dispatch.c  what each frame does
 *   main.c      arguments, and the loop
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
    PING, FREEZE, THAW, BIND, CARDS, TERMINAL, RESIZE,
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

/* events.c */
uint64_t now(void);                       /* monotonic, in ns */
void events_clear(void);
int watch(int fd, short events);          /* for the next events_wait(); the slot for fired() */
void events_wait(int timeout);            /* ms; -1: until something happens */
bool fired(int slot);
bool hung_up(int slot);

/* port.c */
enum { RETRY_MS = 20, RARE_MS = 1000 };
void port_use_fd(int fd);                 /* a stream that is open already; its end ends us */
void port_use_device(const char *path);
void port_use_name(const char *name);     /* of a virtio-serial port, now or once it appears */
void port_serve_others(void);             /* if this is the first port: agents for the others */
int port_retry(void);                     /* ms until a port that is away is looked at again */
bool port_here(void);                     /* false: poll() would spin; try again in RETRY_MS */
bool port_ended(void);                    /* the stream is at its end: so must be the agent */
int port_fd(void);
ssize_t port_read(void *buffer, size_t size);         /* 0: nothing now */
ssize_t port_write(const void *buffer, size_t size);  /* 0: nothing now */

/* input.c */
bool input_read(void);             /* take what the port has; false: nothing */
bool input_next(struct frame *f);  /* the next whole frame; false: none yet, or other bytes */
problem input_problem(void);       /* why input_next() found no frame in the bytes */
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
enum { YOUNG_MS = 100 };                  /* a command's age up to which its output may wait */
void output_clear(void);
bool output_room(size_t size);            /* false is remembered for output_starved() */
bool output_starved(void);                /* was room refused that there would be now? */
size_t output_pending(void);
uint8_t *output_begin(size_t size);       /* where to put the payload of the next frame */
void output_commit(uint8_t type, uint32_t channel, size_t size);
void output_frame(uint8_t type, uint32_t channel, const void *payload, size_t size);
int output_patience(bool command_is_young);  /* ms until output_flush() is due; -1: it is empty */
void output_flush(void);

/* flow.c */
struct channel;
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
struct operations {            /* what each kind of channel does in its own way */
    bool is_command;           /* a process runs: it gets signals, and its input ends early */
    bool takes_input;
    void (*pump)(struct channel *c);               /* end the channel if it is done */
    void (*signal)(struct channel *c, int signal); /* the host has sent SIGNAL */
    void (*failed)(struct channel *c, int error);  /* its sink or source has failed */
    void (*abandon)(struct channel *c);            /* the channel closes, done or not */
};
struct file;
enum { MAX_LAST_WORDS = 1024 };
struct channel {
    uint32_t id;               /* 0: closed */
    const struct operations *operations;
    struct sink in;
    struct source out[2];
    uint64_t began, ended;     /* monotonic ns; ended is 0 while the command runs */
    pid_t pid;
    int status;                /* as of waitpid() */
    bool terminal;             /* out[0] is a terminal's master */
    char last_words[MAX_LAST_WORDS]; /* of a command that the host has killed: what it waited for */
    struct file *file;
};
problem sink_accept(struct channel *c, const uint8_t *data, uint32_t size, bool *no_memory);
void sink_close(struct sink *s);
void sink_watch(struct sink *s);
void sink_pump(struct channel *c);
void source_open(struct source *s, int fd, uint8_t type);
void source_leave(struct source *s);      /* stop reading, but let its writers live */
void source_watch(struct source *s);
void source_pump(struct channel *c, struct source *s);
void drains_watch(void);
void drains_pump(void);

/* channel.c */
struct channel *channel_find(uint32_t id);
struct channel *channel_of(pid_t pid);    /* whose process still runs */
bool commands_young(uint64_t ms);         /* does one run that was started just now? */
struct channel *channel_open(uint32_t id, const struct operations *operations);
                                          /* NULL: DONE was sent */
void channel_done(struct channel *c, enum outcome outcome, uint32_t code, const char *message);
void channel_fail(struct channel *c, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void send_done(uint32_t id, enum outcome outcome, uint32_t code, uint64_t ns, const char *message);
void channels_watch(void);
void channels_pump(void);
bool channels_open(void);                 /* is there any? */
void channels_signal(int signal);         /* to all commands that run */
void channels_drop(void);                 /* kill and forget all that the host began */

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
bool user_find(const char *name, struct user *u);  /* "": the agent's own */

/* tree.c */
void tree_kill(pid_t root);    /* the process, its session, and what descends from it */
size_t tree_members(pid_t root, pid_t *found, size_t room);   /* those that tree_kill() ends */

/* waits.c */
void waits_describe(pid_t root, char *text, size_t size);     /* a line for each of these */

/* spawn.c */
enum stage { AS_USER, IN_DIRECTORY, RUN };
struct spawn {
    char **argv, **envp;
    const char *path;          /* the directories to search, PATH's value */
    const char *cwd;           /* NULL: the user's home, or / */
    const struct user *user;
    bool switch_user;
    int stdio[3];
    bool terminal;             /* the standard input becomes the controlling terminal */
    enum stage stage;          /* set when it failed: where, and the errno */
    int error;
};
void spawn_prepare(void);      /* once: make the agent hard to kill, its children not */
pid_t spawn(struct spawn *s);  /* -1: failed */

/* terminal.c */
struct size {
    uint32_t rows, columns;
};
void terminals_may_mount(void);                /* their file system, if the image has none */
bool terminal_open(int *ours, int *theirs);    /* false: errno says why */
bool terminal_resize(int fd, struct size size);

/* command.c */
problem command_start(const struct frame *f);  /* EXEC or TERMINAL */
problem command_resize(struct channel *c, const struct frame *f);
void commands_reap(void);

/* file.c */
problem file_read(const struct frame *f);
problem file_write(const struct frame *f);

/* system.c */
const char *error_of(const char *what);                   /* "what: errno's text"; keeps errno */
const char *set_clock(uint64_t ns);                       /* NULL, or what went wrong */
const char *set_clock_rate(int64_t ppb); /* of the host's clock, more or less */
const char *add_entropy(const uint8_t *bytes, size_t n);  /* NULL, or what went wrong */
const char *power_off(bool restart);                      /* returns only if it failed */
size_t describe(char *text, const uint8_t *former, const char *clock_error,
                const char *entropy_error);               /* into MAX_MESSAGE bytes; the length */

/* network.c */
void network_prepare(void);               /* look at the cards; the kernel will announce changes */
const char *network_set(const uint8_t *mac);  /* of the first card; the next gets the next one */
void network_announce(void);              /* the addresses as they are */
void network_done(void);                  /* undo what network_prepare() has switched on */

/* hosts.c */
const char *write_over(const char *path, const char *bytes, size_t length);
const char *hosts_set(struct text lines); /* NULL, or what went wrong */

/* cards.c */
problem cards_take(struct cursor *c);     /* what cards_set() sets */
const char *cards_set(void);              /* NULL, or what went wrong */

/* identity.c */
void identity_prepare(void);              /* open what is needed, ahead of time */
const char *set_identity(struct text host_name, struct text machine_id, const uint8_t *mac);

/* freeze.c */
const char *freeze(void);                 /* NULL, or what went wrong */
const char *thaw(void);                   /* NULL, or what went wrong */

/* survey_content.c */
struct stat;
void survey_content(const char *path, const struct stat *s); /* records about a changed file */

/* survey.c */
int survey(const char *begin);            /* what was changed since then, in ns; an exit code */

/* dispatch.c */
extern bool in_guest;                     /* may act on the machine: clock, entropy, power */
extern bool bound;                        /* what the session began ends when the host goes away */
extern bool is_ending;                    /* the agent was sent SIGTERM: it starts nothing new */
problem dispatch(const struct frame *f);

#endif
