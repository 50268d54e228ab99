/* The keeper: a small program between us and the programs that we start. It starts them, reaps
 * them, and, as their subreaper, becomes the parent of whatever they leave behind, so that nothing
 * that they started can get out of its sight. When we end, however we end, it ends all of them.
 *
 * It has one thread, and speaks the host's byte order over two sockets that it inherits: requests
 * that are answered in turn, and news. keeper.py is the other side. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Each program has a tag, from the top bit down: 01, our pid (22 bits), detached (1), its group
 * (11), its number (28). A selection is those whose tag, masked, has a value. */
#define TAG_OURS_MASK ((uint64_t)0xffffff << 40)
#define TAG_DETACHED ((uint64_t)1 << 39)

enum op { OP_SPAWN = 1, OP_SIGNAL, OP_KILL, OP_LIST };

struct request {
    uint32_t size; /* of what follows */
    uint32_t op;
    uint64_t tag;  /* OP_SPAWN, OP_SIGNAL: the program; OP_KILL, OP_LIST: the selection's value */
    uint64_t mask; /* OP_KILL, OP_LIST */
    uint64_t argument; /* OP_SIGNAL: the signal; OP_KILL: given back with the news */
    uint32_t flags;
    uint32_t argc, envc, targets; /* OP_SPAWN: int32_t targets[], then cwd, argv, env */
};

enum flags { SPAWN_TERMINAL = 1, SIGNAL_GROUP = 1 };

enum stage { STAGE_START, STAGE_DIRECTORY, STAGE_TERMINAL };

struct reply {
    int32_t error; /* errno, or 0 */
    int32_t stage; /* OP_SPAWN: what failed */
    int64_t value; /* OP_SPAWN: the pid; OP_LIST: how many int32_t pids follow */
};

enum news_kind { NEWS_END = 1, NEWS_GONE };

struct news {
    uint32_t kind;
    int32_t status;   /* NEWS_END: as wait(2) tells it */
    uint64_t tag;     /* NEWS_END: the program; NEWS_GONE: the argument of OP_KILL */
    uint64_t at;      /* ns, CLOCK_MONOTONIC */
    uint64_t user, system; /* us */
    uint64_t peak;    /* KiB */
};

/* table.c: the programs that we started and have not reaped */
void table_add(pid_t pid, uint64_t tag);
uint64_t table_remove(pid_t pid); /* its tag, or 0 */
uint64_t table_tag(pid_t pid);    /* its tag, or 0 */
pid_t table_pid(uint64_t tag);    /* its pid, or 0 */

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

/* tree.c */
void tree_prepare(uint64_t ours);
bool tree_kill(uint64_t mask, uint64_t value);              /* whether none is left */
int tree_list(uint64_t mask, uint64_t value, pid_t **pids); /* how many; all of their trees */
