/* Readers that sleep and a writer that wakes them, one record at a time. Forbidden outcome: lost
 * wake-up.
 *
 *     bell_stress processes|threads READERS ROUNDS DELAY_MAX
 *
 * Each reader parks whenever there is nothing to read. The writer waits until all have seen its
 * last record, then for 0 to DELAY_MAX turns of a spin loop, so that it publishes while they are
 * on their way to bed as often as while they sleep, and flushes. A wake-up is lost when the kernel
 * ends a sleep by its time (MD_PARK_NS_MAX) though there is something to read, and the bell stands
 * as it stood when the reader lay down: nobody was about to wake it.
 */
#include "stress.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

/* What the kernel answered this thread's last sleep, and the bell that it slept on. */
static _Thread_local int timed_out;
static _Thread_local const uint64_t *slept_on;

/* Stands in for syscall() in what is included below: the doorbell's two calls, looked at. */
long observed_syscall(long number, ...);
long observed_syscall(long number, ...) {
    va_list list;
    va_start(list, number);
    void *at = va_arg(list, void *);
    unsigned count = va_arg(list, unsigned);
    int value = va_arg(list, int);
    void *until = va_arg(list, void *);
    long result;
    if (number == SYS_futex) {
        result = syscall(number, at, count, value, until, NULL, 0);
    } else {
        int clock = va_arg(list, int);
        result = syscall(number, at, count, value, until, clock);
        timed_out = result < 0 && errno == ETIMEDOUT;
        slept_on = (const uint64_t *)at;
    }
    va_end(list);
    return result;
}
#define syscall observed_syscall

#include "../src/segment.c"
#include "audience.c" /* the test's own, where it breaks it on purpose */

#include "mdsys/bell.h"

enum { DEPTH = 64, BATCH = 8, STRESS_ASLEEP = 5 };

struct shared {
    struct stress_control control;
    struct {
        alignas(64) uint64_t seen; /* by this reader */
    } place[STRESS_WORKERS_MAX];
    uint64_t timeouts[STRESS_WORKERS_MAX]; /* wake-ups lost */
    struct md_counter_block counters;
    struct md_reader_page pages[STRESS_WORKERS_MAX];
    alignas(4096) struct md_ring_header header;
    alignas(4096) struct md_slot slots[DEPTH];
};

static void read_all(void *argument, unsigned index) {
    struct shared *shared = (struct shared *)argument;
    struct md_record out[BATCH];
    struct md_source source;
    struct md_poller poller = {.sources = &source, .source_count = 1};
    struct md_waiter waiter = {0};
    poller.page = &shared->pages[index];
    md_source_init(&source, &shared->header, poller.page, 0, 1);
    stress_ready(&shared->control);
    while (!stress_stopped(&shared->control)) {
        if (md_poller_read(&poller, out, BATCH) != 0) {
            md_store_release_u64(&shared->place[index].seen, source.reader.next - 1);
        }
        timed_out = 0;
        md_park(&poller, &waiter, MD_PARK_NS_MAX);
        if (waiter.by_clock) {
            exit(STRESS_SYSTEM); /* no futex_waitv here */
        }
        uint64_t bell = md_load_acquire_u32(&shared->header.bell);
        if (timed_out && slept_on[0] == bell && md_poller_ready(&poller)) {
            md_store_relaxed_u64(&shared->timeouts[index], 1);
            md_store_release_u64(&shared->control.stop, 1);
        }
    }
}

static void wait_until_seen(const struct shared *shared, unsigned readers, uint64_t seq) {
    for (unsigned i = 0; i < readers; i++) {
        for (unsigned turns = 0; md_load_acquire_u64(&shared->place[i].seen) < seq; turns++) {
            if (stress_stopped(&shared->control)) {
                return;
            }
            md_pause();
            if (turns % 4096 == 4095) {
                sched_yield(); /* it may want this core */
            }
        }
    }
}

static void publish_all(struct shared *shared,
                        struct md_ring_writer *writer,
                        unsigned readers,
                        uint64_t rounds,
                        uint64_t delay_max) {
    struct md_audience *audience = (struct md_audience *)writer->audience;
    struct md_record record = {.kind = MD_KIND_TRADE, .symbol_id = 1};
    uint64_t random = UINT64_C(0x2545F4914F6CDD1D);
    for (uint64_t i = 0; i < rounds && !stress_stopped(&shared->control); i++) {
        for (uint64_t delay = stress_random(&random) % (delay_max + 1); delay != 0; delay--) {
            md_pause();
        }
        md_ring_publish(writer, &record);
        md_audience_flush(audience, 1);
        wait_until_seen(shared, readers, writer->next - 1);
    }
    md_store_release_u64(&shared->control.stop, 1);
    md_store_release_u32(&shared->header.bell, shared->header.bell + 1);
    syscall(SYS_futex, &shared->header.bell, MD_FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

int main(int argc, char **argv) {
    int threads = argc == 5 && strcmp(argv[1], "threads") == 0;
    unsigned readers = argc == 5 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    if ((!threads && (argc != 5 || strcmp(argv[1], "processes") != 0)) || readers == 0 ||
        readers > STRESS_WORKERS_MAX) {
        return STRESS_USAGE;
    }
    struct shared *shared = (struct shared *)stress_memory(sizeof *shared);
    md_ring_create(&shared->header, md_ring_size(DEPTH), DEPTH, 0, 0);
    md_segment_publish(&shared->header.segment, 1);
    struct md_ring_writer writer;
    md_ring_take_over(&shared->header, &writer, 1, 1, 1);
    static struct md_audience audience;
    md_audience_init(&audience, &writer, &shared->counters, MD_LOSSLESS_WAIT_NS);
    for (unsigned i = 0; i < readers; i++) {
        struct md_reader_page *page = &shared->pages[i];
        md_reader_page_create(page, sizeof *page, i + 1, "reader", 1, 1, 1, 1, MD_CORE_NONE);
        md_audience_add(&audience, i + 1, &page->ring[0], 0);
    }
    struct stress_worker workers[STRESS_WORKERS_MAX];
    stress_start(workers, readers, threads, read_all, shared, &shared->control);
    publish_all(shared, &writer, readers, strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
    stress_join(workers, readers, threads);
    uint64_t lost = 0;
    uint64_t wakes = 0;
    for (unsigned i = 0; i < readers; i++) {
        lost += shared->timeouts[i];
        wakes += shared->pages[i].wakes;
    }
    printf("published %llu bells %llu wakes %llu\n",
           (unsigned long long)(writer.next - 1),
           (unsigned long long)shared->counters.bells,
           (unsigned long long)wakes);
    if (lost != 0) {
        printf("lost wake-up\n");
        return STRESS_ASLEEP;
    }
    return STRESS_OK;
}
