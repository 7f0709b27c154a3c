// Changes much of its own process, and then executes a program. It sets the niceness to 7, the affinity to one processor,
// the limit of descriptors to 64, and a score for the OOM killer. It switches off randomised addresses, opens a file as
// descriptor 9, and puts keys into its session keyring and its user keyring.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    int fd = open(argv[1], O_RDWR);
    if (fd < 0 || dup2(fd, 9) != 9) return 3;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    setpriority(PRIO_PROCESS, 0, 7);
    struct rlimit few = {64, 4096};
    setrlimit(RLIMIT_NOFILE, &few);
    personality(ADDR_NO_RANDOMIZE);
    FILE *score = fopen("/proc/self/oom_score_adj", "w");
    if (score) { fputs("500", score); fclose(score); }
    syscall(SYS_keyctl, 1 /* JOIN_SESSION_KEYRING */, "attack");
    syscall(SYS_add_key, "user", "attack-key", "host-secret", 11, -3 /* session */);
    syscall(SYS_add_key, "user", "attack-key", "host-secret", 11, -4 /* user */);
    execvp(argv[2], argv + 2);
    return 4;
}
