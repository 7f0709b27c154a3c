// Waits until a directory appears, and replaces it by a link at once. Whoever then fills the directory by its path writes
// to where the link leads.
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    for (;;) {
        if (rename(argv[1], argv[2]) == 0) {
            symlink(argv[3], argv[1]);
            pause();
        }
    }
}
