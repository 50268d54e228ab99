/* What the content of a changed file shows: the last lines of a log, and that the interpreter of a
 * program is missing. The shell reports the latter as "not found", of a file that is there. */
#include "agent.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_LOGS = 16, TAIL = 4096, HEAD = 4096 };

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* The name servers are shown, too: their file is short, and the cause of much. */
static bool is_shown(const char *path) {
    return strcmp(path, "/etc/resolv.conf") == 0 || strncmp(path, "/var/log/", 9) == 0 ||
           ends_with(path, ".log") || ends_with(path, ".err") || ends_with(path, ".out");
}

static ssize_t piece(const char *path, char *buffer, size_t size, off_t from) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    ssize_t n = fd >= 0 ? pread(fd, buffer, size, from) : -1;
    if (fd >= 0)
        close(fd);
    return n;
}

static void log_tail(const char *path, off_t size) {
    static int logs;
    static char text[TAIL];
    off_t from = size > TAIL ? size - TAIL : 0;
    ssize_t n = logs < MOST_LOGS ? piece(path, text, sizeof text, from) : 0;
    if (n <= 0 || memchr(text, 0, (size_t)n)) /* of no text, or binary */
        return;
    logs++;
    fputs("G\t", stdout);
    fwrite(text, 1, (size_t)n, stdout);
    putchar(0);
}

/* The program after "#!", which ends at a blank. */
static char *of_script(char *head) {
    char *name = head + 2 + strspn(head + 2, " \t");
    name[strcspn(name, " \t\n")] = 0; /* a "\r" of a file from Windows belongs to it */
    return name;
}

/* The dynamic linker of a program of 64 bits. */
static char *of_program(char *head, size_t size) {
    Elf64_Ehdr elf;
    memcpy(&elf, head, sizeof elf);
    for (int i = 0; elf.e_ident[EI_CLASS] == ELFCLASS64 && i < elf.e_phnum; i++) {
        Elf64_Phdr part;
        size_t at = elf.e_phoff + (size_t)i * sizeof part;
        if (at < elf.e_phoff || at + sizeof part > size)
            break;
        memcpy(&part, head + at, sizeof part);
        if (part.p_type == PT_INTERP && part.p_offset < size)
            return head + part.p_offset;
    }
    return NULL;
}

static void interpreter(const char *path) {
    static char head[HEAD + 1];
    ssize_t n = piece(path, head, HEAD, 0);
    head[n > 0 ? n : 0] = 0;
    char *name = NULL;
    if (n > 2 && memcmp(head, "#!", 2) == 0)
        name = of_script(head);
    else if (n > (ssize_t)sizeof(Elf64_Ehdr) && memcmp(head, ELFMAG, SELFMAG) == 0)
        name = of_program(head, (size_t)n);
    if (name && *name == '/' && access(name, F_OK) < 0) {
        printf("I\t%s", name);
        putchar(0);
    }
}

void survey_content(const char *path, const struct stat *s) {
    if (is_shown(path))
        log_tail(path, s->st_size);
    if (s->st_mode & 0111)
        interpreter(path);
}
