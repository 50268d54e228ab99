/* The names of the other machines on a machine's networks, in /etc/hosts, between two lines that
 * mark what is ours. */
#include "agent.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_HOSTS = 64 * 1024 };

static const char first[] = "# core-infra: machines of its networks\n";
static const char last[] = "# core-infra: end\n";
static char content[2 * MAX_HOSTS];

/* Not O_TRUNC: most often the new content is as long as the old one. */
const char *write_over(const char *path, const char *bytes, size_t length) {
    struct stat old;
    ssize_t size = (ssize_t)length;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    bool good = fd >= 0 && write(fd, bytes, length) == size && fstat(fd, &old) == 0 &&
                (old.st_size == size || ftruncate(fd, size) == 0);
    const char *error = good ? NULL : error_of(path);
    if (fd >= 0)
        close(fd);
    return error;
}

const char *hosts_set(struct text lines) {
    int fd = open("/etc/hosts", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, content, MAX_HOSTS) : 0;
    if (fd >= 0)
        close(fd);
    if (n < 0 || n == MAX_HOSTS || lines.length > MAX_HOSTS / 2)
        return NULL; /* a file of that size is left as it is */
    content[n] = 0;
    char *ours = strstr(content, first), *end = ours ? strstr(ours, last) : NULL;
    size_t length = (size_t)n;
    if (end) {
        end += sizeof last - 1;
        memmove(ours, end, (size_t)(content + n + 1 - end));
        length -= (size_t)(end - ours);
    }
    char *to = content + length;
    if (length && to[-1] != '\n')
        *to++ = '\n';
    if (lines.length) {
        to = stpcpy(to, first);
        to = mempcpy(to, lines.bytes, lines.length);
        to = stpcpy(to, last);
    }
    return write_over("/etc/hosts", content, (size_t)(to - content));
}
