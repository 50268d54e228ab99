/* The reaper: a small program between a Python process (the parent) and the programs that it starts.
 * It starts them, reaps them and, as their subreaper, becomes the parent of whatever they leave
 * behind, so nothing that they started can escape. When the parent ends, however it ends, the reaper
 * kills all of them.
 *
 * It has one thread and receives requests, in the host's byte order, on a socket that it inherits.
 * Each request is one packet and brings a pipe for its answers: a reply at once; later, that the
 * program has ended, or that the tree is gone. So no request waits for another, an interrupted
 * sender disturbs nobody, and if the reaper is killed, all pipes end. The other side is
 * core_infra/process/_reaper/protocol.py. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Each program has a tag, from the top bit down: 01, the reaper's pid (22 bits), detached (1), its
 * group (15), its number (24). A selection is all programs whose masked tag has a given value. */
#define TAG_OURS_MASK ((uint64_t)0xffffff << 40)
#define TAG_DETACHED ((uint64_t)1 << 39)
#define TAG_GROUP(tag) ((tag) >> 24 & 0x7fff)
#define TAG_NUMBER_MASK ((uint64_t)0xffffff)

/* Limits that can carry a tag, the best first. Linux has ignored LOCKS and RSS since 2.4; RTTIME
 * applies to real-time threads only, and a tag is as good as no limit there (getrlimit(2)). The
 * second and third are for users with a hard limit on the ones before. */
#define MARKS {RLIMIT_LOCKS, RLIMIT_RSS, RLIMIT_RTTIME}

enum op { OP_SPAWN = 1, OP_SIGNAL, OP_KILL, OP_LIST };

struct request { /* with descriptors: the pipe, perhaps a file, then one for each target */
    uint32_t size; /* of what follows, or of the file */
    uint32_t op;
    uint64_t tag;  /* OP_SPAWN, OP_SIGNAL: the program; OP_KILL, OP_LIST: the selection's value */
    uint64_t mask; /* OP_KILL, OP_LIST */
    uint32_t flags;
    int32_t number; /* OP_SIGNAL */
    uint32_t argc, envc; /* OP_SPAWN */
    uint32_t targets;    /* OP_SPAWN: int32_t targets[], then cwd, argv, env */
    uint32_t unused;
};

#define MAX_PACKET (64 * 1024) /* of what follows; a larger body comes in a file */

/* SPAWN_COALESCE: the start may be reported a moment late, together with an end that comes soon: a
 * second wake-up takes the requester a tenth of the time of a short program. */
enum flags { SPAWN_TERMINAL = 1, SIGNAL_PROCESS_GROUP = 1, IN_FILE = 2, SPAWN_COALESCE = 4 };

enum stage { STAGE_START, STAGE_DIRECTORY, STAGE_TERMINAL };

struct reply {
    int32_t error; /* errno, or 0 */
    int32_t stage; /* OP_SPAWN: what failed */
    int64_t value; /* OP_SPAWN: the pid; OP_LIST: how many int32_t pids follow */
};

/* Sent on the pipe of OP_SPAWN when the program has ended. On that of OP_KILL any byte follows. */
struct end {
    uint64_t status; /* of wait(2) */
    uint64_t at;     /* ns, CLOCK_MONOTONIC */
    uint64_t user, system; /* us */
    uint64_t peak;   /* KiB */
};

/* table.c: the programs that were started and are not yet reaped */
struct program {
    pid_t pid;
    int channel;
    uint64_t tag;
    uint64_t report_due; /* ns, CLOCK_MONOTONIC: when its start must be reported; 0: it is */
};
void table_add(struct program p);
struct program *table_program(pid_t pid); /* NULL: not in the table */
void table_remove(struct program *p);
struct program *table_unreported(void); /* the one whose start must be reported first, or NULL */
void table_mark_reported(struct program *p);
uint64_t table_tag(pid_t pid);    /* its tag, or 0 */
pid_t table_pid(uint64_t tag);    /* its pid, or 0 */
struct program *table_next(const struct program *p); /* each, from NULL on; NULL after the last */

/* spawn.c */
struct spawn {
    char **argv, **envp;
    const char *cwd;
    const int *fds;
    const int32_t *targets;
    int count;
    bool terminal, detached;
    uint64_t tag;
    int error, stage;
};
void spawn_prepare(pid_t parent);
pid_t spawn(struct spawn *s);
bool proc_is_ours(void); /* whether /proc shows our PID namespace */
pid_t spawn_last(void); /* the newest pid, or 0 if pids have wrapped around since our start */

/* tree.c */
void tree_prepare(uint64_t ours);
void tree_started(uint64_t tag); /* a program */
void tree_killing(uint64_t mask, uint64_t value); /* perhaps a whole group */
/* Both return how many processes the trees of the selected programs had. */
int tree_kill(uint64_t mask, uint64_t value);
int tree_list(uint64_t mask, uint64_t value, pid_t **pids);
