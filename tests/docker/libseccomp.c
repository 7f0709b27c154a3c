// Reads a profile as plain lines, and writes the filter that libseccomp makes of it to standard output. It adds rules as
// runc does: those with the default action are left out, and so are calls that the library does not know.
//   default ACTION | arch x86 | arch x32 | rule ACTION NAME COUNT [INDEX OPERATOR VALUE SECOND]...
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    scmp_filter_ctx filter = NULL;
    uint32_t otherwise = 0, action;
    char word[64], name[64];
    while (scanf("%63s", word) == 1) {
        if (!strcmp(word, "default")) {
            if (scanf("%x", &otherwise) != 1 || !(filter = seccomp_init(otherwise))) return 2;
        } else if (!strcmp(word, "arch")) {
            if (scanf("%63s", name) != 1 || seccomp_arch_add(filter, seccomp_arch_resolve_name(name))) return 3;
        } else {
            unsigned count, index, operator;
            struct scmp_arg_cmp conditions[6];
            if (scanf("%x %63s %u", &action, name, &count) != 3 || count > 6) return 4;
            for (unsigned at = 0; at < count; at++) {
                uint64_t value, second;
                if (scanf("%u %u %lx %lx", &index, &operator, &value, &second) != 4) return 5;
                conditions[at] = SCMP_CMP(index, operator, value, second);
            }
            int number = seccomp_syscall_resolve_name(name);
            if (number == __NR_SCMP_ERROR || action == otherwise) continue;
            int failed = seccomp_rule_add_array(filter, action, number, count, conditions);
            if (failed) {
                fprintf(stderr, "%s: %s\n", name, strerror(-failed));
                return 6;
            }
        }
    }
    return filter && !seccomp_export_bpf(filter, 1) ? 0 : 7;
}
