/* Parking the threads of this process, and creating them again in a clone of it.
 *
 * Each thread is sent a signal that names its slot. If it was waiting in the kernel, its handler
 * stays until it is released; in the clone, a new thread with the same stack, thread pointer and
 * thread control block returns from that same handler instead. A thread that was doing something
 * leaves the handler at once, and all are released and asked again a little later: a busy thread
 * may hold a lock in whose memory its thread id is written, which will be another in the clone. */
#include "context.h"
#include "forkserver.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_THREADS = 512,
    MAX_ID_OFFSET = 1024,    /* the C library's control block is more than twice as long */
    LOOK_AGAIN_NS = 5000000, /* whether a thread that does not answer is still there */
    TRY_AGAIN_NS = 1000000,
    ENTRY_STACK = 8 * 1024,
    RSEQ_SIZE = 32,
    RSEQ_CPU_ID_OFFSET = 4,
    RSEQ_FAILED = -2,
    NAME_SIZE = 16,
};

enum state {
    AWAY,    /* not called, or out of the handler again */
    BUSY,    /* the same, and was not waiting when it was called */
    UNKNOWN, /* the same, and is not a thread of the C library */
    CALLED,
    PARKED,
};

struct slot {
    pid_t tid;
    _Atomic int state;
    siginfo_t *info;
    ucontext_t *context;
    void *thread_pointer;
    int *id; /* where the C library keeps the thread's id: the kernel clears it at its end */
    void *robust;
    size_t robust_size;
    int error; /* errno */
    char name[NAME_SIZE];
    char stack[ENTRY_STACK] __attribute__((aligned(16)));
};

static struct slot slots[MAX_THREADS];
static int count;
static _Atomic int gathering; /* whether a thread that is called must stay */
static ptrdiff_t id_offset;

/* Of C libraries from 2.35 on. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void wait_while(_Atomic int *word, int value, const struct timespec *limit) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, limit, NULL, 0);
}

static void change(_Atomic int *word, int value) {
    atomic_store(word, value);
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static pid_t own_tid(void) {
    return (pid_t)syscall(SYS_gettid);
}

static void *thread_pointer(void) {
    return __builtin_thread_pointer();
}

int *threads_own_id(void) {
    return (int *)((char *)pthread_self() + id_offset);
}

/* Find where the C library keeps a thread's id: the place that has the right one in two threads. */
bool threads_prepare(const void *main_thread, pid_t main_tid) {
    const char *one = main_thread, *other = (const char *)pthread_self();
    pid_t tid = own_tid();
    for (id_offset = 0; id_offset < MAX_ID_OFFSET; id_offset += (ptrdiff_t)sizeof(int)) {
        if (*(const int *)(one + id_offset) == main_tid && *(const int *)(other + id_offset) == tid)
            return true;
    }
    return false;
}

/* Remember all of a thread that the kernel knows and a new thread would not have. */
static void remember(struct slot *me, siginfo_t *info, ucontext_t *context) {
    me->info = info;
    me->context = context;
    me->thread_pointer = thread_pointer();
    me->id = threads_own_id();
    syscall(SYS_get_robust_list, 0, &me->robust, &me->robust_size);
    prctl(PR_GET_NAME, me->name);
}

static void on_park(int number, siginfo_t *info, void *context) {
    (void)number;
    if (info->si_code != SI_QUEUE || info->si_pid != getpid())
        return;
    struct slot *me = &slots[info->si_value.sival_int];
    me->error = errno;
    int left = AWAY;
    if (!was_waiting(context)) {
        left = BUSY;
    } else if (*threads_own_id() != me->tid) {
        left = UNKNOWN;
    } else {
        remember(me, info, context);
        change(&me->state, PARKED);
        while (atomic_load(&gathering))
            wait_while(&gathering, 1, NULL);
    }
    errno = me->error;
    change(&me->state, left); /* from here on the slot may be another's */
}

static __attribute__((constructor)) void listen_for_park(void) {
    struct sigaction a = {.sa_sigaction = on_park, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigfillset(&a.sa_mask);
    sigaction(PARK, &a, NULL);
}

static bool is_alive(const struct slot *s) {
    return syscall(SYS_tgkill, getpid(), s->tid, 0) == 0 || errno != ESRCH;
}

/* Wait until the slot has another state than this, or its thread has ended. */
static bool await_change(struct slot *s, int state, int64_t deadline) {
    const struct timespec limit = {.tv_nsec = LOOK_AGAIN_NS};
    while (atomic_load(&s->state) == state) {
        wait_while(&s->state, state, &limit);
        if (atomic_load(&s->state) != state)
            break;
        if (!is_alive(s))
            atomic_store(&s->state, AWAY);
        else if (now() > deadline)
            return false;
    }
    return true;
}

/* Wait until no thread is in the handler, or will be. */
static bool await_leaving(int64_t deadline, struct reply *reply) {
    for (int i = 0; i < count; i++)
        for (int state; (state = atomic_load(&slots[i].state)) >= CALLED;)
            if (!await_change(&slots[i], state, deadline))
                return problem(reply, NOT_IDLE, slots[i].tid);
    return true;
}

static bool call(int number, struct reply *reply) {
    struct slot *s = &slots[number];
    siginfo_t info = {.si_code = SI_QUEUE};
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_int = number;
    atomic_store(&s->state, CALLED);
    if (syscall(SYS_rt_tgsigqueueinfo, getpid(), s->tid, PARK, &info) == 0)
        return true;
    atomic_store(&s->state, AWAY);
    return errno == ESRCH /* it has ended */ || problem(reply, NOT_CALLED, s->tid);
}

static bool is_known(pid_t tid) {
    for (int i = 0; i < count; i++)
        if (slots[i].tid == tid && atomic_load(&slots[i].state) != AWAY)
            return true;
    return false;
}

struct census {
    pid_t me;
    int found; /* threads that had not been called */
    struct reply *reply;
};

static bool call_new(int tid, const char *name, void *argument) {
    (void)name;
    struct census *c = argument;
    if (tid == c->me || is_known(tid))
        return true;
    if (count == MAX_THREADS)
        return problem(c->reply, TOO_MANY, MAX_THREADS);
    c->found++;
    slots[count].tid = tid;
    return call(count++, c->reply);
}

/* Call all threads that there are, and again until no new one is found: a thread that was called
 * may have started another before it came. */
static bool gather(int tasks, int64_t deadline, struct reply *reply) {
    struct census c = {.me = own_tid(), .reply = reply};
    do {
        c.found = 0;
        if (lseek(tasks, 0, SEEK_SET) < 0 || !each_number(tasks, call_new, &c))
            return false;
        for (int i = 0; i < count; i++) {
            if (!await_change(&slots[i], CALLED, deadline))
                return problem(reply, NOT_IDLE, slots[i].tid);
            int state = atomic_load(&slots[i].state);
            if (state == BUSY || state == UNKNOWN)
                return problem(reply, state == BUSY ? NOT_IDLE : FOREIGN, slots[i].tid);
        }
    } while (c.found > 0);
    return true;
}

void threads_release(void) {
    change(&gathering, 0);
}

static bool try_to_park(int tasks, int64_t deadline, struct reply *reply) {
    if (!await_leaving(deadline, reply))
        return false;
    count = 0;
    atomic_store(&gathering, 1);
    if (gather(tasks, deadline, reply))
        return true;
    threads_release();
    return false;
}

/* Returns true with all other threads parked; else with none, and a reply that says why. */
bool threads_park(int64_t deadline, struct reply *reply) {
    const struct timespec pause = {.tv_nsec = TRY_AGAIN_NS};
    int tasks = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool parked;
    while (!(parked = try_to_park(tasks, deadline, reply)) && reply->outcome == NOT_IDLE &&
           now() < deadline)
        nanosleep(&pause, NULL);
    close(tasks);
    if (parked && now() >= deadline) {
        threads_release();
        return problem(reply, NOT_IDLE, own_tid()); /* the requester has given up */
    }
    return parked;
}

/* The kernel writes the processor's number there for the C library, if it knows the place. */
static void register_rseq(const struct slot *me) {
    if (!&__rseq_size || __rseq_size == 0)
        return;
    char *area = (char *)me->thread_pointer + __rseq_offset;
    if (syscall(SYS_rseq, area, RSEQ_SIZE, 0, RSEQ_SIGNATURE) < 0)
        *(int *)(area + RSEQ_CPU_ID_OFFSET) = RSEQ_FAILED;
}

/* A new thread, with the thread pointer of the old one, and all signals blocked. */
static int resume(void *argument) {
    struct slot *me = argument;
    register_rseq(me);
    syscall(SYS_set_robust_list, me->robust, me->robust_size);
    prctl(PR_SET_NAME, me->name);
    siginfo_t *info = me->info;
    ucontext_t *context = me->context;
    int error = me->error;
    change(&me->state, AWAY);
    errno = error;
    go_on(info, context);
}

/* In the clone: create all threads again, and wait until they are out of the handler. */
bool threads_resume(int64_t deadline, struct reply *reply) {
    const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                      CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID |
                      CLONE_CHILD_CLEARTID;
    atomic_store(&gathering, 0);
    for (int i = 0; i < count; i++) {
        struct slot *s = &slots[i];
        if (atomic_load(&s->state) == PARKED &&
            clone(resume, s->stack + sizeof s->stack, flags, s, &s->tid, s->thread_pointer,
                  s->id) < 0)
            return problem(reply, NOT_RESUMED, s->tid);
    }
    return await_leaving(deadline, reply);
}
