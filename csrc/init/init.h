/* The first process of a LinuxKit machine whose file names no init: it mounts what a system has,
 * runs the containers that the image has below /containers, and keeps the services running.
 *
 * docs/linuxkit.md describes what it does for a user. A container is an OCI bundle, which a runtime
 * of the host's packages starts (/usr/bin/oci-runtime); runtime.json beside its config.json says what
 * has to be prepared. The files, lowest first; each uses only what is declared above its own part:
 *
 *   json.c        parses runtime.json
 *   program.c     starts programs and waits for them; reports on the console
 *   mounts.c      mounts, as mount options and runtime.json describe them
 *   network.c     interfaces
 *   container.c   one container: prepare, start, end
 *   system.c      the machine itself, before containers and after them
 *   main.c        the order of all, and the services
 */
#ifndef INIT_H
#define INIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { PATH_SIZE = 4096 };

/* json.c */
struct json {
    enum { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_LIST, JSON_OBJECT } kind;
    char *key;                            /* in an object; otherwise NULL */
    char *text;                           /* of a string or a number */
    struct json *first, *next;            /* of a list or an object: its values; the next beside it */
};
struct json *json_read(const char *path); /* NULL: it cannot be read, which is reported */
const struct json *json_get(const struct json *object, const char *key);
const char *json_text(const struct json *object, const char *key); /* "" if it is not a string */
void json_free(struct json *value);

/* program.c */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));
pid_t program_start(char *const argv[], int output); /* output: a descriptor; -1: the console */
int program_wait(pid_t pid);              /* its exit status; other children are noted meanwhile */
int program_run(char *const argv[], int output);
bool program_took_end(pid_t pid, int *status); /* whether a child has ended that nobody waited for */
void program_note_ends(void);             /* reap what has ended */

/* mounts.c */
bool make_directories(const char *path);
bool mount_with(const char *source, const char *target, const char *type, const char *options);
bool mount_entry(const struct json *entry, const char *rootfs, char *target);

/* network.c */
void network_start(void);                 /* the loopback interface */
void network_configure(void);             /* the first other one, if nothing else has done it */
int network_add(const char *name, const char *kind, const char *peer); /* errno; peer: or "" */
int network_move(const char *name, pid_t pid); /* into the namespace of a process */

/* container.c */
struct container {
    struct container *next;
    char name[256];
    char bundle[PATH_SIZE];
    pid_t pid;                            /* of its first process; 0: it does not run */
    int failures;                         /* in a row, each soon after a start */
    long started, due;                    /* seconds since the boot */
    char *mounted[64];                    /* what was mounted for it */
    int mounts;
    bool prepared;
};
struct container *containers_of(const char *section); /* in the order of their names */
bool container_start(struct container *c);
void container_end(struct container *c);  /* after its process has ended */
void container_signal(struct container *c, const char *signal);
void container_unmount(struct container *c);
void container_show_log(const struct container *c);

/* system.c */
void system_start(void);
void system_mount_volumes(void);
void system_run_scripts(const char *directory);
_Noreturn void system_end(int how);       /* a command for reboot() */
long uptime(void);

#endif
