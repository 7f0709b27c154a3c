// Creates a socket by the system call socketcall of i386, and prints the number of the error. A filter cannot see the
// family of such a socket, because the arguments are in memory.
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>

int main(void) {
#ifdef __x86_64__
    unsigned *arguments = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    for (int family = 38; family <= 40; family += 2) {
        arguments[0] = family, arguments[1] = 5 /* SEQPACKET */, arguments[2] = 0;
        int result;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(102), "b"(1), "c"(arguments) : "memory");
        printf("%d\n", result);
    }
#endif
    return 0;
}
