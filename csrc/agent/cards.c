/* The machine's cards on the networks of its run: hardware addresses, IP addresses, the way out.
 *
 * A card is known by the hardware address that it was made with, whose last byte is its number,
 * whatever the guest calls it and whatever address it has been given since. What a former request
 * has set, and this one does not, is removed: a clone may be on another network than the machine
 * that was saved.
 */
#include "agent.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_CARDS = 8, IPV4 = 4, IPV6 = 16, ANSWER = 4096 };

struct address {
    uint8_t family, size, prefix;
    uint8_t bytes[IPV6];
};

static struct {
    int index;                 /* the kernel's; 0: not found yet */
    struct address set[2];     /* IPv4 and IPv6; size 0: none */
} cards[MAX_CARDS];

static const uint8_t made_with[] = {0x02, 0xca, 0xfe, 0, 0}; /* then its number */

static const uint8_t nothing[IPV6];

static int ioctls = -1, netlink = -1;

static bool open_sockets(void) {
    if (ioctls < 0)
        ioctls = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (netlink < 0)
        netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    return ioctls >= 0 && netlink >= 0;
}

static void find_cards(void) {
    struct if_nameindex *all = if_nameindex();
    for (struct if_nameindex *one = all; one && one->if_index; one++) {
        uint32_t made[4] = {ETHTOOL_GPERMADDR, MAC}; /* struct ethtool_perm_addr, and its data */
        const uint8_t *mac = (const uint8_t *)&made[2];
        struct ifreq request = {.ifr_data = (void *)made};
        strncpy(request.ifr_name, one->if_name, IFNAMSIZ - 1);
        if (ioctl(ioctls, SIOCETHTOOL, &request) == 0 && made[1] == MAC &&
            memcmp(mac, made_with, sizeof made_with) == 0 && mac[MAC - 1] < MAX_CARDS)
            cards[mac[MAC - 1]].index = (int)one->if_index;
    }
    if_freenameindex(all);
}

static bool name_of(size_t card, struct ifreq *request) {
    *request = (struct ifreq){.ifr_ifindex = cards[card].index};
    if (cards[card].index && ioctl(ioctls, SIOCGIFNAME, request) == 0)
        return true;
    find_cards();
    *request = (struct ifreq){.ifr_ifindex = cards[card].index};
    errno = ENODEV;
    return cards[card].index && ioctl(ioctls, SIOCGIFNAME, request) == 0;
}

struct message {
    struct nlmsghdr header;
    union {
        struct ifaddrmsg address;
        struct rtmsg route;
    } about;
    uint8_t room[128];
};

static void put(struct message *m, unsigned short type, const void *data, unsigned short size) {
    struct rtattr *a = (struct rtattr *)((uint8_t *)m + NLMSG_ALIGN(m->header.nlmsg_len));
    *a = (struct rtattr){(unsigned short)RTA_LENGTH(size), type};
    memcpy(RTA_DATA(a), data, size);
    m->header.nlmsg_len = NLMSG_ALIGN(m->header.nlmsg_len) + RTA_LENGTH(size);
}

/* Send a message and wait for its answer; false sets errno. */
static bool ask(struct message *m) {
    static uint8_t answer[ANSWER] __attribute__((aligned(8)));
    const struct nlmsghdr *header = (struct nlmsghdr *)answer;
    m->header.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
    if (send(netlink, m, m->header.nlmsg_len, 0) < 0 || recv(netlink, answer, sizeof answer, 0) < 0)
        return false;
    if (header->nlmsg_type != NLMSG_ERROR)
        return true;
    errno = -((const struct nlmsgerr *)NLMSG_DATA(header))->error;
    return errno == 0;
}

/* An IPv6 address needs no probe for others that have it: none has. */
static bool change_address(size_t card, const struct address *a, unsigned short type) {
    struct message m = {
        .header = {.nlmsg_len = NLMSG_LENGTH(sizeof m.about.address), .nlmsg_type = type},
        .about.address = {
            .ifa_family = a->family,
            .ifa_prefixlen = a->prefix,
            .ifa_flags = a->family == AF_INET6 ? IFA_F_NODAD : 0,
            .ifa_index = (unsigned)cards[card].index,
        },
    };
    if (type == RTM_NEWADDR)
        m.header.nlmsg_flags = NLM_F_CREATE | NLM_F_REPLACE;
    put(&m, IFA_LOCAL, a->bytes, a->size);
    put(&m, IFA_ADDRESS, a->bytes, a->size);
    if (a->family == AF_INET && type == RTM_NEWADDR) {
        uint8_t broadcast[IPV4];
        for (unsigned i = 0; i < IPV4 * 8; i++) {
            uint8_t bit = (uint8_t)(0x80 >> i % 8);
            if (i % 8 == 0)
                broadcast[i / 8] = a->bytes[i / 8];
            if (i >= a->prefix)
                broadcast[i / 8] |= bit;
        }
        put(&m, IFA_BROADCAST, broadcast, sizeof broadcast);
    }
    return ask(&m);
}

static bool set_route(size_t card, const uint8_t *gateway) {
    struct message m = {
        .header = {
            .nlmsg_len = NLMSG_LENGTH(sizeof m.about.route),
            .nlmsg_type = RTM_NEWROUTE,
            .nlmsg_flags = NLM_F_CREATE | NLM_F_REPLACE,
        },
        .about.route = {
            .rtm_family = AF_INET,
            .rtm_table = RT_TABLE_MAIN,
            .rtm_protocol = RTPROT_STATIC,
            .rtm_scope = RT_SCOPE_UNIVERSE,
            .rtm_type = RTN_UNICAST,
        },
    };
    if (memcmp(gateway, nothing, IPV4) == 0)
        return true;
    put(&m, RTA_GATEWAY, gateway, IPV4);
    put(&m, RTA_OIF, &cards[card].index, sizeof cards[card].index);
    return ask(&m);
}

/* A guest without IPv6 has IPv4 alone. */
static bool replace_address(size_t card, struct address *former, const struct address *a) {
    if (former->size && memcmp(former, a, sizeof *a) != 0)
        change_address(card, former, RTM_DELADDR);
    *former = (struct address){0};
    if (a->size && !change_address(card, a, RTM_NEWADDR))
        return a->family == AF_INET6;
    *former = *a;
    return true;
}

/* fe80::/64 with the hardware address (modified EUI-64). */
static struct address link_local(const uint8_t *mac) {
    return (struct address){
        .family = AF_INET6,
        .size = IPV6,
        .prefix = 64,
        .bytes = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3],
                  mac[4], mac[5]},
    };
}

/* The kernel makes a link-local address when a card comes up. One that is up keeps it, so it is
 * replaced: to bring the card down and up would take a clone several milliseconds. The new one comes
 * first: with the last one, the kernel would remove the route and the groups, and make them again. */
static bool set_mac(size_t card, const struct ifreq *named, const uint8_t *mac, bool up) {
    struct ifreq request = *named;
    struct address former, fresh = link_local(mac);
    if (ioctl(ioctls, SIOCGIFHWADDR, &request) < 0)
        return false;
    if (memcmp(request.ifr_hwaddr.sa_data, mac, MAC) == 0)
        return true;
    former = link_local((const uint8_t *)request.ifr_hwaddr.sa_data);
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(request.ifr_hwaddr.sa_data, mac, MAC);
    if (ioctl(ioctls, SIOCSIFHWADDR, &request) < 0)
        return false;
    if (up && change_address(card, &fresh, RTM_NEWADDR) &&
        !change_address(card, &former, RTM_DELADDR))
        change_address(card, &fresh, RTM_DELADDR); /* the guest makes its addresses otherwise */
    return true;
}

static bool set_card(size_t card, const uint8_t *mac, const struct address *both,
                     const uint8_t *gateway) {
    struct ifreq named, flags;
    bool removed = memcmp(mac, nothing, MAC) == 0;
    if (!name_of(card, &named))
        return false;
    flags = named;
    if (ioctl(ioctls, SIOCGIFFLAGS, &flags) < 0 ||
        (!removed && !set_mac(card, &named, mac, flags.ifr_flags & IFF_UP)))
        return false;
    if (!(flags.ifr_flags & IFF_UP)) {
        flags.ifr_flags |= IFF_UP;
        if (ioctl(ioctls, SIOCSIFFLAGS, &flags) < 0)
            return false;
    }
    static const struct address none;
    return replace_address(card, &cards[card].set[0], removed ? &none : &both[0]) &&
           replace_address(card, &cards[card].set[1], removed ? &none : &both[1]) &&
           set_route(card, gateway);
}

static const uint8_t *take(struct cursor *c, size_t size) {
    if (c->bad || (size_t)(c->end - c->at) < size) {
        c->bad = true;
        return nothing;
    }
    c->at += size;
    return c->at - size;
}

static struct address take_address(struct cursor *c, uint8_t family, uint8_t size) {
    struct address a = {.family = family, .size = size};
    memcpy(a.bytes, take(c, size), size);
    a.prefix = *take(c, 1);
    c->bad |= a.prefix > size * 8;
    return a;
}

static struct setup {
    uint32_t card;
    uint8_t mac[MAC], gateway[IPV4];
    struct address both[2];
} taken[MAX_CARDS];
static uint32_t taken_count;
static struct text lines; /* for /etc/hosts */

/* The payload: the number of cards; for each its number, MAC, IPv4 and IPv6 address, each with the
 * length of its prefix, and an IPv4 gateway, zeros for none; then lines for /etc/hosts. With zeros
 * for its MAC, a card loses its IP addresses. */
problem cards_take(struct cursor *c) {
    uint32_t count = take_u32(c);
    for (taken_count = 0; taken_count < count && !c->bad; taken_count++) {
        struct setup *s = &taken[taken_count % MAX_CARDS];
        s->card = take_u32(c);
        memcpy(s->mac, take(c, MAC), MAC);
        s->both[0] = take_address(c, AF_INET, IPV4);
        s->both[1] = take_address(c, AF_INET6, IPV6);
        memcpy(s->gateway, take(c, IPV4), IPV4);
        c->bad |= s->card >= MAX_CARDS || taken_count >= MAX_CARDS;
    }
    lines = take_text(c);
    return c->bad || c->at != c->end ? "bad addresses of cards" : NULL;
}

const char *cards_set(void) {
    bool good = open_sockets();
    for (uint32_t i = 0; i < taken_count && good; i++)
        good = set_card(taken[i].card, taken[i].mac, taken[i].both, taken[i].gateway);
    return good ? hosts_set(lines) : error_of("a network card");
}
