/* EXEC and TERMINAL: a command, from its frame to its DONE. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define BASE_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct request {
    struct text user, cwd;
    char **argv, **envp;       /* one allocation, with all their strings */
    bool terminal;
    struct size size;
};

static uint32_t skip_texts(struct cursor *c) {
    uint32_t n = take_u32(c);
    for (uint32_t i = 0; i < n && !c->bad; i++)
        take_text(c);
    return n;
}

static char **copy_texts(struct cursor *c, char **slots, char **room) {
    for (uint32_t n = take_u32(c); n; n--) {
        struct text t = take_text(c);
        *slots++ = *room;
        memcpy(*room, t.bytes, t.length);
        (*room)[t.length] = 0;
        *room += t.length + 1;
    }
    *slots = NULL;
    return slots + 1;
}

static struct size take_size(struct cursor *c) {
    uint32_t rows = take_u32(c), columns = take_u32(c);
    return (struct size){rows, columns};
}

/* The strings need no more room than the payload: there, each has a length of four bytes. */
static problem parse(const struct frame *f, struct request *r) {
    struct cursor cursor = cursor_of(f);
    r->terminal = f->type == TERMINAL;
    if (r->terminal)
        r->size = take_size(&cursor);
    r->user = take_text(&cursor);
    r->cwd = take_text(&cursor);
    struct cursor lists = cursor;
    size_t argc = skip_texts(&cursor), envc = skip_texts(&cursor);
    if (cursor.bad || cursor.at != cursor.end || argc == 0)
        return r->terminal ? "bad TERMINAL" : "bad EXEC";
    char **slots = malloc((argc + envc + 2) * sizeof *slots + f->length);
    if (!slots)
        return "no memory for an EXEC of this size";
    char *room = (char *)(slots + argc + envc + 2);
    r->argv = slots;
    r->envp = copy_texts(&lists, slots, &room);
    copy_texts(&lists, r->envp, &room);
    return NULL;
}

static const char *lookup(char **envp, const char *key) {
    size_t n = strlen(key);
    for (; *envp; envp++)
        if (strncmp(*envp, key, n) == 0 && (*envp)[n] == '=')
            return *envp + n + 1;
    return NULL;
}

/* What was asked for, and of the base what was not; freed as one. */
static char **environment(char **given, const struct user *u) {
    const char *base[][2] = {
        {"PATH", BASE_PATH}, {"HOME", u->home}, {"USER", u->name},    {"LOGNAME", u->name},
        {"SHELL", u->shell}, {"TERM", "dumb"},  {"LANG", "C.UTF-8"},
    };
    enum { BASE = sizeof base / sizeof *base };
    size_t count = 0, size = 0;
    while (given[count])
        count++;
    for (int i = 0; i < BASE; i++)
        size += strlen(base[i][0]) + strlen(base[i][1]) + 2;
    char **result = malloc((count + BASE + 1) * sizeof *result + size);
    if (!result)
        return NULL;
    char **slot = result, *room = (char *)(result + count + BASE + 1);
    for (int i = 0; i < BASE; i++) {
        if (lookup(given, base[i][0]))
            continue;
        *slot++ = room;
        room = stpcpy(stpcpy(stpcpy(room, base[i][0]), "="), base[i][1]) + 1;
    }
    memcpy(slot, given, (count + 1) * sizeof *given);
    return result;
}

static void fail_spawn(struct channel *c, const struct spawn *s, const char *user) {
    const char *why = strerror(s->error);
    if (s->stage == AS_USER)
        channel_fail(c, s->error, "cannot run as user \"%s\": %s", user, why);
    else if (s->stage == IN_DIRECTORY)
        channel_fail(c, s->error, "cannot enter directory \"%s\": %s", s->cwd, why);
    else if (s->error == ENOENT && !strchr(s->argv[0], '/'))
        channel_fail(c, ENOENT, "cannot run \"%s\": no such program in %s", s->argv[0], s->path);
    else if (s->error == ENOENT && access(s->argv[0], F_OK) == 0)
        channel_fail(c, ENOENT, "cannot run \"%s\": the interpreter it names is not there",
                     s->argv[0]);
    else
        channel_fail(c, s->error, "cannot run \"%s\": %s", s->argv[0], why);
}

/* Pipes to the child's 0, 1, 2; ours do not block: a child can open and read its stdout, too. */
static bool open_pipes(struct channel *c, struct spawn *s, const struct user *owner) {
    for (int i = 0; i < 3; i++) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
            return false;
        int ours = ends[i == 0];
        s->stdio[i] = ends[i != 0];
        fcntl(ours, F_SETFL, O_NONBLOCK);
        if (owner && fchown(ours, owner->uid, owner->gid) < 0)
            errno = 0; /* then the user cannot open /dev/stdout by name; nothing worse */
        if (i == 0)
            c->in.fd = ours;
        else
            source_open(&c->out[i - 1], ours, i == 1 ? STDOUT : STDERR);
    }
    return true;
}

/* A terminal as the child's 0, 1, 2; its other end, which does not block, for both directions. */
static bool open_terminal(struct channel *c, struct spawn *s, const struct user *owner,
                          struct size size) {
    int ours, theirs;
    if (!terminal_open(&ours, &theirs))
        return false;
    s->terminal = c->terminal = true;
    s->stdio[0] = theirs;
    source_open(&c->out[0], ours, STDOUT);
    terminal_resize(ours, size);
    if (owner && fchown(theirs, owner->uid, (gid_t)-1) < 0)
        errno = 0; /* then the user cannot open /dev/tty by name; nothing worse */
    for (int i = 1; i < 3; i++)
        if ((s->stdio[i] = fcntl(theirs, F_DUPFD_CLOEXEC, 3)) < 0)
            return false;
    return (c->in.fd = fcntl(ours, F_DUPFD_CLOEXEC, 3)) >= 0;
}

static void start(struct channel *c, const struct request *r, const char *user, const char *cwd) {
    struct user who = {0};
    struct spawn s = {.argv = r->argv, .cwd = *cwd ? cwd : NULL, .user = &who,
                      .switch_user = *user, .stdio = {-1, -1, -1}};
    if (!user_find(user, &who)) {
        channel_fail(c, ENOENT, "no user \"%s\" in /etc/passwd", user);
        return;
    }
    s.envp = environment(r->envp, &who);
    s.path = s.envp ? lookup(s.envp, "PATH") : NULL;
    const struct user *owner = *user ? &who : NULL;
    bool ready = s.envp && (r->terminal ? open_terminal(c, &s, owner, r->size)
                                        : open_pipes(c, &s, owner));
    if (!ready)
        channel_fail(c, errno, "cannot run \"%s\": %s", r->argv[0], strerror(errno));
    else if ((c->pid = spawn(&s)) < 0)
        fail_spawn(c, &s, user);
    else
        output_frame(STARTED, c->id, &c->pid, 4);
    for (int i = 0; i < 3; i++)
        if (s.stdio[i] >= 0)
            close(s.stdio[i]);
    free(s.envp);
    free(who.text);
}

static void kill_all(struct channel *c) {
    if (c->pid <= 0 || c->ended)
        return;
    tree_kill(c->pid);
    kill(-c->pid, SIGKILL);
}

static void send_signal(struct channel *c, int signal) {
    if (c->pid <= 0 || c->ended)
        return;
    if (signal != SIGKILL) {
        kill(-c->pid, signal);
        return;
    }
    if (!*c->last_words) /* the host may send a second one, for what dies already */
        waits_describe(c->pid, c->last_words, sizeof c->last_words);
    kill_all(c);
}

/* A command that does not read its input, or whose pipe is broken, continues. */
static void ignore(struct channel *c, int error) {
    (void)c, (void)error;
}

static void pump(struct channel *c) {
    if (!c->ended || c->out[0].fd >= 0 || c->out[1].fd >= 0)
        return;
    bool exited = WIFEXITED(c->status);
    int code = exited ? WEXITSTATUS(c->status) : WTERMSIG(c->status);
    channel_done(c, exited ? EXITED : SIGNALED, (uint32_t)code, exited ? "" : c->last_words);
}

problem command_start(const struct frame *f) {
    struct request r;
    problem bad = parse(f, &r);
    if (bad)
        return bad;
    static const struct operations operations = {
        .is_command = true,
        .takes_input = true,
        .pump = pump,
        .signal = send_signal,
        .failed = ignore,
        .abandon = kill_all,
    };
    struct channel *c = channel_open(f->channel, &operations);
    char *user = text_copy(r.user), *cwd = text_copy(r.cwd);
    if (c && user && cwd)
        start(c, &r, user, cwd);
    else if (c)
        channel_fail(c, ENOMEM, "the agent has no memory to run \"%s\"", r.argv[0]);
    free(user);
    free(cwd);
    free(r.argv);
    return NULL;
}

problem command_resize(struct channel *c, const struct frame *f) {
    struct cursor cursor = cursor_of(f);
    struct size size = take_size(&cursor);
    if (cursor.bad || cursor.at != cursor.end || !c->terminal)
        return "bad RESIZE";
    if (c->out[0].fd >= 0)
        terminal_resize(c->out[0].fd, size);
    return NULL;
}

/* Reap every child, also those that are not ours but came to us as process 1. */
void commands_reap(void) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct channel *c = channel_of(pid);
        if (!c)
            continue;
        c->ended = now();
        c->status = status;
        sink_close(&c->in);
        if (c->terminal) /* the kernel hangs it up: reading ends by itself, after all output */
            continue;
        for (int i = 0; i < 2; i++)
            if (c->out[i].fd >= 0 && ioctl(c->out[i].fd, FIONREAD, &c->out[i].left) < 0)
                c->out[i].left = 0;
    }
}
