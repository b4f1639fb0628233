/* md_time_rfc3339 as a shared object: tests/unit/record/test_rfc3339.py calls it. */
#include "rfc3339.h"

#include <sys/mman.h>
#include <unistd.h>

/* From memory that ends with the text: one byte further is a SIGSEGV. size: in [0, 4096]. Returns
 * 1, 0 when the text is refused, -1 when there is no memory. */
int rfc3339_guarded(const char *text, size_t size, int64_t *ns);

int rfc3339_guarded(const char *text, size_t size, int64_t *ns) {
    static char *base;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (base == NULL) {
        void *at = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED || mprotect((char *)at + page, page, PROT_NONE) != 0) {
            return -1;
        }
        base = at;
    }
    char *at = base + page - size;
    memcpy(at, text, size);
    return md_time_rfc3339(at, size, ns);
}
