/* Arguments, and the loop. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READS_PER_TURN = 16, ABANDONED_MS = 5000 };
enum { GRACE_MS = 1000 };  /* for the commands that run when the agent is asked to end */

static const char usage[] =
    "usage: agent --port NAME | [--guest] --device PATH | [--guest] --fd N\n"
    "       agent --as USER PROGRAM [ARGUMENT...]\n"
    "       agent --survey TIME\n"
    "  --port NAME    the virtio-serial port of that name, now or once it appears\n"
    "  --device PATH  a character device\n"
    "  --fd N         a stream that is open already; exits at its end\n"
    "  --as USER      become PROGRAM, as a user (NAME, UID, NAME:GROUP or UID:GID)\n"
    "  --survey TIME  list processes, ports, file systems, the kernel's log, and the files that were\n"
    "                 changed since then, in ns since 1970; for the report of a failed test\n"
    "  --guest        this machine is the guest: HELLO, CLOCK, RESEED, POWEROFF, FREEZE and THAW\n"
    "                 act on it. --port implies it; without it the agent leaves the machine be\n";

static uint64_t ends_at; /* when the next step is due, once the agent is asked to end */
static bool commands_told;

static _Noreturn void quit(void) {
    channels_drop();
    exit(0);
}

static void handle_frames(void) {
    struct frame f;
    while (output_room(FRAME_ROOM)) {
        bool got = input_next(&f);
        problem bad = got ? dispatch(&f) : input_problem();
        if (bad) {
            output_frame(PROTOCOL_ERROR, 0, bad, strlen(bad));
            channels_drop();
            input_lost();
        } else if (!got) {
            break;
        }
    }
}

static void serve_port(bool readable) {
    input_check_stalled();
    handle_frames();
    for (int i = 0; readable && i < READS_PER_TURN && output_room(FRAME_ROOM); i++) {
        if (!input_read())
            break;
        handle_frames();
        if (input_empty())
            break; /* there may be more, but then poll() says so */
    }
}

static int sooner(int one, int other) {
    return one < 0 ? other : other < 0 || one < other ? one : other;
}

/* ms until output_flush() is due; -1: nothing waits */
static int output_due(void) {
    return output_pending() ? output_patience(commands_young(YOUNG_MS)) : -1;
}

static int patience(void) {
    if (output_starved())
        return 0;
    if (is_ending)
        return RETRY_MS;
    if (!port_here())
        return sooner(input_patience(), port_retry());
    /* Where output is due already, the port was full: poll() says when it is not. */
    int output = output_due();
    return sooner(input_patience(), output ? output : -1);
}

/* Where the session is bound to the host and that has gone: hang up on the commands, as a terminal
 * does, and kill what is left of them after a while. */
static void end_abandoned(bool away) {
    static uint64_t since;
    if (!bound || !away) {
        since = 0;
    } else if (!since) {
        since = now();
        channels_signal(SIGHUP);
        channels_signal(SIGCONT);
    } else if (!channels_open() || now() - since > ABANDONED_MS * UINT64_C(1000000)) {
        channels_drop();
        output_clear();
        bound = false;
    }
}

static void take_signals(int signals) {
    struct signalfd_siginfo news;
    while (read(signals, &news, sizeof news) > 0)
        if (news.ssi_signo == SIGCHLD)
            commands_reap();
        else if (news.ssi_signo != SIGIO && !is_ending) { /* SIGIO: the port is read anyway */
            is_ending = true;
            ends_at = now() + GRACE_MS * UINT64_C(1000000);
        }
}

/* Asked to end, most often since the system goes down: at once if nothing runs. A command that runs
 * may be the one that has asked for it (systemctl reboot), and about to end. What still runs after
 * the grace is asked to end, too, and gets as long again: the host still gets its end. */
static void end_if_due(void) {
    if (!is_ending || (channels_open() && now() < ends_at))
        return;
    if (channels_open() && !commands_told) {
        channels_signal(SIGTERM);
        commands_told = true;
        ends_at = now() + GRACE_MS * UINT64_C(1000000);
        return;
    }
    output_flush();
    quit();
}

static _Noreturn void serve(int signals) {
    while (!port_ended()) {
        events_clear();
        int signal_slot = watch(signals, POLLIN), port_slot = -1;
        short in = output_room(FRAME_ROOM) ? POLLIN : 0, out = output_due() == 0 ? POLLOUT : 0;
        if (port_here())
            port_slot = watch(port_fd(), in | out);
        drains_watch();
        channels_watch();
        events_wait(patience());
        drains_pump();
        if (fired(signal_slot))
            take_signals(signals);
        serve_port(!port_here() || fired(port_slot));
        end_abandoned(!port_here() || hung_up(port_slot));
        channels_pump();
        if (output_due() == 0)
            output_flush();
        end_if_due();
    }
    quit();
}

/* Descriptors 0 to 2 are a child's; ours must be others. */
static void fill_standard_descriptors(void) {
    int fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd < 2)
        fd = dup(fd);
    if (fd > 2)
        close(fd);
}

static bool parse_arguments(char **argument) {
    int ports = 0;
    while (*++argument) {
        if (strcmp(*argument, "--guest") == 0) {
            in_guest = true;
            continue;
        }
        const char *value = argument[1];
        if (!value)
            return false;
        if (strcmp(*argument, "--port") == 0) {
            in_guest = true;
            port_use_name(value);
        } else if (strcmp(*argument, "--device") == 0) {
            port_use_device(value);
        } else if (strcmp(*argument, "--fd") == 0) {
            port_use_fd(atoi(value));
        } else {
            return false;
        }
        argument++;
        ports++;
    }
    return ports == 1;
}

/* Containers' images start programs as users that are in no file: no program of busybox can. */
static int run_as(const char *name, char **argv) {
    struct user user = {0};
    if (!user_find(name, &user)) {
        fprintf(stderr, "agent: there is no user %s\n", name);
        return 1;
    }
    if (setgroups(user.group_count, user.groups) == 0 && setgid(user.gid) == 0 &&
        setuid(user.uid) == 0)
        execvp(argv[0], argv);
    perror(argv[0]);
    return errno == ENOENT ? 127 : 126;
}

int main(int argc, char **argv) {
    if (argc > 3 && strcmp(argv[1], "--as") == 0)
        return run_as(argv[2], argv + 3);
    if (argc == 3 && strcmp(argv[1], "--survey") == 0)
        return survey(argv[2]);
    fill_standard_descriptors();
    if (!parse_arguments(argv)) {
        fputs(usage, stderr);
        return 2;
    }
    if (in_guest)
        terminals_may_mount();
    umask(022);
    if (chdir("/") < 0)
        return 1;
    spawn_prepare();
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGIO);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    serve(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
}
