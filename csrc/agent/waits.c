/* What the processes of a command wait for, in words: a command that is killed because its time is
 * up would otherwise take the reason with it. */
#include "agent.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MOST = 8, LONGEST_NAME = 120 };
enum operand { NOTHING, FILE_0, PATH_0, PATH_1, POLLED_0 };

static const struct {
    long number;
    const char *verb;
    enum operand operand;
} calls[] = {
    {SYS_read, "reads", FILE_0},
    {SYS_readv, "reads", FILE_0},
    {SYS_recvfrom, "reads", FILE_0},
    {SYS_recvmsg, "reads", FILE_0},
    {SYS_write, "writes to", FILE_0},
    {SYS_writev, "writes to", FILE_0},
    {SYS_sendto, "writes to", FILE_0},
    {SYS_sendmsg, "writes to", FILE_0},
    {SYS_connect, "connects", FILE_0},
    {SYS_accept, "waits for a connection to", FILE_0},
    {SYS_accept4, "waits for a connection to", FILE_0},
    {SYS_flock, "waits for a lock on", FILE_0},
    {SYS_fcntl, "waits for a lock on", FILE_0},
    {SYS_fsync, "syncs", FILE_0},
    {SYS_fdatasync, "syncs", FILE_0},
    {SYS_openat, "opens", PATH_1},
    {SYS_ppoll, "waits for", POLLED_0},
#ifdef SYS_poll
    {SYS_open, "opens", PATH_0},
    {SYS_poll, "waits for", POLLED_0},
    {SYS_select, "waits for input", NOTHING},
    {SYS_epoll_wait, "waits for input", NOTHING},
    {SYS_pause, "waits for a signal", NOTHING},
#endif
    {SYS_pselect6, "waits for input", NOTHING},
    {SYS_epoll_pwait, "waits for input", NOTHING},
    {SYS_rt_sigsuspend, "waits for a signal", NOTHING},
    {SYS_rt_sigtimedwait, "waits for a signal", NOTHING},
    {SYS_futex, "waits for another thread", NOTHING},
    {SYS_nanosleep, "sleeps", NOTHING},
    {SYS_clock_nanosleep, "sleeps", NOTHING},
    {SYS_wait4, "waits for a child", NOTHING},
    {SYS_waitid, "waits for a child", NOTHING},
};

static ssize_t contents(pid_t pid, const char *name, char *text, size_t size, off_t from) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? pread(fd, text, size - 1, from) : -1;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    return n;
}

/* An address as the tables of sockets have it: words of 32 bits in hexadecimal, and the port. */
static void address_name(const char *words, unsigned port, char *name, size_t size) {
    uint32_t address[4] = {0};
    bool is_long = strlen(words) > 8;
    for (size_t i = 0; i < 4 && i * 8 < strlen(words); i++)
        sscanf(words + i * 8, "%8x", &address[i]);
    char text[INET6_ADDRSTRLEN] = "";
    inet_ntop(is_long ? AF_INET6 : AF_INET, address, text, sizeof text);
    snprintf(name, size, is_long ? "[%s]:%u" : "%s:%u", text, port);
}

/* The other end of a connection, or the address of a socket that has none, by its inode. */
static bool socket_name(const char *protocol, unsigned inode, char *name, size_t size) {
    char path[32], here[33], there[33], address[64];
    unsigned port, other_port, found;
    bool is_it = false;
    snprintf(path, sizeof path, "/proc/net/%s", protocol);
    FILE *table = fopen(path, "re");
    int got = table ? fscanf(table, "%*[^\n]") : EOF; /* the heading */
    static const char line[] = " %*d: %32[0-9A-F]:%x %32[0-9A-F]:%x %*s %*s %*s %*s %*u %*u %u%*[^\n]";
    while (got != EOF && !is_it &&
           (got = fscanf(table, line, here, &port, there, &other_port, &found)) == 5)
        is_it = found == inode;
    if (table)
        fclose(table);
    if (!is_it)
        return false;
    address_name(other_port ? there : here, other_port ? other_port : port, address,
                 sizeof address);
    snprintf(name, size, "%.3s %s%s", protocol, other_port ? "to " : "", address);
    return true;
}

static bool is_socket_of(const char *target, char *name, size_t size) {
    static const char *const protocols[] = {"tcp", "tcp6", "udp", "udp6"};
    unsigned inode;
    bool found = false;
    if (sscanf(target, "socket:[%u]", &inode) == 1)
        for (size_t i = 0; i < sizeof protocols / sizeof *protocols && !found; i++)
            found = socket_name(protocols[i], inode, name, size);
    return found;
}

static void file_name(pid_t pid, long fd, char *name, size_t size) {
    char path[64], target[LONGEST_NAME];
    snprintf(path, sizeof path, "/proc/%d/fd/%ld", pid, fd);
    ssize_t n = readlink(path, target, sizeof target - 1);
    target[n > 0 ? n : 0] = 0;
    if (is_socket_of(target, name, size))
        return;
    bool is_pipe = strncmp(target, "pipe:", 5) == 0, is_socket = strncmp(target, "socket:", 7) == 0;
    const char *kind = is_pipe ? "a pipe" : is_socket ? "a socket" : target;
    snprintf(name, size, fd < 3 ? "%s (its descriptor %ld)" : "%s", kind, fd);
}

static void operand_name(pid_t pid, enum operand kind, const unsigned long *argument, char *name,
                         size_t size) {
    struct pollfd first;
    if (kind == FILE_0)
        file_name(pid, (long)argument[0], name, size);
    else if (kind == POLLED_0 && argument[1] > 0 &&
             contents(pid, "mem", (char *)&first, sizeof first, (off_t)argument[0]) > 4)
        file_name(pid, first.fd, name, size);
    else if (kind == PATH_0 || kind == PATH_1)
        contents(pid, "mem", name, size, (off_t)argument[kind == PATH_1]);
    else
        snprintf(name, size, "%s", kind == POLLED_0 ? "input" : "");
}

/* Of a process that does not wait, the file says "running". */
static void describe_process(pid_t pid, char *text, size_t size) {
    char line[256], name[LONGEST_NAME], command[LONGEST_NAME];
    long number;
    unsigned long argument[2];
    ssize_t n = contents(pid, "cmdline", command, sizeof command, 0);
    for (ssize_t i = 0; i + 1 < n; i++)
        if (!command[i])
            command[i] = ' ';
    contents(pid, "syscall", line, sizeof line, 0);
    if (sscanf(line, "%ld %lx %lx", &number, &argument[0], &argument[1]) != 3) {
        snprintf(text, size, "%d %s: %s\n", pid, command, *line == 'r' ? "is running" : "stopped");
        return;
    }
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (calls[i].number == number) {
            operand_name(pid, calls[i].operand, argument, name, sizeof name);
            snprintf(text, size, "%d %s: %s %s\n", pid, command, calls[i].verb, name);
            return;
        }
    snprintf(text, size, "%d %s: is in system call %ld\n", pid, command, number);
}

void waits_describe(pid_t root, char *text, size_t size) {
    pid_t found[MOST];
    size_t count = tree_members(root, found, MOST);
    *text = 0;
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(text);
        describe_process(found[i], text + used, size - used);
    }
}
