/* The network cards of a clone: a hardware address of their own, and its announcement.
 *
 * A peer of the saved machine knows its former address, QEMU's user network for one,
 * and would send there until that is forgotten, up to a minute. The kernel itself announces the
 * new one (gratuitous ARP, unsolicited neighbour advertisement) of all that is on the card, bridges
 * too, where the settings arp_notify and ndisc_notify are on; so they are, for that moment.
 *
 * A card whose IPv4 address is leased keeps its hardware address: DHCP clients take another one for
 * another card and ask again, and the server in QEMU would give them another IPv4 address than the
 * one that its forwarded ports lead to.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_CARDS = 16, MAX_DERIVED = 32, IPV6 = 16, BUFFER = 16 * 1024 };

static struct card {
    char name[IFNAMSIZ];
    int index;
    uint8_t mac[MAC];
    bool up, leased;
} cards[MAX_CARDS];
static size_t card_count;

/* The IPv6 addresses that are made of a card's hardware address. */
static struct derived {
    const struct card *card;
    struct ifaddrmsg about;
    uint8_t address[IPV6];
    struct ifa_cacheinfo life;
} derived[MAX_DERIVED];
static size_t derived_count;

static const char *const settings[] = {
    "/proc/sys/net/ipv4/conf/%s/arp_notify",
    "/proc/sys/net/ipv6/conf/%s/ndisc_notify",
};
enum { SETTINGS = sizeof settings / sizeof *settings };
static int switches[SETTINGS] = {-1, -1}; /* open where we have switched the setting on, for all */

static int network = -1, netlink = -1;

static int open_setting(const char *setting, const char *whose) {
    char path[128];
    snprintf(path, sizeof path, setting, whose);
    return open(path, O_RDWR | O_CLOEXEC);
}

/* Distributions call them eth0, enp0s2, ens3, …: they are devices, and have QEMU's prefix. What is
 * made of them (bridges, VLANs) may have the prefix, too, and follows them by itself. */
static bool is_device(const char *name, struct ifreq *request) {
    char path[64 + IFNAMSIZ];
    snprintf(path, sizeof path, "/sys/class/net/%s/device", name);
    strncpy(request->ifr_name, name, IFNAMSIZ - 1);
    return access(path, F_OK) == 0 && ioctl(network, SIOCGIFHWADDR, request) == 0 &&
           request->ifr_hwaddr.sa_family == ARPHRD_ETHER;
}

static bool has_prefix(const struct ifreq *request) {
    static const uint8_t prefix[] = {0x52, 0x54, 0x00};
    return memcmp(request->ifr_hwaddr.sa_data, prefix, sizeof prefix) == 0;
}

static bool was_known(const struct card *known, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(known[i].name, name) == 0)
            return true;
    return false;
}

/* A card stays one, whatever address it has been given since. */
static void find_cards(void) {
    struct card known[MAX_CARDS];
    size_t known_count = card_count;
    struct if_nameindex *all = if_nameindex();
    memcpy(known, cards, sizeof known);
    card_count = 0;
    for (struct if_nameindex *one = all; one && one->if_index && card_count < MAX_CARDS; one++) {
        struct ifreq request = {0};
        if (!is_device(one->if_name, &request) ||
            !(has_prefix(&request) || was_known(known, known_count, one->if_name)))
            continue;
        struct card *card = &cards[card_count++];
        *card = (struct card){.index = (int)one->if_index};
        memcpy(card->name, request.ifr_name, IFNAMSIZ);
        memcpy(card->mac, request.ifr_hwaddr.sa_data, MAC);
        card->up = ioctl(network, SIOCGIFFLAGS, &request) == 0 && request.ifr_flags & IFF_UP;
    }
    if_freenameindex(all);
}

static struct card *card_of(unsigned index) {
    for (size_t i = 0; i < card_count; i++)
        if (cards[i].index == (int)index)
            return &cards[i];
    return NULL;
}

/* The half of an IPv6 address that is made of a hardware address (modified EUI-64). */
static void derive(uint8_t *half, const uint8_t *mac) {
    const uint8_t bytes[] = {mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]};
    memcpy(half, bytes, sizeof bytes);
}

static void see_address(struct nlmsghdr *message) {
    struct ifaddrmsg *about = NLMSG_DATA(message);
    struct card *card = card_of(about->ifa_index);
    if (!card)
        return;
    if (about->ifa_family == AF_INET && !(about->ifa_flags & IFA_F_PERMANENT))
        card->leased = true;
    if (about->ifa_family != AF_INET6 || derived_count == MAX_DERIVED)
        return;
    struct derived one = {.card = card, .about = *about, .life = {UINT32_MAX, UINT32_MAX, 0, 0}};
    int length = (int)IFA_PAYLOAD(message);
    for (struct rtattr *a = IFA_RTA(about); RTA_OK(a, length); a = RTA_NEXT(a, length)) {
        if (a->rta_type == IFA_ADDRESS && RTA_PAYLOAD(a) == IPV6)
            memcpy(one.address, RTA_DATA(a), IPV6);
        if (a->rta_type == IFA_CACHEINFO && RTA_PAYLOAD(a) >= sizeof one.life)
            memcpy(&one.life, RTA_DATA(a), sizeof one.life);
    }
    uint8_t half[IPV6 / 2];
    derive(half, card->mac);
    if (memcmp(one.address + IPV6 / 2, half, sizeof half) == 0)
        derived[derived_count++] = one;
}

static void find_addresses(void) {
    static uint8_t buffer[BUFFER] __attribute__((aligned(8)));
    struct {
        struct nlmsghdr header;
        struct ifaddrmsg about;
    } ask = {{sizeof ask, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, 0, 0}, {.ifa_family = AF_UNSPEC}};
    derived_count = 0;
    bool more = card_count && send(netlink, &ask, sizeof ask, 0) == sizeof ask;
    while (more) {
        ssize_t n = recv(netlink, buffer, sizeof buffer, 0);
        struct nlmsghdr *message = (struct nlmsghdr *)buffer;
        for (more = n > 0; NLMSG_OK(message, n); message = NLMSG_NEXT(message, n)) {
            if (message->nlmsg_type == RTM_NEWADDR)
                see_address(message);
            else if (message->nlmsg_type == NLMSG_DONE || message->nlmsg_type == NLMSG_ERROR)
                more = false;
        }
    }
}

/* Switch a setting on for all; the descriptor that can switch it off, -1 if it was on or is not. */
static int switch_on(const char *setting) {
    char now_it_is = '1';
    int fd = open_setting(setting, "all");
    if (fd >= 0 && pread(fd, &now_it_is, 1, 0) == 1 && now_it_is == '0' && pwrite(fd, "1", 1, 0) == 1)
        return fd;
    close(fd);
    return -1;
}

void network_prepare(void) {
    if (network < 0)
        network = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (netlink < 0)
        netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    find_cards();
    find_addresses();
    for (int i = 0; i < SETTINGS && card_count; i++)
        if (switches[i] < 0)
            switches[i] = switch_on(settings[i]);
}

/* A card that is down announces itself when it comes up. */
static void announce_later(const struct card *card) {
    for (int i = 0; i < SETTINGS; i++) {
        int fd = open_setting(settings[i], card->name);
        if (fd >= 0 && pwrite(fd, "1", 1, 0) < 0)
            errno = 0; /* then others find it as slowly as they did */
        close(fd);
    }
}

static void put_attribute(struct nlmsghdr *message, unsigned short type, const void *data,
                          unsigned short size) {
    struct rtattr *a = (struct rtattr *)((uint8_t *)message + NLMSG_ALIGN(message->nlmsg_len));
    *a = (struct rtattr){(unsigned short)RTA_LENGTH(size), type};
    memcpy(RTA_DATA(a), data, size);
    message->nlmsg_len = NLMSG_ALIGN(message->nlmsg_len) + RTA_LENGTH(size);
}

static void change_address(unsigned short type, const struct derived *one) {
    struct {
        struct nlmsghdr header;
        struct ifaddrmsg about;
        uint8_t room[128];
    } change = {{NLMSG_LENGTH(sizeof one->about), type, NLM_F_REQUEST, 0, 0}, one->about, {0}};
    if (type == RTM_NEWADDR) {
        change.header.nlmsg_flags |= NLM_F_CREATE;
        change.about.ifa_flags = IFA_F_NODAD; /* no other host can have it */
    }
    put_attribute(&change.header, IFA_ADDRESS, one->address, IPV6);
    put_attribute(&change.header, IFA_LOCAL, one->address, IPV6);
    put_attribute(&change.header, IFA_CACHEINFO, &one->life, sizeof one->life);
    if (send(netlink, &change, change.header.nlmsg_len, 0) < 0)
        errno = 0; /* the card has its former one still, which is as good */
}

/* The new one first: without any, the kernel would forget the routes. */
static void derive_addresses(const struct card *card, const uint8_t *mac) {
    for (size_t i = 0; i < derived_count; i++) {
        if (derived[i].card != card)
            continue;
        struct derived fresh = derived[i];
        derive(fresh.address + IPV6 / 2, mac);
        change_address(RTM_NEWADDR, &fresh);
        change_address(RTM_DELADDR, &derived[i]);
    }
}

/* The IPv6 addresses first: what is on the card when its address changes is announced. */
static bool set_address(const struct card *card, const uint8_t *mac) {
    struct ifreq request = {.ifr_hwaddr.sa_family = ARPHRD_ETHER};
    memcpy(request.ifr_name, card->name, IFNAMSIZ);
    memcpy(request.ifr_hwaddr.sa_data, mac, MAC);
    derive_addresses(card, mac);
    if (!card->up)
        announce_later(card);
    return ioctl(network, SIOCSIFHWADDR, &request) == 0;
}

const char *network_set(const uint8_t *mac) {
    const char *error = NULL;
    uint8_t own[MAC];
    memcpy(own, mac, MAC);
    for (size_t i = 0; i < card_count && !error; i++, own[MAC - 1]++)
        if (!cards[i].leased && !set_address(&cards[i], own))
            error = error_of(cards[i].name);
    return error;
}

/* A guest that has booted may have had another hardware address before. */
void network_announce(void) {
    network_prepare();
    for (size_t i = 0; i < card_count; i++) {
        struct ifreq request = {.ifr_hwaddr.sa_family = ARPHRD_ETHER};
        memcpy(request.ifr_name, cards[i].name, IFNAMSIZ);
        memcpy(request.ifr_hwaddr.sa_data, cards[i].mac, MAC);
        if (ioctl(network, SIOCSIFHWADDR, &request) < 0)
            errno = 0; /* then others find it as slowly as they did */
    }
    network_done();
}

void network_done(void) {
    for (int i = 0; i < SETTINGS; i++) {
        if (switches[i] < 0)
            continue;
        if (pwrite(switches[i], "0", 1, 0) < 0)
            errno = 0; /* it then announces addresses more often than it did */
        close(switches[i]);
        switches[i] = -1;
    }
}
