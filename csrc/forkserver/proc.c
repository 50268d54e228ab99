/* What /proc says of this process, read without allocating. */
#include "forkserver.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A line of /proc/self/maps: "start-end rwxp offset device inode   /path". */
typedef bool matcher(const char *permissions, const char *path, const void *argument);

static bool match_line(const char *line, matcher *matches, const void *argument) {
    const char *permissions = strchr(line, ' '), *path = strchr(line, '/');
    return permissions && matches(permissions + 1, path ? path : "", argument);
}

static bool find_mapping(matcher *matches, const void *argument) {
    static char text[16 * 1024]; /* more than twice the longest path */
    size_t have = 0;
    bool found = false;
    int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    ssize_t got;
    while (!found && (got = read(maps, text + have, sizeof text - 1 - have)) > 0) {
        have += (size_t)got;
        text[have] = 0;
        char *line = text;
        for (char *end; !found && (end = strchr(line, '\n')); line = end + 1) {
            *end = 0;
            found = match_line(line, matches, argument);
        }
        have -= (size_t)(line - text);
        memmove(text, line, have);
    }
    close(maps);
    return found;
}

static bool is_shared(const char *permissions, const char *path, const void *argument) {
    struct reply *reply = (struct reply *)argument;
    if (permissions[1] != 'w' || permissions[3] != 's')
        return false;
    strncpy(reply->detail, path, sizeof reply->detail - 1);
    return true;
}

/* Whether no memory that can be written is shared: two guests in one memory is the end of both. */
bool mappings_private(struct reply *reply) {
    return !find_mapping(is_shared, reply) || problem(reply, SHARED_MEMORY, 0);
}

static bool is_private_file(const char *permissions, const char *path, const void *argument) {
    return permissions[3] == 'p' && strcmp(path, argument) == 0;
}

bool mapped_privately(const char *path) {
    return find_mapping(is_private_file, path);
}

struct entry { /* the kernel's linux_dirent64 */
    uint64_t inode;
    int64_t offset;
    uint16_t size;
    uint8_t type;
    char name[];
};

/* Calls visit for each name of a directory that is a number, until it returns false; false then, or
 * if the directory can't be read. */
bool each_number(int directory, visitor *visit, void *argument) {
    char buffer[2048] __attribute__((aligned(8)));
    long size;
    while ((size = syscall(SYS_getdents64, directory, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < size;) {
            const struct entry *e = (const void *)(buffer + at);
            at += e->size;
            if (e->name[0] >= '0' && e->name[0] <= '9' && !visit(atoi(e->name), e->name, argument))
                return false;
        }
    }
    return size == 0;
}
