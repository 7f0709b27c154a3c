// These are small servers that tests put behind ports.
//
// port udp PORT             answers each datagram with the host's name
// port share ADDRESS PORT   listens with SO_REUSEPORT and SO_REUSEADDR; prints "bound", or the reason why that failed
// port tcp ADDRESS PORT     listens, and answers each connection with the host's name
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words) {
    char name[65] = "";
    gethostname(name, sizeof name - 1);
    signal(SIGPIPE, SIG_IGN);
    if (count == 3 && !strcmp(words[1], "udp")) {
        struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(atoi(words[2]))}, from;
        int fd = socket(AF_INET, SOCK_DGRAM, 0);
        if (bind(fd, (void *)&own, sizeof own)) return 1;
        for (char text[64];;) {
            socklen_t length = sizeof from;
            if (recvfrom(fd, text, sizeof text, 0, (void *)&from, &length) >= 0)
                sendto(fd, name, strlen(name), 0, (void *)&from, length);
        }
    }
    if (count != 4) return 2;
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(atoi(words[3]))};
    inet_pton(AF_INET, words[2], &own.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (!strcmp(words[1], "share")) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(fd, (void *)&own, sizeof own) || listen(fd, 16)) {
        printf("%s\n", strerror(errno));
        return 1;
    }
    printf("bound\n");
    fflush(stdout);
    for (;;) {
        int client = accept(fd, 0, 0);
        if (client < 0) continue;
        if (write(client, name, strlen(name)) < 0) continue;
        close(client);
    }
}
