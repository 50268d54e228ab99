/* Mounts, with options as mount(8) takes them. */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *name;
    unsigned long set, clear;
} flags[] = {
    {"ro", MS_RDONLY, 0}, {"rw", 0, MS_RDONLY},
    {"nosuid", MS_NOSUID, 0}, {"suid", 0, MS_NOSUID},
    {"nodev", MS_NODEV, 0}, {"dev", 0, MS_NODEV},
    {"noexec", MS_NOEXEC, 0}, {"exec", 0, MS_NOEXEC},
    {"sync", MS_SYNCHRONOUS, 0}, {"async", 0, MS_SYNCHRONOUS},
    {"dirsync", MS_DIRSYNC, 0}, {"remount", MS_REMOUNT, 0},
    {"mand", MS_MANDLOCK, 0}, {"nomand", 0, MS_MANDLOCK},
    {"atime", 0, MS_NOATIME}, {"noatime", MS_NOATIME, 0},
    {"diratime", 0, MS_NODIRATIME}, {"nodiratime", MS_NODIRATIME, 0},
    {"relatime", MS_RELATIME, 0}, {"norelatime", 0, MS_RELATIME},
    {"strictatime", MS_STRICTATIME, 0}, {"nostrictatime", 0, MS_STRICTATIME},
    {"bind", MS_BIND, 0}, {"rbind", MS_BIND | MS_REC, 0}, {"defaults", 0, 0},
}, propagation[] = {
    {"private", MS_PRIVATE, 0}, {"rprivate", MS_PRIVATE | MS_REC, 0},
    {"shared", MS_SHARED, 0}, {"rshared", MS_SHARED | MS_REC, 0},
    {"slave", MS_SLAVE, 0}, {"rslave", MS_SLAVE | MS_REC, 0},
    {"unbindable", MS_UNBINDABLE, 0}, {"runbindable", MS_UNBINDABLE | MS_REC, 0},
};

bool make_directories(const char *path) {
    char part[PATH_SIZE];
    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part)
        return false;
    for (char *at = part + 1; *at; at++)
        if (*at == '/') {
            *at = 0;
            mkdir(part, 0755);
            *at = '/';
        }
    if (mkdir(part, 0755) == 0 || errno == EEXIST)
        return true;
    report("cannot make the directory %s: %s", path, strerror(errno));
    return false;
}

static bool add_flag(const char *name, unsigned long *set, unsigned long *spread) {
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (strcmp(flags[i].name, name) == 0) {
            *set = (*set | flags[i].set) & ~flags[i].clear;
            return true;
        }
    for (size_t i = 0; i < sizeof propagation / sizeof *propagation; i++)
        if (strcmp(propagation[i].name, name) == 0) {
            *spread = propagation[i].set;
            return true;
        }
    return false;
}

bool mount_with(const char *source, const char *target, const char *type, const char *options) {
    unsigned long set = 0, spread = 0;
    char words[PATH_SIZE], data[PATH_SIZE] = "", *rest = words, *word;
    if (snprintf(words, sizeof words, "%s", options) >= (int)sizeof words)
        return false;
    while ((word = strsep(&rest, ",")))
        if (*word && !add_flag(word, &set, &spread)) {
            if (*data)
                strcat(data, ",");
            strcat(data, word); /* data is as long as all words */
        }
    bool changes_only = !*type && (!set || set == MS_REMOUNT) && spread;
    if (!changes_only && mount(source, target, type, set, data) < 0) {
        report("cannot mount %s at %s: %s", *source ? source : type, target, strerror(errno));
        return false;
    }
    /* A bind ignores all flags but its own: they are set by a remount. */
    if ((set & MS_BIND) && !(set & MS_REMOUNT) && (set & ~(MS_BIND | MS_REC)) &&
        mount(NULL, target, NULL, (set | MS_REMOUNT) & ~MS_REC, data) < 0)
        report("cannot change the mount at %s: %s", target, strerror(errno));
    if (spread && mount(NULL, target, NULL, spread, NULL) < 0)
        report("cannot change the propagation of %s: %s", target, strerror(errno));
    return true;
}

/* An overlay's own directories are in the memory that was mounted just before. */
static void make_overlay(const char *options) {
    char words[PATH_SIZE], *rest = words, *word;
    snprintf(words, sizeof words, "%s", options);
    while ((word = strsep(&rest, ",")))
        if (strncmp(word, "upperdir=", 9) == 0 || strncmp(word, "workdir=", 8) == 0)
            make_directories(strchr(word, '=') + 1);
}

/* A file can only be bound to a file. */
static bool make_target(const char *source, const char *target) {
    struct stat status;
    if (*source != '/' || stat(source, &status) < 0 || S_ISDIR(status.st_mode))
        return make_directories(target);
    if (access(target, F_OK) == 0)
        return true;
    char above[PATH_SIZE];
    snprintf(above, sizeof above, "%s", target);
    *strrchr(above, '/') = 0;
    int fd = !*above || make_directories(above) ? creat(target, 0644) : -1;
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

bool mount_entry(const struct json *entry, const char *rootfs, char *target) {
    const char *destination = json_text(entry, "destination"), *type = json_text(entry, "type");
    char options[PATH_SIZE] = "";
    const struct json *list = json_get(entry, "options");
    for (const struct json *one = list ? list->first : NULL; one; one = one->next)
        if (one->kind == JSON_STRING &&
            strlen(options) + strlen(one->text) + 2 < sizeof options)
            strcat(strcat(options, *options ? "," : ""), one->text);
    if (snprintf(target, PATH_SIZE, "%s%s%s", *destination == '/' ? "" : rootfs,
                 *destination == '/' ? "" : "/", destination) >= PATH_SIZE)
        return false;
    if (!make_target(json_text(entry, "source"), target))
        return false;
    if (strcmp(type, "overlay") == 0)
        make_overlay(options);
    return mount_with(json_text(entry, "source"), target, type, options);
}
