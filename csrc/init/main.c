/* The order of all, and the services. */
#include "init.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

/* A service that fails is started again, each time a little later; one that has run for long begins
 * from the start. */
enum { STABLE = 60, LONGEST_PAUSE = 60, GRACE = 5 };

static struct container *services;

static void run_to_end(const char *section) {
    for (struct container *c = containers_of(section); c; c = c->next) {
        if (container_start(c)) {
            int status = program_wait(c->pid);
            container_end(c);
            container_show_log(c);
            if (status)
                report("%s has failed: exit status %d", c->name, status);
        }
        container_unmount(c);
    }
}

static void fail(struct container *c) {
    if (uptime() - c->started > STABLE)
        c->failures = 0;
    long pause = c->failures < 6 ? 1L << c->failures : LONGEST_PAUSE;
    c->failures++;
    c->due = uptime() + pause;
}

static void start_service(struct container *c) {
    c->due = 0;
    if (!container_start(c)) {
        container_end(c);
        fail(c);
    }
}

static void take_ends(void) {
    program_note_ends();
    for (struct container *c = services; c; c = c->next) {
        int status;
        if (!program_took_end(c->pid, &status))
            continue;
        container_end(c);
        if (status) {
            report("%s has failed: exit status %d; it is started again", c->name, status);
            fail(c);
        }
    }
}

/* Seconds until a service is due; -1: none is. */
static long start_due(void) {
    long soonest = -1;
    for (struct container *c = services; c; c = c->next) {
        if (!c->due)
            continue;
        if (c->due <= uptime())
            start_service(c);
        if (c->due && (soonest < 0 || c->due - uptime() < soonest))
            soonest = c->due > uptime() ? c->due - uptime() : 0;
    }
    return soonest;
}

static bool any_runs(void) {
    for (struct container *c = services; c; c = c->next)
        if (c->pid)
            return true;
    return false;
}

static void stop_services(void) {
    long end = uptime() + GRACE;
    for (struct container *c = services; c; c = c->next) {
        c->due = 0;
        container_signal(c, "TERM");
    }
    while (any_runs() && uptime() < end) {
        struct timespec pause = {0, 50000000};
        nanosleep(&pause, NULL);
        take_ends();
        for (struct container *c = services; c; c = c->next)
            c->due = 0;
    }
    for (struct container *c = services; c; c = c->next)
        if (c->pid)
            container_end(c);
}

static _Noreturn void shut_down(int how) {
    report("going down");
    run_to_end("onshutdown");
    stop_services();
    system_end(how);
}

static void serve(const sigset_t *signals) {
    for (;;) {
        take_ends();
        long patience = start_due();
        struct timespec timeout = {patience, 0};
        int signal = sigtimedwait(signals, NULL, patience < 0 ? NULL : &timeout);
        if (signal == SIGUSR1)
            shut_down(RB_HALT_SYSTEM);
        if (signal == SIGUSR2 || signal == SIGPWR)
            shut_down(RB_POWER_OFF);
        if (signal == SIGTERM || signal == SIGINT)
            shut_down(RB_AUTOBOOT);
    }
}

int main(void) {
    if (getpid() != 1) {
        report("this is the first process of a machine");
        return 2;
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    /* As busybox's halt, poweroff and reboot ask for it, and the kernel for Ctrl-Alt-Del. */
    static const int asked[] = {SIGUSR1, SIGUSR2, SIGPWR, SIGTERM, SIGINT};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++)
        sigaddset(&signals, asked[i]);
    sigprocmask(SIG_SETMASK, &signals, NULL);
    reboot(RB_DISABLE_CAD);
    system_start();
    system_mount_volumes();
    run_to_end("onboot");
    network_configure();
    services = containers_of("services");
    for (struct container *c = services; c; c = c->next)
        start_service(c);
    system_run_scripts("/etc/init.d");
    serve(&signals);
}
