/* Finds programs by pid and by tag in constant time: a thousand may run at once. */
#include "reaper.h"

#include <stdlib.h>

#define BUCKETS 4096

struct entry {
    struct program program; /* first: a pointer to it is a pointer to the entry */
    struct entry *next_pid, *next_tag, *next_unreported;
};

static struct entry *by_pid[BUCKETS], *by_tag[BUCKETS];
static struct entry *unreported; /* in the order of starts; those of the last moment, so few */

void table_add(struct program p) {
    struct entry *e = malloc(sizeof *e);
    if (!e)
        abort(); /* all programs end: better than to lose track of one */
    *e = (struct entry){p, by_pid[p.pid % BUCKETS], by_tag[p.tag % BUCKETS], NULL};
    by_pid[p.pid % BUCKETS] = by_tag[p.tag % BUCKETS] = e;
    if (p.report_due) {
        struct entry **at = &unreported;
        while (*at)
            at = &(*at)->next_unreported;
        *at = e;
    }
}

struct program *table_program(pid_t pid) {
    for (struct entry *e = by_pid[pid % BUCKETS]; e; e = e->next_pid)
        if (e->program.pid == pid)
            return &e->program;
    return NULL;
}

void table_remove(struct program *p) {
    struct entry *e = (struct entry *)p, **at;
    table_mark_reported(p);
    for (at = &by_pid[p->pid % BUCKETS]; *at != e; at = &(*at)->next_pid)
        ;
    *at = e->next_pid;
    for (at = &by_tag[p->tag % BUCKETS]; *at != e; at = &(*at)->next_tag)
        ;
    *at = e->next_tag;
    free(e);
}

uint64_t table_tag(pid_t pid) {
    struct program *p = table_program(pid);
    return p ? p->tag : 0;
}

pid_t table_pid(uint64_t tag) {
    for (struct entry *e = by_tag[tag % BUCKETS]; e; e = e->next_tag)
        if (e->program.tag == tag)
            return e->program.pid;
    return 0;
}

static struct program *first_from(unsigned bucket) {
    for (; bucket < BUCKETS; bucket++)
        if (by_pid[bucket])
            return &by_pid[bucket]->program;
    return NULL;
}

struct program *table_next(const struct program *p) {
    if (!p)
        return first_from(0);
    const struct entry *e = (const struct entry *)p;
    return e->next_pid ? &e->next_pid->program : first_from(p->pid % BUCKETS + 1);
}

struct program *table_unreported(void) {
    return unreported ? &unreported->program : NULL;
}

void table_mark_reported(struct program *p) {
    if (!p->report_due)
        return;
    p->report_due = 0;
    struct entry **at = &unreported;
    while (*at != (struct entry *)p)
        at = &(*at)->next_unreported;
    *at = (*at)->next_unreported;
}
