// Sends one crafted frame from the eth0 of the container to the host, and prints what comes back.
//
// frame syn GATEWAY PORT [tagged]   sends a SYN to 127.0.0.1:PORT through the bridge, and prints open or closed
// frame ra GATEWAY                  sends a router advertisement for 2001:db8:bad::/64
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static uint32_t sum(const uint8_t *bytes, size_t length, uint32_t all) {
    for (size_t at = 0; at + 1 < length; at += 2) all += bytes[at] << 8 | bytes[at + 1];
    if (length & 1) all += bytes[length - 1] << 8;
    return all;
}

static uint16_t fold(uint32_t all) {
    while (all >> 16) all = (all & 0xffff) + (all >> 16);
    return htons(~all & 0xffff);
}

static int gateway_mac(const char *gateway, uint8_t *mac) {
    // This sends a datagram to a port where nobody listens, so that the kernel asks for the hardware address.
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    inet_pton(AF_INET, gateway, &to.sin_addr);
    sendto(udp, "x", 1, 0, (void *)&to, sizeof to);
    for (int tries = 0; tries < 50; tries++) {
        char line[256], ip[64], hex[64];
        FILE *arp = fopen("/proc/net/arp", "r");
        while (arp && fgets(line, sizeof line, arp)) {
            unsigned m[6], flags;
            if (sscanf(line, "%63s %*s 0x%x %63s", ip, &flags, hex) == 3 && flags && !strcmp(ip, gateway) &&
                sscanf(hex, "%x:%x:%x:%x:%x:%x", m, m + 1, m + 2, m + 3, m + 4, m + 5) == 6) {
                for (int i = 0; i < 6; i++) mac[i] = m[i];
                return 0;
            }
        }
        if (arp) fclose(arp);
        usleep(20000);
    }
    return -1;
}

int main(int count, char **words) {
    if (count < 3) return 2;
    int fd = socket(AF_PACKET, SOCK_RAW, htons(3 /* ETH_P_ALL */));
    if (fd < 0) { printf("no packet socket\n"); return 1; }
    struct ifreq request = {0};
    strcpy(request.ifr_name, "eth0");
    struct sockaddr_ll link = {.sll_family = AF_PACKET, .sll_protocol = htons(3), .sll_ifindex = if_nametoindex("eth0")};
    if (ioctl(fd, SIOCGIFHWADDR, &request) || bind(fd, (void *)&link, sizeof link)) { printf("no eth0\n"); return 1; }
    uint8_t own[6], mac[6], frame[256] = {0}, *at = frame;
    memcpy(own, request.ifr_hwaddr.sa_data, 6);
    if (gateway_mac(words[2], mac)) { printf("no gateway\n"); return 1; }
    memcpy(frame, mac, 6);
    memcpy(frame + 6, own, 6);
    at += 12;
    if (!strcmp(words[1], "ra")) {
        memcpy(frame, "\x33\x33\0\0\0\1", 6);
        memcpy(at, "\x86\xdd\x60\0\0\0", 6);
        uint8_t *ip = at + 2, *icmp = ip + 40;
        ip[5] = 48, ip[6] = 58, ip[7] = 255;
        inet_pton(AF_INET6, "fe80::bad", ip + 8);
        inet_pton(AF_INET6, "ff02::1", ip + 24);
        icmp[0] = 134, icmp[4] = 64, icmp[6] = 7, icmp[7] = 8;
        uint8_t *prefix = icmp + 16;
        prefix[0] = 3, prefix[1] = 4, prefix[2] = 64, prefix[3] = 0xc0;
        memset(prefix + 4, 0x0f, 8);
        inet_pton(AF_INET6, "2001:db8:bad::", prefix + 16);
        uint16_t check = fold(sum(icmp, 48, sum(ip + 8, 32, 48 + 58)));
        memcpy(icmp + 2, &check, 2);
        if (send(fd, frame, 14 + 40 + 48, 0) < 0) { perror("send"); return 1; }
        printf("sent\n");
        return 0;
    }
    if (count < 4) return 2;
    uint16_t port = htons(atoi(words[3])), from = htons(40000 + getpid() % 20000);
    if (count > 4) { memcpy(at, "\x81\0\0\0\x81\0\0\0", 8); at += 8; }
    memcpy(at, "\x08\0", 2);
    uint8_t *ip = at + 2, *tcp = ip + 20;
    ip[0] = 0x45, ip[3] = 40, ip[8] = 64, ip[9] = 6;
    // The last bytes of the hardware address are the IP address of the container.
    memcpy(ip + 12, own + 2, 4);
    memcpy(ip + 16, "\x7f\0\0\1", 4);
    uint16_t check = fold(sum(ip, 20, 0));
    memcpy(ip + 10, &check, 2);
    memcpy(tcp, &from, 2);
    memcpy(tcp + 2, &port, 2);
    tcp[7] = 1, tcp[12] = 0x50, tcp[13] = 2, tcp[14] = 0x20;
    check = fold(sum(tcp, 20, sum(ip + 12, 8, 6 + 20)));
    memcpy(tcp + 16, &check, 2);
    if (send(fd, frame, tcp + 20 - frame, 0) < 0) { perror("send"); return 1; }
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    for (int tries = 0; tries < 200 && poll(&ready, 1, 700) == 1; tries++) {
        uint8_t answer[2048];
        ssize_t length = recv(fd, answer, sizeof answer, 0);
        uint8_t *in = answer + 14;
        if (length >= 54 && answer[12] == 8 && answer[13] == 0 && in[9] == 6 && !memcmp(in + 12, "\x7f\0\0\1", 4)) {
            printf("open\n");
            return 0;
        }
    }
    printf("closed\n");
    return 0;
}
