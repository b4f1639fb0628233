/* What does the doorbell cost the writer?
 *
 *     core A: publishes a record and flushes, as after a socket read of one frame
 *         plain      md_ring_flush: no audience at all
 *         nobody     md_audience_flush, nobody registered
 *         awake      1 or 16 registered readers, none asleep: a fence, and a word of each
 *         asleep     1 or 16 of them asleep on core B: the futex call, and the kernel's work
 *     core B: the sleepers, who park again as soon as they have read
 *
 * The audience's words lie in the readers' pages and are stored to only by who parks, so of those
 * awake they stay in the writer's cache; here nobody stores to them.
 *
 * Cores: 2, the second idle but for the sleepers. Use: bench_bell CORE_A CORE_B MS
 */
#include "rings.h"

#include "audience.h"

enum { DEPTH = 4096, READERS = 16, BATCH = 64, FLUSHES = 20000, WAKES = 40, SETTLE_NS = 30000 };

struct arena {
    struct bench_phase phase; /* argument: how many readers take part */
    struct md_reader_page page[READERS];
    struct md_counter_block counters;
};

static int run_sleeper(struct arena *arena, struct md_ring_header *header, uint32_t me) {
    uint64_t wrong = 0;
    for (uint32_t seen = 0; bench_next(&arena->phase, &seen);) {
        if (me >= arena->phase.argument) {
            continue;
        }
        struct md_reader_page *page = &arena->page[me];
        struct md_source source;
        md_source_init(&source, header, page, 0, MD_SHARE_ONE);
        struct md_poller poller = {.sources = &source, .source_count = 1, .page = page};
        struct md_waiter waiter = {.stop = &arena->phase.over};
        struct md_record records[BATCH];
        bench_add(&arena->phase.ready);
        while (!bench_over(&arena->phase)) {
            uint64_t n = md_poller_read(&poller, records, BATCH);
            wrong += bench_wrong(records, n);
            if (n == 0) {
                md_park(&poller, &waiter, MD_PARK_NS_MAX);
            }
        }
        wrong += source.reader.lost;
        bench_add(&arena->phase.finished);
    }
    return wrong != 0;
}

static void listen_all(struct md_audience *audience, struct arena *arena, uint32_t readers) {
    for (uint32_t i = 0; i < READERS; i++) {
        md_audience_remove(audience, i + 1);
    }
    for (uint32_t i = 0; i < readers; i++) {
        md_audience_add(audience, i + 1, &arena->page[i].ring[0], 0);
    }
}

/* The time of one publish and flush while nobody sleeps, in ticks. */
static double flush_awake(struct md_ring_writer *writer, bool plain) {
    uint64_t start = bench_ticks();
    for (unsigned i = 0; i < FLUSHES; i++) {
        bench_publish(writer, 0);
        if (plain) {
            md_ring_flush(writer, (int64_t)i);
        } else {
            md_audience_flush(writer->audience, (int64_t)i);
        }
    }
    return (double)(bench_ticks() - start) / FLUSHES;
}

static bool all_asleep(const struct md_audience *audience, uint32_t readers) {
    uint64_t bell = audience->writer->header->bell;
    uint32_t asleep = 0;
    for (uint32_t i = 0; i < readers; i++) {
        asleep += md_load_relaxed_u64(&audience->listeners[i].place->asleep) == bell + 1;
    }
    return asleep == readers;
}

/* The same while all of them do. A word says so shortly before the kernel does, hence the wait. */
static double flush_asleep(struct arena *arena, struct md_audience *audience, uint32_t readers) {
    static uint32_t samples[WAKES];
    bench_begin(&arena->phase, 0, readers, readers);
    for (unsigned i = 0; i < WAKES; i++) {
        while (!all_asleep(audience, readers)) {
            md_pause();
        }
        for (int64_t until = bench_now_ns() + SETTLE_NS; bench_now_ns() < until;) {
        }
        uint64_t start = bench_ticks();
        bench_publish(audience->writer, 0);
        md_audience_flush(audience, (int64_t)i);
        samples[i] = (uint32_t)(bench_ticks() - start);
    }
    bench_end(&arena->phase, readers);
    qsort(samples, WAKES, sizeof *samples, bench_compare_u32);
    return samples[WAKES / 2];
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "use: %s CORE_A CORE_B MILLISECONDS\n", argv[0]);
        return 64;
    }
    int core_a = bench_core(argv[1]), core_b = bench_core(argv[2]);
    struct arena *arena = bench_shared(sizeof *arena);
    struct md_ring_header *header = bench_ring(bench_shared(md_ring_size(DEPTH)), DEPTH, 0);
    for (uint32_t i = 0; i < READERS; i++) {
        arena->page[i].reader_id = i + 1;
        if (bench_fork_child(core_a, core_b)) {
            _exit(run_sleeper(arena, header, i));
        }
    }
    double tick = bench_ns_per_tick();
    struct md_ring_writer writer = md_writer_init(header, 1);
    struct md_audience audience;
    md_audience_init(&audience, &writer, &arena->counters, 0);
    int64_t until_ns = bench_now_ns() + strtoll(argv[3], NULL, 10) * 1000000;
    uint64_t asked = 0;
    do {
        printf("{\"plain\": %.3f", tick * flush_awake(&writer, true));
        listen_all(&audience, arena, 0);
        printf(", \"nobody\": %.3f", tick * flush_awake(&writer, false));
        for (uint32_t readers = 1; readers <= READERS; readers *= READERS) {
            listen_all(&audience, arena, readers);
            printf(", \"awake_%u\": %.3f", readers, tick * flush_awake(&writer, false));
            printf(
                ", \"asleep_%u\": %.3f", readers, tick * flush_asleep(arena, &audience, readers));
            asked += WAKES;
        }
        printf("}\n");
    } while (bench_now_ns() < until_ns);
    bench_begin(&arena->phase, BENCH_STOP, 0, 0);
    int wrong = arena->counters.bells != asked || header->bell != asked;
    for (uint32_t i = 0; i < READERS; i++) {
        wrong |= bench_wait_child();
    }
    if (wrong) {
        fprintf(stderr,
                "bench: a record was lost, or the bell rang more or less than once a sleep\n");
    }
    return wrong;
}
