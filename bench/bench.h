/* What the C benches share: pinning, the time-stamp counter, memory, percentiles.
 *
 * A bench program prints one JSON object a line and nothing else; bench/lib.py pairs the lines and
 * does all statistics, so that there is one place that can get them wrong.
 */
#ifndef MDSYS_BENCH_H
#define MDSYS_BENCH_H

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BENCH_HUGE_SIZE ((size_t)2 << 20)

_Noreturn static inline void bench_die(const char *what) {
    fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
    _exit(1);
}

static inline void bench_pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        bench_die("sched_setaffinity");
    }
}

static inline int64_t bench_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Ticks of a clock that costs a few ns to read; both cores read the same one (constant_tsc). Not
 * serialising: in a ping-pong the load of the answer orders the stamps by itself. */
static inline uint64_t bench_ticks(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return (uint64_t)bench_now_ns();
#endif
}

static inline double bench_ns_per_tick(void) {
    int64_t start_ns = bench_now_ns();
    uint64_t start = bench_ticks();
    while (bench_now_ns() - start_ns < 50 * 1000 * 1000) {
    }
    return (double)(bench_now_ns() - start_ns) / (double)(bench_ticks() - start);
}

/* Memory that parent and child share, zeroed, every page present, in 2 MB pages where the kernel
 * has reserved some or gives them (shmem_enabled=advise); madvise's answer is a wish, so the caller
 * prints what it got.
 */
static inline void *bench_shared(size_t size) {
    size_t whole = (size + BENCH_HUGE_SIZE - 1) & ~(BENCH_HUGE_SIZE - 1);
    /* Reserved ones first (vm.nr_hugepages), and all of them now or none. */
    void *reserved = mmap(NULL,
                          whole,
                          PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE,
                          -1,
                          0);
    if (reserved != MAP_FAILED) {
        return reserved;
    }
    char *wide = mmap(
        NULL, whole + BENCH_HUGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (wide == MAP_FAILED) {
        bench_die("mmap");
    }
    char *memory = (char *)(((uintptr_t)wide + BENCH_HUGE_SIZE - 1) & ~(BENCH_HUGE_SIZE - 1));
    madvise(memory, whole, MADV_HUGEPAGE);
    if (madvise(memory, whole, MADV_POPULATE_WRITE) != 0) {
        memset(memory, 0, whole); /* before Linux 5.14 */
    }
    return memory;
}

/* How much of this process's shared memory is mapped by 2 MB pages. */
static inline unsigned long bench_huge_kib(void) {
    unsigned long total = 0, kib;
    char line[256];
    FILE *smaps = fopen("/proc/self/smaps_rollup", "r");
    while (smaps != NULL && fgets(line, sizeof line, smaps) != NULL) {
        if (sscanf(line, "ShmemPmdMapped: %lu", &kib) == 1 ||
            sscanf(line, "Shared_Hugetlb: %lu", &kib) == 1 ||
            sscanf(line, "Private_Hugetlb: %lu", &kib) == 1) {
            total += kib;
        }
    }
    if (smaps != NULL) {
        fclose(smaps);
    }
    return total;
}

/* The other end, on its own core; it dies with its parent. */
static inline bool bench_fork_child(int parent_core, int child_core) {
    pid_t parent = getpid();
    fflush(stdout);
    pid_t child = fork();
    if (child < 0) {
        bench_die("fork");
    }
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(1);
        }
    }
    bench_pin(child == 0 ? child_core : parent_core);
    return child == 0;
}

/* A child that found a wrong checksum exits with 1; so then do we. */
static inline int bench_wait_child(void) {
    int status = 0;
    if (wait(&status) < 0) {
        bench_die("wait");
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
}

static inline int bench_compare_u32(const void *a, const void *b) {
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* The step by which the counter usually advances. */
static inline uint32_t bench_tick_step(void) {
    uint32_t steps[1001];
    for (unsigned i = 0; i < 1001; i++) {
        uint64_t start = bench_ticks(), now;
        while ((now = bench_ticks()) == start) {
        }
        steps[i] = (uint32_t)(now - start);
    }
    qsort(steps, 1001, sizeof *steps, bench_compare_u32);
    return steps[500];
}

/* One line: the percentiles of samples[0..count), each times scale. count >= 1. Sorts in place.
 *
 * The counter advances in steps (26 ticks here, 10 ns), so many samples are equal and a percentile
 * would jump by a step. Half a step of noise, first, puts each where in its step it may have been.
 */
static inline void bench_print_percentiles(
    const char *phase, uint32_t *samples, size_t count, double scale, uint32_t step) {
    uint64_t noise = 1;
    for (size_t i = 0; i < count; i++) {
        noise = noise * UINT64_C(6364136223846793005) + 1;
        samples[i] += (uint32_t)((noise >> 33) % step); /* half a step too high: see below */
    }
    qsort(samples, count, sizeof *samples, bench_compare_u32);
    const double half = step / 2.0;
    printf("{\"phase\": \"%s\", \"p50\": %.2f, \"p99\": %.2f, \"p999\": %.2f, \"max\": %.0f}\n",
           phase,
           scale * (samples[count / 2] - half),
           scale * (samples[count - 1 - count / 100] - half),
           scale * (samples[count - 1 - count / 1000] - half),
           scale * (samples[count - 1] - half));
    fflush(stdout);
}

/* A distribution of times, for plots: 64 buckets to each doubling, from 1 ns to an hour. */
enum { BENCH_OCTAVES = 42, BENCH_STEPS = 64 };

struct bench_histogram {
    uint64_t count[BENCH_OCTAVES * BENCH_STEPS];
};

static inline void bench_histogram_add(struct bench_histogram *histogram, double ns) {
    uint64_t v = ns > 1 ? (uint64_t)(ns * BENCH_STEPS) : BENCH_STEPS;
    unsigned octave = 57u - (unsigned)__builtin_clzll(v); /* v is in [64, 2^57) */
    uint64_t at = octave * BENCH_STEPS + (v >> octave) - BENCH_STEPS;
    uint64_t last = BENCH_OCTAVES * BENCH_STEPS - 1;
    histogram->count[at < last ? at : last]++;
}

/* What bench_print_percentiles has sorted. */
static inline void bench_histogram_fill(struct bench_histogram *histogram,
                                        const uint32_t *samples,
                                        size_t count,
                                        double scale,
                                        uint32_t step) {
    for (size_t i = 0; i < count; i++) {
        bench_histogram_add(histogram, scale * (samples[i] - step / 2.0));
    }
}

/* One line: {"histogram": name, "placement": where, "counts": [[ns, count], ...]}, ns ascending. */
static inline void
bench_print_histogram(const struct bench_histogram *histogram, const char *name, unsigned where) {
    const char *comma = "";
    printf("{\"histogram\": \"%s\", \"placement\": %u, \"counts\": [", name, where);
    for (unsigned i = 0; i < BENCH_OCTAVES * BENCH_STEPS; i++) {
        if (histogram->count[i] != 0) {
            double ns = (double)(BENCH_STEPS + i % BENCH_STEPS + 0.5) / BENCH_STEPS;
            ns *= (double)(UINT64_C(1) << i / BENCH_STEPS);
            printf("%s[%.4g, %lu]", comma, ns, (unsigned long)histogram->count[i]);
            comma = ", ";
        }
    }
    printf("]}\n");
}

static inline int bench_core(const char *text) {
    char *end;
    long core = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || core < 0 || core >= CPU_SETSIZE) {
        errno = EINVAL;
        bench_die(text);
    }
    return (int)core;
}

#endif
