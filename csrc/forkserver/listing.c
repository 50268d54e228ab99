/* Reads a directory whose names are numbers, as /proc has them, without allocating. */
#include "forkserver.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

struct entry { /* the kernel's linux_dirent64 */
    uint64_t inode;
    int64_t offset;
    uint16_t size;
    uint8_t type;
    char name[];
};

/* Calls visit for each number until it returns false; false then, or if the directory can't be
 * read. */
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
