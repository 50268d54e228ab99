/* The machine before its containers, and after them. */
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

enum { FILES_MAX = 1048576, PASSES = 5, ALIASES_MAX = 1024 };

#define RESOLVER "/run/resolvconf/resolv.conf"

long uptime(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long)t.tv_sec;
}

static const struct {
    const char *type, *target, *options;
} places[] = {
    {"proc", "/proc", "nosuid,nodev,noexec"},
    {"sysfs", "/sys", "nosuid,nodev,noexec"},
    {"devtmpfs", "/dev", "nosuid,mode=755"},
    {"devpts", "/dev/pts", "nosuid,noexec,gid=5,mode=620,ptmxmode=666"},
    {"tmpfs", "/dev/shm", "nosuid,nodev,mode=1777"},
    {"mqueue", "/dev/mqueue", "nosuid,nodev,noexec"},
    {"cgroup2", "/sys/fs/cgroup", "nosuid,nodev,noexec"},
    {"tracefs", "/sys/kernel/tracing", "nosuid,nodev,noexec"},
    {"securityfs", "/sys/kernel/security", "nosuid,nodev,noexec"},
};

static void write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    if (write(fd, text, strlen(text)) < 0)
        report("cannot write %s: %s", path, strerror(errno));
    close(fd);
}

/* pivot_root(2), as runtimes use it, cannot leave the first file system of Linux, at whose root
 * nothing is mounted. So our root becomes a mount of its own, of the same file system. */
static void leave_first_root(void) {
    mkdir("/mnt", 0755);
    if (mount("/", "/mnt", NULL, MS_BIND, NULL) < 0 || chdir("/mnt") < 0 ||
        mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
        report("cannot make the root a mount: %s", strerror(errno));
}

static void mount_system(void) {
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        /* Not every kernel has all of them, and the last ones are for curious programs only. */
        if (mkdir(places[i].target, 0755) < 0 && errno != EEXIST)
            continue;
        char data[64] = "";
        unsigned long flags = MS_NOSUID;
        for (const char *at = places[i].options; at && *at;) {
            size_t n = strcspn(at, ",");
            if (memchr(at, '=', n))
                snprintf(data + strlen(data), sizeof data - strlen(data), "%s%.*s",
                         *data ? "," : "", (int)n, at);
            else
                flags |= strncmp(at, "nodev", n) == 0    ? MS_NODEV
                         : strncmp(at, "noexec", n) == 0 ? MS_NOEXEC
                                                         : 0;
            at += n + (at[n] == ',');
        }
        if (mount(places[i].type, places[i].target, places[i].type, flags, data) < 0 && i < 3)
            report("cannot mount %s: %s", places[i].target, strerror(errno));
    }
    static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
                                           {"/proc/self/fd/0", "/dev/stdin"},
                                           {"/proc/self/fd/1", "/dev/stdout"},
                                           {"/proc/self/fd/2", "/dev/stderr"}};
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        (void)!symlink(links[i][0], links[i][1]);
    mount(NULL, "/", NULL, MS_SHARED | MS_REC, NULL);
}

static void open_console(void) {
    int fd = open("/dev/console", O_RDWR | O_NOCTTY);
    if (fd < 0)
        fd = open("/dev/null", O_RDWR);
    for (int standard = 0; fd >= 0 && standard < 3; standard++)
        if (fd != standard)
            dup2(fd, standard);
    if (fd > 2)
        close(fd);
}

/* The aliases of all devices, of which modprobe finds those that a module is for. */
static size_t find_aliases(const char *directory, int depth, char **argv, size_t count) {
    DIR *stream = depth < 16 ? opendir(directory) : NULL;
    struct dirent *entry;
    while (stream && count < ALIASES_MAX && (entry = readdir(stream))) {
        char path[PATH_SIZE], alias[512];
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
            count = find_aliases(path, depth + 1, argv, count);
        } else if (strcmp(entry->d_name, "modalias") == 0) {
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            ssize_t n = fd < 0 ? -1 : read(fd, alias, sizeof alias - 1);
            if (fd >= 0)
                close(fd);
            alias[n > 0 ? n : 0] = 0;
            alias[strcspn(alias, "\n")] = 0;
            size_t known = 3;
            while (known < count && strcmp(argv[known], alias) != 0)
                known++;
            if (*alias && known == count)
                argv[count++] = strdup(alias);
        }
    }
    if (stream)
        closedir(stream);
    return count;
}

/* A device's driver may find more devices: those of virtio are behind one of PCI. */
static void load_modules(void) {
    struct utsname system;
    char path[PATH_SIZE];
    uname(&system);
    snprintf(path, sizeof path, "/lib/modules/%s/modules.dep", system.release);
    if (access(path, F_OK) < 0)
        return;
    static char *argv[ALIASES_MAX + 2] = {"/usr/bin/modprobe", "-aqb", "overlay"};
    size_t count = 3;
    for (int pass = 0; pass < PASSES; pass++) {
        size_t before = count;
        count = find_aliases("/sys/devices", 0, argv, count);
        argv[count] = NULL;
        if (pass && count == before)
            break;
        program_run(argv, -1);
    }
}

static void set_host_name(void) {
    char name[64] = "";
    int fd = open("/etc/hostname", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, name, sizeof name - 1);
        name[n > 0 ? n : 0] = 0;
        close(fd);
    }
    name[strcspn(name, " \t\r\n")] = 0;
    const char *chosen = *name ? name : "linuxkit";
    sethostname(chosen, strlen(chosen));
}

void system_start(void) {
    /* Everything is in memory as long as the machine runs: what the file has put below these
     * directories stays visible. */
    static const char *const directories[] = {"/dev", "/proc", "/sys", "/run", "/tmp", "/var/log",
                                              "/var/lib", "/run/resolvconf"};
    umask(022);
    setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
    setenv("HOME", "/root", 0);
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
        make_directories(directories[i]);
    chmod("/tmp", 01777);
    (void)!symlink("/run", "/var/run");
    leave_first_root();
    mount_system();
    open_console();
    struct rlimit files = {FILES_MAX, FILES_MAX};
    setrlimit(RLIMIT_NOFILE, &files);
    load_modules();
    network_start();
    set_host_name();
    if (access(RESOLVER, F_OK) < 0)
        write_file(RESOLVER, "");
}

void system_mount_volumes(void) {
    for (struct container *one = containers_of("volumes"); one; one = one->next) {
        char options[3 * PATH_SIZE + 64], path[PATH_SIZE + 16];
        const char *base = one->bundle;
        snprintf(path, sizeof path, "%s/tmp", base);
        if (!mount_with("tmpfs", path, "tmpfs", ""))
            continue;
        snprintf(path, sizeof path, "%s/tmp/upper", base);
        make_directories(path);
        snprintf(path, sizeof path, "%s/tmp/work", base);
        make_directories(path);
        snprintf(path, sizeof path, "%s/merged", base);
        snprintf(options, sizeof options, "lowerdir=%s/lower,upperdir=%s/tmp/upper,workdir=%s/tmp/work",
                 base, base, base);
        mount_with("overlay", path, "overlay", options);
    }
}

static int is_script(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

void system_run_scripts(const char *directory) {
    struct dirent **entries;
    int count = scandir(directory, &entries, is_script, alphasort);
    for (int i = 0; i < count; i++) {
        char path[PATH_SIZE];
        struct stat status;
        snprintf(path, sizeof path, "%s/%s", directory, entries[i]->d_name);
        free(entries[i]);
        if (stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0)
            program_run((char *[]){path, NULL}, -1);
    }
    if (count >= 0)
        free(entries);
}

_Noreturn void system_end(int how) {
    kill(-1, SIGTERM);
    for (int i = 0; i < 20; i++) { /* up to two seconds for those that are no containers */
        struct timespec pause = {0, 100000000};
        program_note_ends();
        if (kill(-1, 0) < 0)
            break;
        nanosleep(&pause, NULL);
    }
    kill(-1, SIGKILL);
    sync();
    reboot(how);
    for (;;)
        pause();
}
