/* A fork server for QEMU: see docs/fork-server.md.
 *
 * Preloaded into QEMU, this library makes copies of the running process when it is asked to: all
 * threads are parked in a signal handler, the process is cloned, and the clone makes its threads
 * anew where they stood. Between the clone and the moment its threads run nothing here may
 * allocate, or take any lock: the memory is as the threads left it. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { MAX_REPLACEMENTS = 32, DETAIL_SIZE = 116 };

/* The wire: client.py has the same two records. One record is one packet. */
struct request {
    uint32_t die_with_parent;
    int32_t parent;              /* who asks; must be our parent, and will be the clone's */
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
};

struct reply {
    int32_t outcome, error, subject;
    char detail[DETAIL_SIZE];
};

/* Of a reply that tells a problem. Returns false, for the caller to return the same. */
bool problem(struct reply *reply, enum outcome outcome, int subject);

/* threads.c */
#define PARK (SIGRTMAX - 3) /* not QEMU's, not the C library's */
bool threads_prepare(const void *main_thread, pid_t main_tid);
int *threads_own_id(void);
bool threads_park(int64_t deadline, struct reply *reply);
void threads_release(void);
bool threads_resume(int64_t deadline, struct reply *reply);

/* descriptors.c */
bool descriptors_renew(const struct request *request, const int *given, int control,
                       struct reply *reply);

/* mappings.c */
bool mappings_private(struct reply *reply);
bool mapped_privately(const char *path);

/* listing.c: directories and files of /proc, without allocating */
typedef bool visitor(int number, const char *name, void *argument);
bool each_number(int directory, visitor *visit, void *argument);
