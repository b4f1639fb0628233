/* The doorbell: how a reader sleeps and how a writer wakes it, without a system call while all are
 * awake, and without a lost wake-up.
 *
 *   reader parks                               writer flushes
 *   P1 b = bell           acquire              B1 slots released, cursor stored
 *   P2 asleep = b + 1     relaxed              B2 fence             seq_cst
 *   P3 fence              seq_cst              B3 asleep == bell + 1, of anybody?   relaxed
 *   P4 anything to read?                       B4 bell = bell + 1   release
 *   P5 futex_waitv(bell == b)                  B5 futex_wake(bell)
 *   P6 asleep = 0         relaxed
 *
 * P3 pairs with B2: of two threads that each store, fence and look, at least one sees the other's
 * store. So either P4 finds what B1 stored, or B3 finds the sleeper; and if B4 comes before P5, the
 * kernel finds another bell than b and does not let it sleep. After B4 the same `asleep` matches no
 * more: one sleep costs its writer at most one system call, however many flushes pass until the
 * sleeper runs.
 *
 * The bell lies in the ring's header, which readers map read-only: a futex may be waited for there.
 * `asleep` lies in the reader's own page, one for each ring, each on its own line. A writer without
 * registered readers does not even fence.
 */
#ifndef MDSYS_BELL_H
#define MDSYS_BELL_H

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "mdsys/clock.h"
#include "mdsys/poll.h"
#include "mdsys/reader_page.h"

#ifndef __cplusplus
long syscall(long number, ...); /* of unistd.h, which hides it from strict C */
#endif

/* The kernel's ABI (linux/futex.h), for who compiles against older headers than runs. */
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#define MD_FUTEX_32 2u
#define MD_FUTEX_WAKE 1
#define MD_FUTEX_WAITV_MAX 128u

struct md_futex_waitv {
    uint64_t value;
    uint64_t address;
    uint32_t flags;
    uint32_t reserved;
};

#define MD_PARK_NS_MAX INT64_C(1000000000) /* looks again, and shows that it lives, this often */
#define MD_NAP_NS_MIN INT64_C(10000)
#define MD_NAP_NS_MAX INT64_C(1000000)
#define MD_SPIN_NS INT64_C(50000) /* longer than a busy market is silent, shorter than a slice */
#define MD_SPINS_PER_CLOCK 64u    /* reading the clock costs as much as a dozen looks */

/* What one thread waits with. stop: a word of this process that ends the wait when it is not 0;
 * NULL: none. nap_ns: how long it naps where no bell can be heard. */
struct md_waiter {
    const uint32_t *stop;
    int64_t nap_ns;
    uint32_t by_clock; /* no bell reaches us: not registered, or the kernel lacks futex_waitv */
};

static inline int md_waiter_stopped(const struct md_waiter *waiter) {
    return waiter->stop != NULL && md_load_acquire_u32(waiter->stop) != 0;
}

/* Wakes a waiter of this process after its stop word was set, from any thread. */
static inline void md_waiter_wake(uint32_t *stop) {
    syscall(SYS_futex, stop, MD_FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static inline void md_nap(struct md_waiter *waiter, int64_t ns_max) {
    if (waiter->nap_ns < MD_NAP_NS_MIN) {
        waiter->nap_ns = MD_NAP_NS_MIN;
    }
    int64_t ns = waiter->nap_ns < ns_max ? waiter->nap_ns : ns_max;
    struct timespec pause = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    nanosleep(&pause, NULL);
    waiter->nap_ns =
        2 * waiter->nap_ns < MD_NAP_NS_MAX ? 2 * waiter->nap_ns : (int64_t)MD_NAP_NS_MAX;
}

static inline struct md_futex_waitv md_futex_of(const uint32_t *word, uint32_t value) {
    struct md_futex_waitv wait;
    wait.value = value;
    wait.address = (uint64_t)(uintptr_t)word;
    wait.flags = MD_FUTEX_32; /* shared: the same word in every process */
    wait.reserved = 0;
    return wait;
}

/* Sleep until a ring of the poller has something unread, the stop word is set, a signal comes, or
 * ns_max (> 0) has passed. May return for no reason. */
static inline void md_park(struct md_poller *poller, struct md_waiter *waiter, int64_t ns_max) {
    struct md_reader_page *page = poller->page;
    uint32_t count = poller->source_count;
    ns_max = ns_max < MD_PARK_NS_MAX ? ns_max : MD_PARK_NS_MAX;
    md_count(&page->parks, 1);
    if (waiter->by_clock || page->reader_id == 0 || count >= MD_FUTEX_WAITV_MAX) {
        md_nap(waiter, ns_max);
        return;
    }
    struct md_futex_waitv wait[MD_FUTEX_WAITV_MAX];
    for (uint32_t i = 0; i < count; i++) {
        const struct md_source *source = &poller->sources[i];
        uint32_t bell = md_load_acquire_u32(&source->reader.header->bell); /* P1 */
        md_store_relaxed_u64(&source->place->asleep, (uint64_t)bell + 1);  /* P2 */
        wait[i] = md_futex_of(&source->reader.header->bell, bell);
    }
    uint32_t waited_count = count;
    if (waiter->stop != NULL) {
        wait[waited_count++] = md_futex_of(waiter->stop, 0);
    }
    md_fence_seq_cst(); /* P3: pairs with B2 */
    long woken = -1;
    if (!md_poller_ready(poller) && !md_waiter_stopped(waiter)) { /* P4 */
        int64_t until_ns = md_monotonic_ns() + ns_max;
        struct timespec until = {(time_t)(until_ns / 1000000000), (long)(until_ns % 1000000000)};
        woken = syscall(SYS_futex_waitv, wait, waited_count, 0, &until, CLOCK_MONOTONIC); /* P5 */
        if (woken < 0 && errno != EAGAIN && errno != ETIMEDOUT && errno != EINTR) {
            waiter->by_clock = 1; /* an older kernel, or a sandbox that does not know the call */
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        md_store_relaxed_u64(&poller->sources[i].place->asleep, 0); /* P6 */
    }
    if (woken >= 0 && woken < (long)count) {
        const struct md_ring_header *header = poller->sources[woken].reader.header;
        md_count(&page->wakes, 1);
        md_histogram_record(
            &page->wake_up, md_realtime_ns() - md_load_acquire_i64(&header->rung_ns), 1);
    }
}

#endif
