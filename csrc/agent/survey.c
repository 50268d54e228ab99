/* --survey: what a machine looks like, for the report of a failed test. The host starts it as a
 * command, /proc/PID/exe of the agent, so it needs no program of the image, and a walk through many
 * files does not keep the agent from answering.
 *
 * Each record is a letter, fields that are separated by tabs, and a NUL. Names are the last field,
 * since they may hold anything else:
 *
 *   U uptime time        now: ns since the start, and ns since 1970
 *   D kind mode uid size ctime path     a directory that was changed since the given time
 *   d kind mode uid size ctime path     a directory that standard input asks for
 *   E kind mode uid size ctime name     an entry of the directory above
 *   F kind mode uid size ctime path     another file that was changed
 *   G text               the end of the file above, a log
 *   I path               what runs the file above, a program, and is not there
 *   T path               the walk ended here: more was changed than is listed
 *   P pid parent start state rss command     a process
 *   L protocol port pid  a port that a program listens on
 *   W kind pid path      a lock on a file that a process holds
 *   S total free nodes free-nodes flag path     a file system, in bytes and inodes; flag: ro or rw
 *   M total available    memory, in bytes
 *   K line               the kernel's log */
#include "agent.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/klog.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

enum { MOST_RECORDS = 20000, MOST_SYSTEMS = 64, MOST_SOCKETS = 512, MOST_WORDS = 400 };
enum { MOST_LOCKS = 32 };
enum { KERNEL_THREAD = 0x00200000 };

static int64_t since; /* ns since the epoch */
static int records;
static char path[PATH_MAX];
static dev_t walked[MOST_SYSTEMS];
static size_t walked_count;

static struct socket {
    const char *protocol;
    unsigned port, inode;
    int pid;
} sockets[MOST_SOCKETS];
static size_t socket_count;

static void end_record(void) {
    putchar(0);
}

static int64_t ns(struct timespec t) {
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static char kind_of(mode_t mode) {
    return S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' : S_ISREG(mode) ? 'f' : 's';
}

static bool is_one_of(const char *word, const char *const *words) {
    for (; *words; words++)
        if (strcmp(word, *words) == 0)
            return true;
    return false;
}

/* What the kernel makes up, what lives in memory only until the next start, and what we are not to
 * wait for. */
static bool is_left_out(const char *where) {
    static const char *const roots[] = {"/proc", "/sys", "/run", "/dev", "/var/run", NULL};
    return is_one_of(where, roots);
}

static bool is_walked(const char *type) {
    static const char *const kinds[] = {"rootfs", "tmpfs", "ramfs", "overlay", "ext2", "ext3",
                                        "ext4", "xfs", "btrfs", "vfat", "f2fs", "squashfs",
                                        "erofs", "exfat", "ntfs3", NULL};
    return is_one_of(type, kinds);
}

static void file(char letter, const struct stat *s, const char *name) {
    printf("%c\t%c\t%o\t%u\t%lld\t%lld\t%s", letter, kind_of(s->st_mode), s->st_mode & 07777,
           s->st_uid, (long long)s->st_size, (long long)ns(s->st_ctim), name);
    end_record();
}

/* A directory, and what it has. */
static void directory(char letter, const char *name) {
    int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *content = fd >= 0 ? fdopendir(fd) : NULL;
    struct stat s;
    if (!content && fd >= 0)
        close(fd);
    if (content && fstat(fd, &s) == 0)
        file(letter, &s, name);
    for (struct dirent *e; content && (e = readdir(content));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            fstatat(fd, e->d_name, &s, AT_SYMLINK_NOFOLLOW) == 0)
            file('E', &s, e->d_name);
    if (content)
        closedir(content);
}

static void changed(const struct stat *s) {
    if (S_ISDIR(s->st_mode))
        directory('D', path);
    else
        file('F', s, path);
    if (S_ISREG(s->st_mode))
        survey_content(path, s);
    records++;
}

/* The directory *path*, of *length* bytes, on one file system. */
static void walk(size_t length, dev_t device) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *content = fd >= 0 ? fdopendir(fd) : NULL;
    if (!content && fd >= 0)
        close(fd);
    for (struct dirent *e; content && records <= MOST_RECORDS && (e = readdir(content));) {
        struct stat s;
        size_t size = strlen(e->d_name), slash = length > 1;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            length + slash + size >= sizeof path)
            continue;
        memcpy(path + length, "/", slash);
        memcpy(path + length + slash, e->d_name, size + 1);
        if (is_left_out(path) || fstatat(fd, e->d_name, &s, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (ns(s.st_ctim) >= since && s.st_dev == device)
            changed(&s);
        if (S_ISDIR(s.st_mode) && s.st_dev == device)
            walk(length + slash + size, device);
    }
    if (content)
        closedir(content);
    path[length] = 0;
}

/* The octal escapes of /proc/mounts. */
static void unescape(char *text) {
    char *to = text;
    for (; *text; text++)
        if (text[0] == '\\' && isdigit(text[1]) && isdigit(text[2]) && isdigit(text[3])) {
            *to++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + text[3] - '0');
            text += 3;
        } else {
            *to++ = *text;
        }
    *to = 0;
}

static bool was_walked(dev_t device) {
    for (size_t i = 0; i < walked_count; i++)
        if (walked[i] == device)
            return true;
    if (walked_count < MOST_SYSTEMS)
        walked[walked_count++] = device;
    return false;
}

static bool is_under_left_out(const char *where) {
    char root[16];
    const char *end = strchr(where + 1, '/');
    snprintf(root, sizeof root, "%.*s", end ? (int)(end - where) : 15, where);
    return is_left_out(root);
}

static void file_systems(void) {
    FILE *mounts = fopen("/proc/self/mounts", "re");
    static char where[PATH_MAX];
    char type[64];
    while (mounts && fscanf(mounts, "%*s %4095s %63s %*[^\n]", where, type) == 2) {
        struct statvfs v;
        struct stat s;
        unescape(where);
        if (!is_walked(type) || is_under_left_out(where) || lstat(where, &s) < 0 ||
            was_walked(s.st_dev))
            continue;
        if (statvfs(where, &v) == 0 && v.f_blocks) {
            printf("S\t%llu\t%llu\t%llu\t%llu\t%s\t%s",
                   (unsigned long long)v.f_blocks * v.f_frsize,
                   (unsigned long long)v.f_bavail * v.f_frsize, (unsigned long long)v.f_files,
                   (unsigned long long)v.f_ffree, v.f_flag & ST_RDONLY ? "ro" : "rw", where);
            end_record();
        }
        size_t length = (size_t)snprintf(path, sizeof path, "%s", where);
        if (ns(s.st_ctim) >= since)
            changed(&s);
        walk(length, s.st_dev);
    }
    if (mounts)
        fclose(mounts);
    if (records > MOST_RECORDS) {
        printf("T\t%s", path);
        end_record();
    }
}

static void read_sockets(const char *name, const char *protocol, unsigned wanted) {
    FILE *table = fopen(name, "re");
    unsigned port, state, inode;
    while (table && socket_count < MOST_SOCKETS) {
        int found = fscanf(table, " %*d: %*[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %*u %*u %u%*[^\n]",
                           &port, &state, &inode);
        if (found == EOF)
            break;
        if (found < 3)
            found = fscanf(table, "%*[^\n]"); /* the heading */
        else if (state == wanted)
            sockets[socket_count++] = (struct socket){protocol, port, inode, 0};
    }
    if (table)
        fclose(table);
}

static void find_sockets_of(int pid) {
    char name[64], target[64];
    snprintf(name, sizeof name, "/proc/%d/fd", pid);
    DIR *files = opendir(name);
    for (struct dirent *e; files && (e = readdir(files));) {
        ssize_t n = readlinkat(dirfd(files), e->d_name, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        unsigned inode;
        if (sscanf(target, "socket:[%u]", &inode) != 1)
            continue;
        for (size_t i = 0; i < socket_count; i++)
            if (sockets[i].inode == inode && !sockets[i].pid)
                sockets[i].pid = pid;
    }
    if (files)
        closedir(files);
}

static ssize_t read_file(const char *directory, const char *name, char *text, size_t size) {
    char whole[64];
    snprintf(whole, sizeof whole, "%s/%s", directory, name);
    int fd = open(whole, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, size - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    return n;
}

static void process(int pid) {
    char directory[32], text[1024], words[MOST_WORDS];
    snprintf(directory, sizeof directory, "/proc/%d", pid);
    if (read_file(directory, "stat", text, sizeof text) <= 0)
        return;
    char *begin = strchr(text, '('), *end = strrchr(text, ')'), state;
    int parent;
    unsigned flags;
    unsigned long long start;
    long pages;
    if (!begin || !end ||
        sscanf(end + 1, " %c %d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d"
                        " %*d %llu %*u %ld",
               &state, &parent, &flags, &start, &pages) != 5 ||
        flags & KERNEL_THREAD)
        return;
    *end = 0;
    ssize_t n = read_file(directory, "cmdline", words, sizeof words);
    for (ssize_t i = 0; i + 1 < n; i++)
        if (!words[i])
            words[i] = ' ';
    printf("P\t%d\t%d\t%llu\t%c\t%lld\t%s", pid, parent, start, state,
           (long long)pages * sysconf(_SC_PAGESIZE), n > 0 && *words ? words : begin + 1);
    end_record();
    find_sockets_of(pid);
}

static void processes(void) {
    DIR *proc = opendir("/proc");
    for (struct dirent *e; proc && (e = readdir(proc));)
        if (isdigit(*e->d_name) && atoi(e->d_name) != getpid())
            process(atoi(e->d_name));
    if (proc)
        closedir(proc);
}

static void listeners(void) {
    for (size_t i = 0; i < socket_count; i++) {
        printf("L\t%s\t%u\t%d", sockets[i].protocol, sockets[i].port, sockets[i].pid);
        end_record();
    }
}

/* The name of an open file of a process; false: it has none such. */
static bool name_of(int pid, dev_t device, unsigned long long inode, char *name, size_t size) {
    char directory[64];
    struct stat s;
    bool found = false;
    snprintf(directory, sizeof directory, "/proc/%d/fd", pid);
    DIR *files = opendir(directory);
    for (struct dirent *e; files && !found && (e = readdir(files));) {
        ssize_t n = -1;
        if (isdigit(*e->d_name) && fstatat(dirfd(files), e->d_name, &s, 0) == 0 &&
            s.st_dev == device && s.st_ino == inode)
            n = readlinkat(dirfd(files), e->d_name, name, size - 1);
        name[n > 0 ? n : 0] = 0;
        found = n > 0;
    }
    if (files)
        closedir(files);
    return found;
}

/* What waits for a lock has an arrow before its kind; it is left out, since the pattern fails. */
static void locks(void) {
    FILE *table = fopen("/proc/locks", "re");
    char line[256], kind[16], name[PATH_MAX];
    int pid;
    unsigned major, minor;
    unsigned long long inode;
    for (int n = 0; table && n < MOST_LOCKS && fgets(line, sizeof line, table);)
        if (sscanf(line, "%*d: %15[A-Z] %*s %*s %d %x:%x:%llu", kind, &pid, &major, &minor,
                   &inode) == 5 &&
            name_of(pid, makedev(major, minor), inode, name, sizeof name)) {
            printf("W\t%s\t%d\t%s", kind, pid, name);
            end_record();
            n++;
        }
    if (table)
        fclose(table);
}

static void memory(void) {
    FILE *file = fopen("/proc/meminfo", "re");
    char key[32];
    unsigned long long value, total = 0, available = 0;
    while (file && fscanf(file, "%31s %llu%*[^\n]", key, &value) == 2) {
        total = strcmp(key, "MemTotal:") == 0 ? value : total;
        available = strcmp(key, "MemAvailable:") == 0 ? value : available;
    }
    if (file)
        fclose(file);
    printf("M\t%llu\t%llu", total * 1024, available * 1024);
    end_record();
}

static void kernel_log(void) {
    enum { SIZE_BUFFER = 10, READ_ALL = 3 };
    int size = klogctl(SIZE_BUFFER, NULL, 0);
    char *text = size > 0 ? malloc((size_t)size + 1) : NULL;
    int n = text ? klogctl(READ_ALL, text, size) : 0;
    if (n > 0)
        text[n] = 0;
    for (char *line = n > 0 ? strtok(text, "\n") : NULL; line; line = strtok(NULL, "\n")) {
        printf("K\t%s", line);
        end_record();
    }
    free(text);
}

/* Directories whose entries the host wants, each ended by a NUL. */
static void asked(void) {
    char *name = NULL;
    size_t room = 0;
    while (getdelim(&name, &room, 0, stdin) > 0)
        directory('d', name);
    free(name);
}

static void clocks(void) {
    struct timespec up, wall;
    clock_gettime(CLOCK_BOOTTIME, &up);
    clock_gettime(CLOCK_REALTIME, &wall);
    printf("U\t%lld\t%lld", (long long)ns(up), (long long)ns(wall));
    end_record();
}

int survey(const char *begin) {
    since = atoll(begin);
    clocks();
    read_sockets("/proc/net/tcp", "tcp", 0x0A);
    read_sockets("/proc/net/tcp6", "tcp", 0x0A);
    read_sockets("/proc/net/udp", "udp", 0x07);
    read_sockets("/proc/net/udp6", "udp", 0x07);
    processes();
    listeners();
    locks();
    memory();
    kernel_log();
    asked();
    file_systems();
    return fflush(stdout) == 0 ? 0 : 1;
}
