/* Interfaces: the machine's own, and those that containers get. */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define DHCP_SCRIPT "/usr/share/udhcpc/default.script"

void network_start(void) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo"};
    if (fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0) {
        request.ifr_flags |= IFF_UP;
        ioctl(fd, SIOCSIFFLAGS, &request);
    }
    if (fd >= 0)
        close(fd);
}

/* A file without a container for it (dhcpcd) leaves its network to us. */
void network_configure(void) {
    struct if_nameindex *all = if_nameindex();
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const char *chosen = NULL;
    bool has_address = false;
    for (struct if_nameindex *one = all; one && one->if_index; one++) {
        struct ifreq request = {0};
        snprintf(request.ifr_name, sizeof request.ifr_name, "%s", one->if_name);
        if (ioctl(fd, SIOCGIFFLAGS, &request) < 0 || request.ifr_flags & IFF_LOOPBACK)
            continue;
        if (!chosen && (strncmp(one->if_name, "eth", 3) == 0 || strncmp(one->if_name, "en", 2) == 0))
            chosen = one->if_name;
        has_address |= ioctl(fd, SIOCGIFADDR, &request) == 0;
    }
    if (chosen && !has_address) {
        program_run((char *[]){"/usr/bin/ifconfig", (char *)chosen, "up", NULL}, -1);
        if (program_run((char *[]){"/usr/bin/udhcpc", "-i", (char *)chosen, "-n", "-q", "-f", "-t", "5",
                                   "-T", "1", "-s", DHCP_SCRIPT, NULL}, open("/dev/null", O_WRONLY | O_CLOEXEC)) != 0)
            report("no address came for %s by DHCP", chosen);
    }
    if_freenameindex(all);
    close(fd);
}

/* A message to the kernel's part for interfaces: a header, and attributes that may have attributes.
 * busybox's ip knows no peers. */
struct request {
    struct nlmsghdr header;
    struct ifinfomsg link;
    char attributes[512];
};

static void *end_of(struct request *r) {
    return (char *)r + NLMSG_ALIGN(r->header.nlmsg_len);
}

static struct rtattr *open_attribute(struct request *r, unsigned short type) {
    struct rtattr *new = end_of(r);
    new->rta_type = type;
    new->rta_len = RTA_LENGTH(0);
    r->header.nlmsg_len = (unsigned)((char *)new - (char *)r) + RTA_LENGTH(0);
    return new;
}

static void close_attribute(struct request *r, struct rtattr *open) {
    r->header.nlmsg_len = NLMSG_ALIGN(r->header.nlmsg_len); /* its last attribute is padded */
    open->rta_len = (unsigned short)((char *)end_of(r) - (char *)open);
}

static void add(struct request *r, unsigned short type, const void *data, size_t size) {
    struct rtattr *new = open_attribute(r, type);
    memcpy(RTA_DATA(new), data, size);
    new->rta_len = (unsigned short)RTA_LENGTH(size);
    r->header.nlmsg_len += (unsigned)size;
}

static void add_text(struct request *r, unsigned short type, const char *text) {
    char name[IFNAMSIZ]; /* of an interface, and of a kind of them */
    snprintf(name, sizeof name, "%s", text);
    add(r, type, name, strlen(name) + 1);
}

static int ask(struct request *r) {
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        char more[512];
    } answer;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), error = EIO;
    if (fd < 0 || send(fd, r, r->header.nlmsg_len, 0) < 0)
        error = errno;
    else if (recv(fd, &answer, sizeof answer, 0) >= (ssize_t)NLMSG_LENGTH(sizeof(int)))
        error = -answer.error.error;
    if (fd >= 0)
        close(fd);
    return error;
}

static struct request new_request(unsigned short flags) {
    return (struct request){
        .header = {NLMSG_LENGTH(sizeof(struct ifinfomsg)), RTM_NEWLINK,
                   NLM_F_REQUEST | NLM_F_ACK | flags, 1, 0},
        .link = {.ifi_family = AF_UNSPEC},
    };
}

int network_add(const char *name, const char *kind, const char *peer) {
    struct request r = new_request(NLM_F_CREATE | NLM_F_EXCL);
    add_text(&r, IFLA_IFNAME, name);
    struct rtattr *info = open_attribute(&r, IFLA_LINKINFO);
    add_text(&r, IFLA_INFO_KIND, kind);
    if (*peer) {
        struct rtattr *data = open_attribute(&r, IFLA_INFO_DATA);
        struct rtattr *other = open_attribute(&r, VETH_INFO_PEER);
        memset(end_of(&r), 0, sizeof(struct ifinfomsg));
        r.header.nlmsg_len += sizeof(struct ifinfomsg);
        add_text(&r, IFLA_IFNAME, peer);
        close_attribute(&r, other);
        close_attribute(&r, data);
    }
    close_attribute(&r, info);
    return ask(&r);
}

int network_move(const char *name, pid_t pid) {
    struct request r = new_request(0);
    unsigned number = (unsigned)pid;
    add_text(&r, IFLA_IFNAME, name);
    add(&r, IFLA_NET_NS_PID, &number, sizeof number);
    return ask(&r);
}
