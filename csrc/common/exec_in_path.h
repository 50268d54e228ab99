/* The search for a program in PATH, of the agent and of the reaper. */
#pragma once

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether execve() would not find the file; that makes the new memory before it looks. */
static inline bool is_absent(const char *file) {
    struct stat st;
    return stat(file, &st) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

/* Becomes the program argv[0]: a path if it has a slash, else a name in the directories of path.
 * Returns only if that fails, with the errno that says most. Allocates nothing: the caller may be
 * the child of vfork(). */
static inline void exec_in_path(const char *path, char **argv, char **envp) {
    if (strchr(argv[0], '/')) {
        execve(argv[0], argv, envp);
        return;
    }
    char file[PATH_MAX];
    size_t name = strlen(argv[0]);
    int error = ENOENT;
    for (const char *at = path; name && at; at = *at ? at + 1 : NULL) {
        size_t n = strcspn(at, ":");
        if (n + name + 2 <= sizeof file) {
            memcpy(file, at, n);
            file[n] = '/';
            memcpy(file + n + (n > 0), argv[0], name + 1);
            if (!is_absent(file) && execve(file, argv, envp) < 0 && errno != ENOENT)
                error = errno;
            if (error != ENOENT && error != EACCES)
                break;
        }
        at += n;
    }
    errno = error;
}
