/* One container: what runtime.json asks for, and the calls of the runtime. */
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define RUNTIME "/usr/bin/oci-runtime"
#define CGROUPS "/sys/fs/cgroup"
#define LOGS "/var/log"
#define STATE "/run/containers"

static int no_hidden(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

struct container *containers_of(const char *section) {
    char directory[PATH_SIZE];
    struct dirent **entries;
    struct container *first = NULL, **last = &first;
    snprintf(directory, sizeof directory, "/containers/%s", section);
    int count = scandir(directory, &entries, no_hidden, alphasort);
    for (int i = 0; i < count; i++) {
        struct container *new = calloc(1, sizeof *new);
        if (new) {
            snprintf(new->name, sizeof new->name, "%s", entries[i]->d_name);
            snprintf(new->bundle, sizeof new->bundle, "%s/%s", directory, entries[i]->d_name);
            *last = new;
            last = &new->next;
        }
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return first;
}

static void log_path(const struct container *c, char *path) {
    snprintf(path, PATH_SIZE, LOGS "/%s.log", c->name);
}

static off_t log_size(const struct container *c) {
    char path[PATH_SIZE];
    struct stat status;
    log_path(c, path);
    return stat(path, &status) == 0 ? status.st_size : 0;
}

static void show_log(const struct container *c, off_t from) {
    char path[PATH_SIZE], data[4096];
    off_t left = log_size(c) - from;
    log_path(c, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && left > 0) {
        ssize_t n = pread(fd, data, left < (off_t)sizeof data ? (size_t)left : sizeof data, from);
        if (n <= 0 || write(STDERR_FILENO, data, (size_t)n) < 0)
            break;
        left -= n;
        from += n;
    }
    if (fd >= 0)
        close(fd);
}

void container_show_log(const struct container *c) {
    show_log(c, 0);
}

static void give_interface(const struct json *entry, pid_t pid) {
    const char *name = json_text(entry, "name"), *kind = json_text(entry, "add");
    const struct json *in_root = json_get(entry, "createInRoot");
    int error = *kind ? network_add(name, kind, json_text(entry, "peer")) : 0;
    if (!error && !(in_root && in_root->kind == JSON_TRUE))
        error = network_move(name, pid);
    if (error)
        report("cannot give the interface %s to a container: %s", name, strerror(error));
}

/* Keeps a namespace of a container at a path. */
static void bind_namespaces(const struct json *paths, pid_t pid) {
    for (const struct json *one = paths ? paths->first : NULL; one; one = one->next) {
        if (one->kind != JSON_STRING || !*one->text)
            continue;
        char source[PATH_SIZE], above[PATH_SIZE];
        snprintf(source, sizeof source, "/proc/%d/ns/%s", (int)pid, one->key);
        snprintf(above, sizeof above, "%s", one->text);
        char *slash = strrchr(above, '/');
        if (slash && slash != above) {
            *slash = 0;
            make_directories(above);
        }
        int fd = open(one->text, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
        if (fd >= 0)
            close(fd);
        mount_with(source, one->text, "", "bind");
    }
}

static void prepare(struct container *c, const struct json *runtime) {
    char rootfs[PATH_SIZE + 8], target[PATH_SIZE];
    snprintf(rootfs, sizeof rootfs, "%s/rootfs", c->bundle);
    const struct json *list = json_get(runtime, "mounts");
    for (const struct json *one = list ? list->first : NULL; one; one = one->next) {
        if (!mount_entry(one, rootfs, target))
            continue;
        if (*json_text(one, "source") && c->mounts < (int)(sizeof c->mounted / sizeof *c->mounted))
            c->mounted[c->mounts++] = strdup(target);
    }
    list = json_get(runtime, "mkdir");
    for (const struct json *one = list ? list->first : NULL; one; one = one->next)
        if (one->kind == JSON_STRING) {
            bool absolute = *one->text == '/';
            snprintf(target, sizeof target, "%s%s%s", absolute ? "" : rootfs, absolute ? "" : "/",
                     one->text);
            make_directories(target);
        }
    list = json_get(runtime, "cgroups");
    for (const struct json *one = list ? list->first : NULL; one; one = one->next)
        if (one->kind == JSON_STRING) {
            snprintf(target, sizeof target, CGROUPS "/%s", one->text);
            make_directories(target);
        }
    c->prepared = true;
}

static int runtime(const char *command, const char *a, const char *b, int output) {
    char *argv[8] = {RUNTIME, (char *)command};
    int count = 2;
    if (a)
        argv[count++] = (char *)a;
    if (b)
        argv[count++] = (char *)b;
    return program_run(argv, output);
}

static pid_t create(const struct container *c, int output) {
    char file[PATH_SIZE], text[32] = "";
    snprintf(file, sizeof file, STATE "/%s.pid", c->name);
    char *const argv[] = {RUNTIME, "create", "--bundle", (char *)c->bundle, "--pid-file", file,
                          (char *)c->name, NULL};
    if (program_run(argv, output) != 0)
        return 0;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (read(fd, text, sizeof text - 1) < 0)
            *text = 0;
        close(fd);
    }
    return atoi(text);
}

bool container_start(struct container *c) {
    char path[PATH_SIZE + 16];
    snprintf(path, sizeof path, "%s/runtime.json", c->bundle);
    struct json *given = access(path, F_OK) == 0 ? json_read(path) : NULL;
    if (!c->prepared)
        prepare(c, given);
    make_directories(STATE);
    log_path(c, path);
    off_t before = log_size(c);
    int output = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    c->started = uptime();
    c->pid = create(c, output);
    if (c->pid) {
        const struct json *list = json_get(given, "interfaces");
        for (const struct json *one = list ? list->first : NULL; one; one = one->next)
            give_interface(one, c->pid);
        bind_namespaces(json_get(given, "bindNS"), c->pid);
        if (runtime("start", c->name, NULL, output) != 0) {
            runtime("delete", "--force", c->name, output);
            program_wait(c->pid);
            c->pid = 0;
        }
    }
    if (output >= 0)
        close(output);
    json_free(given);
    if (!c->pid) {
        report("cannot start %s:", c->name);
        show_log(c, before);
    }
    return c->pid != 0;
}

void container_end(struct container *c) {
    c->pid = 0;
    runtime("delete", "--force", c->name, -1);
}

void container_signal(struct container *c, const char *signal) {
    if (c->pid)
        runtime("kill", c->name, signal, -1);
}

void container_unmount(struct container *c) {
    while (c->mounts) {
        char *target = c->mounted[--c->mounts];
        umount2(target, MNT_DETACH);
        free(target);
    }
    c->prepared = false;
}
