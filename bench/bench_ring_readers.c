/* What does a record cost its writer, with N readers attached?
 *
 *     core A: publishes without pause, flushes every FLUSH_EVERY records, as after a socket read
 *     the other cores, in turn: N readers, BATCH a call, each of the whole ring
 *         spinning     unknown to the writer, which looks at nobody: only their loads cost it
 *         registered   the same, in the writer's audience: a fence and N words a flush
 *         parked       registered, and asleep whenever there is nothing to read
 *
 * Cores: 2, all busy. With two, all N readers share the second: N is then how many words the writer
 * looks at and how many sleepers it wakes, while hardly more than one reader runs at a time. Each
 * one's own rate shows that. Use: bench_ring_readers MS CORE_A CORE_B...
 */
#include "rings.h"

#include "audience.h"

enum { DEPTH = 65536, READERS = 16, BATCH = 64, FLUSH_EVERY = 16 };
enum { PHASE_MS = 40, BASE_MS = 10, CORES_MAX = 64 };
enum mode { SPINNING, REGISTERED, PARKED, MODES };

static const char *const MODE_NAME[] = {"spinning", "registered", "parked"};

struct result {
    alignas(64) uint64_t received;
    uint64_t lost;
};

struct arena {
    struct bench_phase phase; /* what: enum mode; argument: how many readers take part */
    struct result result[READERS];
    struct md_reader_page page[READERS];
    struct md_counter_block counters;
};

/* One phase of one reader. Returns whether it received exactly what it should. */
static bool
read_phase(struct arena *arena, struct md_ring_header *header, uint32_t me, enum mode mode) {
    struct md_reader_page *page = &arena->page[me];
    memset((void *)&page->polls, 0, sizeof *page - offsetof(struct md_reader_page, polls));
    page->reader_id = mode == SPINNING ? 0 : me + 1;
    struct md_source source;
    md_source_init(&source, header, page, 0, MD_SHARE_ONE);
    struct md_poller poller = {.sources = &source, .source_count = 1, .page = page};
    struct md_waiter waiter = {.stop = &arena->phase.over};
    struct md_record records[BATCH];
    uint64_t first = source.reader.next, wrong = 0;
    bench_add(&arena->phase.ready);
    while (!bench_over(&arena->phase)) {
        uint64_t n = md_poller_read(&poller, records, BATCH);
        wrong += bench_wrong(records, n);
        if (n == 0 && mode == PARKED) {
            md_park(&poller, &waiter, MD_PARK_NS_MAX);
        } else if (n == 0) {
            md_pause();
        }
    }
    arena->result[me] = (struct result){.received = page->received, .lost = page->lost};
    return wrong == 0 && page->received + page->lost == source.reader.next - first;
}

static int run_reader(struct arena *arena, struct md_ring_header *header, uint32_t me) {
    int failed = 0;
    for (uint32_t seen = 0; bench_next(&arena->phase, &seen);) {
        if (me < arena->phase.argument) {
            failed |= !read_phase(arena, header, me, (enum mode)arena->phase.what);
            bench_add(&arena->phase.finished);
        }
    }
    return failed;
}

/* Publish for a while; the time one record took, in ns. */
static double publish_for(struct md_ring_writer *writer, struct md_audience *audience, int ms) {
    uint64_t first = writer->next;
    int64_t start_ns = bench_now_ns();
    int64_t until_ns = start_ns + ms * INT64_C(1000000);
    int64_t now_ns = start_ns;
    while (now_ns < until_ns) {
        for (unsigned flushes = 0; flushes < 64; flushes++) {
            for (unsigned i = 0; i < FLUSH_EVERY; i++) {
                bench_publish(writer, 0);
            }
            md_audience_flush(audience, now_ns);
        }
        now_ns = bench_now_ns();
    }
    return (double)(now_ns - start_ns) / (double)(writer->next - first);
}

static void measure(struct arena *arena,
                    struct md_ring_writer *writer,
                    struct md_audience *audience,
                    enum mode mode,
                    uint32_t readers) {
    bench_begin(&arena->phase, mode, readers, readers);
    for (uint32_t i = 0; i < readers && mode != SPINNING; i++) {
        md_audience_add(audience, i + 1, &arena->page[i].ring[0], 0);
    }
    uint64_t first = writer->next;
    int64_t start_ns = bench_now_ns();
    double ns = publish_for(writer, audience, readers == 0 ? BASE_MS : PHASE_MS);
    double seconds = (double)(bench_now_ns() - start_ns) / 1e9;
    for (uint32_t i = 0; i < readers; i++) {
        md_audience_remove(audience, i + 1);
    }
    bench_end(&arena->phase, readers);
    uint64_t received = 0;
    for (uint32_t i = 0; i < readers; i++) {
        received += arena->result[i].received;
    }
    printf("{\"mode\": \"%s\", \"readers\": %u, \"ns\": %.3f, \"published\": %lu, "
           "\"reader_per_s\": %.0f}\n",
           MODE_NAME[mode],
           readers,
           ns,
           (unsigned long)(writer->next - first),
           readers == 0 ? 0.0 : (double)received / readers / seconds);
}

int main(int argc, char **argv) {
    if (argc < 4 || argc > 3 + CORES_MAX) {
        fprintf(stderr, "use: %s MILLISECONDS CORE_A CORE_B...\n", argv[0]);
        return 64;
    }
    int core_a = bench_core(argv[2]);
    struct arena *arena = bench_shared(sizeof *arena);
    struct md_ring_header *header = bench_ring(bench_shared(md_ring_size(DEPTH)), DEPTH, 0);
    for (uint32_t i = 0; i < READERS; i++) {
        if (bench_fork_child(core_a, bench_core(argv[3 + i % (uint32_t)(argc - 3)]))) {
            _exit(run_reader(arena, header, i));
        }
    }
    struct md_ring_writer writer = md_writer_init(header, 1);
    struct md_audience audience;
    md_audience_init(&audience, &writer, &arena->counters, 0);
    int64_t until_ns = bench_now_ns() + strtoll(argv[1], NULL, 10) * 1000000;
    do {
        for (uint32_t readers = 1; readers <= READERS; readers *= 2) {
            for (int mode = 0; mode < MODES; mode++) {
                measure(arena, &writer, &audience, SPINNING, 0);
                measure(arena, &writer, &audience, (enum mode)mode, readers);
            }
        }
    } while (bench_now_ns() < until_ns);
    measure(arena, &writer, &audience, SPINNING, 0);
    bench_begin(&arena->phase, BENCH_STOP, 0, 0);
    int wrong = 0;
    for (uint32_t i = 0; i < READERS; i++) {
        wrong |= bench_wait_child();
    }
    if (wrong) {
        fprintf(stderr, "bench: a reader was given something else than it counted\n");
    }
    return wrong;
}
