/* What the stress programs share: workers as threads (for sanitizers) or processes (for truth). */
#ifndef MDSYS_TESTS_STRESS_H
#define MDSYS_TESTS_STRESS_H

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mdsys/atomic.h"

#define STRESS_WORKERS_MAX 8u

enum stress_exit {
    STRESS_OK = 0,
    STRESS_TORN = 1,   /* the forbidden outcome: torn record delivered */
    STRESS_COUNT = 2,  /* the sums do not add up */
    STRESS_SYSTEM = 3, /* no memory, no process */
    STRESS_USAGE = 64,
};

struct stress_control {
    uint64_t ready; /* workers that wait for the writer */
    uint64_t stop;  /* the writer has ended, or shall */
    uint64_t torn[STRESS_WORKERS_MAX];
};

typedef void (*stress_work)(void *shared, unsigned index);

struct stress_worker {
    stress_work work;
    void *shared;
    struct stress_control *control;
    unsigned index;
    pthread_t thread;
    pid_t pid;
};

/* Shared between processes, whether we fork or not. */
static inline void *stress_memory(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(STRESS_SYSTEM);
    }
    return memory;
}

static inline void *stress_thread(void *argument) {
    struct stress_worker *worker = (struct stress_worker *)argument;
    worker->work(worker->shared, worker->index);
    return NULL;
}

static inline void stress_start(struct stress_worker *workers,
                                unsigned count,
                                int threads,
                                stress_work work,
                                void *shared,
                                struct stress_control *control) {
    pid_t parent = getpid();
    fflush(stdout);
    for (unsigned i = 0; i < count; i++) {
        workers[i] = (struct stress_worker){.work = work, .shared = shared, .index = i};
        if (threads) {
            if (pthread_create(&workers[i].thread, NULL, stress_thread, &workers[i]) != 0) {
                exit(STRESS_SYSTEM);
            }
            continue;
        }
        workers[i].pid = fork();
        if (workers[i].pid < 0) {
            exit(STRESS_SYSTEM);
        }
        if (workers[i].pid == 0) {
            prctl(PR_SET_PDEATHSIG, 9);
            if (getppid() == parent) {
                work(shared, i);
            }
            _exit(0);
        }
    }
    while (md_load_acquire_u64(&control->ready) != count) {
        sched_yield();
    }
}

static inline void stress_join(struct stress_worker *workers, unsigned count, int threads) {
    for (unsigned i = 0; i < count; i++) {
        int status = 0;
        if (threads) {
            pthread_join(workers[i].thread, NULL);
        } else if (waitpid(workers[i].pid, &status, 0) < 0 || status != 0) {
            fprintf(stderr, "worker %u died: %d\n", i, status);
            exit(STRESS_SYSTEM);
        }
    }
}

static inline void stress_ready(struct stress_control *control) {
    __atomic_fetch_add(&control->ready, 1, __ATOMIC_ACQ_REL);
}

static inline int stress_stopped(const struct stress_control *control) {
    return md_load_acquire_u64(&control->stop) != 0;
}

static inline void stress_found_torn(struct stress_control *control, unsigned index) {
    md_store_relaxed_u64(&control->torn[index], control->torn[index] + 1);
    md_store_release_u64(&control->stop, 1); /* one is enough */
}

/* Payload word i of record seq: a word of any other record differs. */
static inline uint64_t stress_word(uint64_t seq, unsigned i) {
    return (seq * 8 + i) * UINT64_C(0x9E3779B97F4A7C15);
}

static inline uint64_t stress_random(uint64_t *state) { /* xorshift64 */
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
