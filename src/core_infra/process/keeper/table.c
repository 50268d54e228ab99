/* Both ways between pids and tags, in constant time: a thousand programs may run at once. */
#include "keeper.h"

#include <stdlib.h>

#define BUCKETS 4096

struct entry {
    struct entry *next_pid, *next_tag;
    pid_t pid;
    int channel;
    uint64_t tag;
};

static struct entry *by_pid[BUCKETS], *by_tag[BUCKETS];

void table_add(pid_t pid, uint64_t tag, int channel) {
    struct entry *e = malloc(sizeof *e);
    if (!e)
        abort(); /* better all programs end than that one is lost */
    *e = (struct entry){by_pid[pid % BUCKETS], by_tag[tag % BUCKETS], pid, channel, tag};
    by_pid[pid % BUCKETS] = by_tag[tag % BUCKETS] = e;
}

int table_remove(pid_t pid) {
    struct entry **at = &by_pid[pid % BUCKETS];
    while (*at && (*at)->pid != pid)
        at = &(*at)->next_pid;
    struct entry *e = *at;
    if (!e)
        return -1;
    *at = e->next_pid;
    for (at = &by_tag[e->tag % BUCKETS]; *at != e; at = &(*at)->next_tag)
        ;
    *at = e->next_tag;
    int channel = e->channel;
    free(e);
    return channel;
}

uint64_t table_tag(pid_t pid) {
    for (struct entry *e = by_pid[pid % BUCKETS]; e; e = e->next_pid)
        if (e->pid == pid)
            return e->tag;
    return 0;
}

pid_t table_pid(uint64_t tag) {
    for (struct entry *e = by_tag[tag % BUCKETS]; e; e = e->next_tag)
        if (e->tag == tag)
            return e->pid;
    return 0;
}
