/* A fork server for QEMU: see docs/fork-server.md.
 *
 * Preloaded into QEMU, this library copies the running process on request: it parks all threads in
 * a signal handler and clones the process, and the clone creates its threads again where they
 * stood. Between the clone and the moment its threads run nothing here may allocate, or take any
 * lock: the memory is as the threads left it. The files, lowest first; each uses only what is
 * declared above its own part of this header:
 *
 *   proc.c         what /proc says of this process
 *   descriptors.c  the clone's open files
 *   threads.c      parks threads, and creates them again; context.h has what differs by processor
 *   interpose.c    what QEMU must not do if it is to be forked
 *   disks.c        what the guest has written and not flushed
 *   server.c       takes requests, and clones the process
 */
#pragma once

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { MAX_REPLACEMENTS = 32, DETAIL_SIZE = 116 };

/* The protocol: fork_server.py has the same two records. One record is one packet. */
enum lifetime {
    INDEPENDENT,
    WITH_PARENT,  /* the kernel kills the clone when its parent ends */
    WITH_CONTROL, /* it ends when the other end of its control socket is closed; when it exits, it
                   * says how, since only its parent can wait for it */
};

struct request {
    uint32_t lifetime;           /* how long the clone lives */
    int32_t parent;              /* must be our parent, and will be the clone's; 0: anyone */
    int64_t deadline;            /* CLOCK_MONOTONIC, nanoseconds */
    uint32_t count;              /* of targets; one descriptor for each, then the control's */
    int32_t targets[MAX_REPLACEMENTS];
};

enum outcome {
    READY,         /* this process (subject) has all its threads and takes requests */
    FORKED,        /* subject is the pid */
    MALFORMED,     /* the request is not what we understand */
    NOT_A_TARGET,  /* descriptor subject is not open */
    NOT_OUR_CHILD, /* subject is our parent's pid, not the requester's */
    NOT_IDLE,      /* thread subject was not waiting before the deadline */
    TOO_MANY,      /* threads: subject is how many we can take */
    FOREIGN,       /* thread subject was not made by the C library that we know */
    NOT_CALLED,    /* thread subject; error says why */
    NOT_CLONED,    /* error says why */
    SHARED_MEMORY, /* detail is the mapping that clones would share */
    DESCRIPTOR,    /* subject would be shared, detail is what it is */
    NOT_RENEWED,   /* subject is the descriptor, error says why */
    NOT_RESUMED,   /* thread subject, error says why */
    UNKNOWN_LIBC,  /* where it keeps thread ids was not found */
    EXITED,        /* this process has called exit(subject) */
};

struct reply {
    int32_t outcome, error, subject;
    char detail[DETAIL_SIZE];
};

/* Makes a reply report a problem, with errno. Returns false, for the caller to return the same. */
static inline bool problem(struct reply *reply, enum outcome outcome, int subject) {
    reply->outcome = (int)outcome;
    reply->error = errno;
    reply->subject = subject;
    return false;
}

/* proc.c */
bool mappings_private(struct reply *reply);
bool mapped_privately(const char *path);
typedef bool visitor(int number, const char *name, void *argument);
bool each_number(int directory, visitor *visit, void *argument);

/* descriptors.c */
bool descriptors_renew(const struct request *request, const int *given, int control,
                       struct reply *reply);

/* threads.c */
#define PARK (SIGRTMAX - 3) /* not QEMU's, not the C library's */
bool threads_prepare(const void *main_thread, pid_t main_tid);
int *threads_own_id(void);
bool threads_park(int64_t deadline, struct reply *reply);
void threads_release(void);
bool threads_resume(int64_t deadline, struct reply *reply);
