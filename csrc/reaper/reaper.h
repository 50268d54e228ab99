/* The keeper: a small program between us and the programs that we start. It starts them, reaps
 * them, and, as their subreaper, becomes the parent of whatever they leave behind, so that nothing
 * that they started can get out of its sight. When we end, however we end, it ends all of them.
 *
 * It has one thread, and speaks the host's byte order over a socket that it inherits. Each request is
 * one packet, and brings a pipe for all that there is to say to it: a reply at once; later, that the
 * program has ended, or that the tree is gone. So nobody who asks waits for others, whoever is
 * interrupted disturbs nobody, and if we are killed, all see the end of their pipes. wire.py is the
 * other side. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Each program has a tag, from the top bit down: 01, our pid (22 bits), detached (1), its group
 * (15), its number (24). A selection is those whose tag, masked, has a value. */
#define TAG_OURS_MASK ((uint64_t)0xffffff << 40)
#define TAG_DETACHED ((uint64_t)1 << 39)
#define TAG_GROUP(tag) ((tag) >> 24 & 0x7fff)
#define TAG_NUMBER_MASK ((uint64_t)0xffffff)

/* Limits that can carry a tag, the best first: Linux looks at LOCKS and RSS no more since 2.4, and
 * at RTTIME, where a tag is as good as no limit, only for real-time threads (getrlimit(2)). The
 * second and third are for who has a hard limit on the ones before. */
#define MARKS {RLIMIT_LOCKS, RLIMIT_RSS, RLIMIT_RTTIME}

enum op { OP_SPAWN = 1, OP_SIGNAL, OP_KILL, OP_LIST };

struct request { /* with descriptors: the pipe, maybe a file, then one for each target */
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

#define MAX_PACKET (64 * 1024) /* of what follows; more comes in a file */

/* SPAWN_UNHURRIED: that it was started may be told a moment late, together with its end if that is
 * soon: to be woken twice takes who asks a tenth of the time of a short program. */
enum flags { SPAWN_TERMINAL = 1, SIGNAL_GROUP = 1, IN_FILE = 2, SPAWN_UNHURRIED = 4 };

enum stage { STAGE_START, STAGE_DIRECTORY, STAGE_TERMINAL };

struct reply {
    int32_t error; /* errno, or 0 */
    int32_t stage; /* OP_SPAWN: what failed */
    int64_t value; /* OP_SPAWN: the pid; OP_LIST: how many int32_t pids follow */
};

/* What follows to OP_SPAWN when the program has ended; to OP_KILL follows any byte. */
struct end {
    uint64_t status; /* as wait(2) tells it */
    uint64_t at;     /* ns, CLOCK_MONOTONIC */
    uint64_t user, system; /* us */
    uint64_t peak;   /* KiB */
};

/* table.c: the programs that we started and have not reaped */
struct program {
    pid_t pid;
    int channel;
    uint64_t tag;
    uint64_t due; /* ns, CLOCK_MONOTONIC: when its start must be told; 0 once it is */
};
void table_add(struct program p);
struct program *table_program(pid_t pid); /* NULL: none of ours */
void table_remove(struct program *p);
struct program *table_untold(void); /* the one whose start must be told first, or NULL */
void table_told(struct program *p);
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
bool proc_is_ours(void); /* does /proc have our numbers? */
pid_t spawn_last(void); /* the newest pid, or 0 if they have come round since we were started */

/* tree.c */
void tree_prepare(uint64_t ours);
void tree_started(uint64_t tag); /* a program */
void tree_doomed(uint64_t mask, uint64_t value); /* perhaps a whole group */
int tree_kill(uint64_t mask, uint64_t value);               /* how many were left before it */
int tree_list(uint64_t mask, uint64_t value, pid_t **pids); /* how many; all of their trees */
