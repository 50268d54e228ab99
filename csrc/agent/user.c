/* /etc/passwd and /etc/group. */
#include "agent.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIELDS = 7 };

/* A whole file as a string; to be freed. NULL if it cannot be read. */
static char *slurp(const char *path) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = fd >= 0 && fstat(fd, &st) == 0 ? malloc((size_t)st.st_size + 1) : NULL;
    if (text) {
        ssize_t n = read(fd, text, (size_t)st.st_size);
        text[n > 0 ? n : 0] = 0;
    }
    if (fd >= 0)
        close(fd);
    return text;
}

/* Cut the next line at its colons; absent fields are empty. False at the end. */
static bool next_line(char **rest, char *fields[FIELDS]) {
    char *line = strsep(rest, "\n");
    for (int i = 0; line && i < FIELDS; i++) {
        char *field = line && *line ? strsep(&line, ":") : NULL;
        fields[i] = field ? field : "";
        if (!line)
            line = "";
    }
    return line != NULL;
}

static bool to_id(const char *text, unsigned *id) {
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    *id = (unsigned)value;
    return *text >= '0' && *text <= '9' && !*end && value < UINT32_MAX;
}

static bool is_member(char *members, const char *name) {
    for (char *member; (member = strsep(&members, ","));)
        if (strcmp(member, name) == 0)
            return true;
    return false;
}

/* More groups than MAX_GROUPS are left out. */
static void find_groups(struct user *u) {
    char *text = slurp("/etc/group"), *rest = text, *fields[FIELDS];
    unsigned gid;
    u->groups[u->group_count++] = u->gid;
    while (rest && *u->name && u->group_count < MAX_GROUPS && next_line(&rest, fields))
        if (to_id(fields[2], &gid) && gid != u->gid && is_member(fields[3], u->name))
            u->groups[u->group_count++] = gid;
    free(text);
}

/* The line whose name is name, or whose uid is uid; the first one, as everywhere. */
static bool find_line(struct user *u, const char *name, bool by_uid, unsigned wanted) {
    char *fields[FIELDS], *rest = u->text = slurp("/etc/passwd");
    unsigned uid, gid;
    while (rest && next_line(&rest, fields)) {
        if (!to_id(fields[2], &uid) || !to_id(fields[3], &gid))
            continue;
        if (by_uid ? uid == wanted : strcmp(fields[0], name) == 0) {
            u->name = fields[0];
            u->home = *fields[5] ? fields[5] : "/";
            u->shell = *fields[6] ? fields[6] : "/bin/sh";
            u->uid = uid;
            u->gid = gid;
            return true;
        }
    }
    free(u->text);
    u->text = NULL;
    return false;
}

/* The group with a name or number: of a number, it need not be in the file. */
static bool find_group(const char *name, unsigned *gid) {
    char *text = slurp("/etc/group"), *rest = text, *fields[FIELDS];
    bool found = false;
    while (rest && !found && next_line(&rest, fields))
        found = strcmp(fields[0], name) == 0 && to_id(fields[2], gid);
    free(text);
    return found || to_id(name, gid);
}

/* NAME, UID, NAME:GROUP or UID:GID, as container runtimes have it. A number need not be that of a
 * user in the file; then its group is 0. */
bool user_find(const char *name, struct user *u) {
    char user[256];
    const char *group = strchr(name, ':');
    size_t length = group ? (size_t)(group - name) : strlen(name);
    unsigned uid;
    if (!*name) {
        if (!find_line(u, NULL, true, geteuid()))
            *u = (struct user){.name = geteuid() ? "" : "root", .home = "/", .shell = "/bin/sh"};
        return true;
    }
    if (length >= sizeof user)
        return false;
    memcpy(user, name, length);
    user[length] = '\0';
    if (!find_line(u, user, false, 0)) {
        if (!to_id(user, &uid))
            return false;
        if (!find_line(u, NULL, true, uid))
            *u = (struct user){.name = "", .home = "/", .shell = "/bin/sh", .uid = uid};
    }
    if (group && !find_group(group + 1, &u->gid)) {
        free(u->text);
        u->text = NULL;
        return false;
    }
    find_groups(u);
    return true;
}
