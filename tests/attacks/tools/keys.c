// Looks for a key that root of the host has put into the session keyring and the user keyring, and prints its content.
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
    for (int ring = -3; ring >= -5; ring--) {
        long key = syscall(SYS_keyctl, 10 /* SEARCH */, ring, "user", "attack-key", 0);
        char text[64] = "";
        if (key > 0 && syscall(SYS_keyctl, 11 /* READ */, key, text, sizeof text - 1) > 0) printf("FOUND %s\n", text);
    }
    long key = syscall(SYS_request_key, "user", "attack-key", 0, 0);
    char text[64] = "";
    if (key > 0 && syscall(SYS_keyctl, 11, key, text, sizeof text - 1) > 0) printf("FOUND %s\n", text);
    return 0;
}
