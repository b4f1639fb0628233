/* The host of a chaos run, preloaded into every process of it: its clock, and its deaths.
 *
 * A page that the conductor maps too says how far CLOCK_REALTIME is off, and who dies when:
 *
 *     victim, countdown   this process dies after so many of its stores, counted from now
 *     newborn[role]       the next process of this role whose whole life has seen so many stores
 *
 * Stores are those of an instrumented build (host.h) to shared memory. A death is a SIGKILL.
 */
#include "host.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum role { ROLE_OTHER = 0, ROLE_FEED = 1, ROLE_DAEMON = 2, ROLE_COUNT = 3 };

/* tests/chaos/host.py has the same. */
struct page {
    int64_t realtime_off_ns;
    uint64_t victim;
    uint64_t countdown;
    uint64_t newborn[ROLE_COUNT]; /* 0: nobody */
    uint64_t struck[ROLE_COUNT];  /* how many have died of it */
};
static_assert(sizeof(struct page) == 72, "as in host.py");

static struct page *page;
static enum role role;
static uint64_t self;
static uint64_t lived; /* stores of this process */
static int (*kernel_clock)(clockid_t, struct timespec *);

static int is_in(const char *words, size_t size, const char *word) {
    for (size_t at = 0; at < size; at += strlen(words + at) + 1) {
        if (strcmp(words + at, word) == 0) {
            return 1;
        }
    }
    return 0;
}

static void find_role(void) {
    char words[4096];
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? 0 : read(fd, words, sizeof words - 1);
    if (fd >= 0) {
        close(fd);
    }
    if (size <= 0) {
        return;
    }
    words[size] = 0;
    if (is_in(words, (size_t)size, "mdsys.feed")) {
        role = ROLE_FEED;
    } else if (is_in(words, (size_t)size, "mdsys") && is_in(words, (size_t)size, "run")) {
        role = ROLE_DAEMON;
    }
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CHAOS_PAGE");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    self = (uint64_t)getpid();
    if (fd < 0) {
        return;
    }
    find_role();
    void *base = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    page = base == MAP_FAILED ? NULL : base;
}

static void die(void) {
    __atomic_fetch_add(&page->struck[role], 1, __ATOMIC_RELAXED);
    kill(getpid(), SIGKILL);
    for (;;) {
        pause();
    }
}

void chaos_after_store(void) {
    if (page == NULL) {
        return;
    }
    lived++;
    uint64_t mark = __atomic_load_n(&page->newborn[role], __ATOMIC_RELAXED);
    if (mark == lived &&
        __atomic_compare_exchange_n(
            &page->newborn[role], &mark, 0, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        die();
    }
    if (__atomic_load_n(&page->victim, __ATOMIC_RELAXED) == self &&
        __atomic_sub_fetch(&page->countdown, 1, __ATOMIC_RELAXED) == 0) {
        die();
    }
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    if (kernel_clock == NULL) {
        *(void **)&kernel_clock = dlsym(RTLD_NEXT, "clock_gettime");
    }
    int failed = kernel_clock(clock, out);
    if (failed || page == NULL || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) {
        return failed;
    }
    int64_t off = __atomic_load_n(&page->realtime_off_ns, __ATOMIC_RELAXED);
    int64_t ns = (int64_t)out->tv_sec * 1000000000 + out->tv_nsec + off;
    out->tv_sec = ns / 1000000000;
    out->tv_nsec = ns % 1000000000;
    return 0;
}
