/* What of our memory is shared with others. */
#include "forkserver.h"

#include <fcntl.h>
#include <string.h>
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
