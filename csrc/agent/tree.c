/* A command with all that it has started: what is in its session, and what descends from it. A
 * process group would not do: timeout(1) makes one of its own, and so does a shell with jobs. */
#include "agent.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_PROCESSES = 8192, PASSES = 64 };

struct process {
    pid_t pid, parent, session;
    bool member;
};

static struct process processes[MAX_PROCESSES];
static size_t count;

/* What /proc/PID/stat says: pid (name) state parent group session …; the name may hold anything. */
static bool look_at(const char *pid) {
    char path[64], text[512], state;
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *fields = strrchr(text, ')');
    struct process *p = &processes[count];
    *p = (struct process){.pid = atoi(pid)};
    return fields && sscanf(fields + 1, " %c %d %*d %d", &state, &p->parent, &p->session) == 3 &&
           state != 'Z' && state != 'X';
}

static void look(void) {
    count = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; proc && count < MAX_PROCESSES && (entry = readdir(proc));)
        if (*entry->d_name >= '1' && *entry->d_name <= '9' && look_at(entry->d_name))
            count++;
    if (proc)
        closedir(proc);
}

static bool belongs(const struct process *p, pid_t root) {
    if (p->pid == root || p->session == root || p->parent == root)
        return true;
    for (size_t i = 0; i < count; i++)
        if (processes[i].member && processes[i].pid == p->parent)
            return true;
    return false;
}

/* Mark those that belong to the command; false: there is none. */
static bool mark(pid_t root) {
    bool any = false, more = true;
    while (more) {
        more = false;
        for (size_t i = 0; i < count; i++)
            if (!processes[i].member && processes[i].pid != getpid() && belongs(&processes[i], root))
                processes[i].member = any = more = true;
    }
    return any;
}

size_t tree_members(pid_t root, pid_t *found, size_t room) {
    size_t n = 0;
    look();
    mark(root);
    for (size_t i = 0; i < count && n < room; i++)
        if (processes[i].member)
            found[n++] = processes[i].pid;
    return n;
}

/* All are stopped before any is killed: an orphan would not be known for the command's any more,
 * and what forks meanwhile is found in the next pass. */
void tree_kill(pid_t root) {
    size_t before = 0, members = 1;
    for (int i = 0; i < PASSES && members != before; i++) {
        before = members;
        members = 1;
        look();
        if (!mark(root))
            return;
        for (size_t j = 0; j < count; j++)
            if (processes[j].member && kill(processes[j].pid, SIGSTOP) == 0)
                members++;
    }
    for (size_t j = 0; j < count; j++)
        if (processes[j].member)
            kill(processes[j].pid, SIGKILL);
}
