/* What does a record cost to read, when it comes from one of 1, 8 or 64 rings?
 *
 *     one thread: publishes RECORDS, then reads them by md_poller_read, and only that is timed
 *         single   one ring is busy, its neighbours idle; one record a call, as when caught up
 *         batch    the same, up to BATCH a call, as when behind
 *         all      every ring holds as many, up to BATCH a call
 *     read       the yardstick: md_reader_read of one ring, without poller, counts or page
 *
 * Everything lies in the core's own caches: what is measured is instructions, not transfers.
 *
 * Cores: 1. Use: bench_poll_rings CORE MS
 */
#include "rings.h"

enum { RINGS = 64, DEPTH = 1024, RECORDS = 512, BATCH = 64, TURNS = 16 };
enum way { SINGLE, BATCHED, ALL, WAYS };

static const char *const WAY_NAME[] = {"single", "batch", "all"};

struct rings {
    struct md_ring_header *header[RINGS];
    struct md_ring_writer writer[RINGS];
};

/* Publish RECORDS, to the last ring or to all alike. */
static void fill(struct rings *rings, uint32_t count, enum way way) {
    for (unsigned i = 0; i < RECORDS; i++) {
        bench_publish(&rings->writer[way == ALL ? i % count : count - 1], 0);
    }
    for (uint32_t i = 0; i < count; i++) {
        md_ring_flush(&rings->writer[i], 0);
    }
}

static double ns_of(uint64_t ticks, double ns_per_tick) {
    return (double)ticks * ns_per_tick / (TURNS * RECORDS);
}

static uint64_t read_bare(struct rings *rings, uint64_t batch, uint64_t *wrong) {
    struct md_ring_reader reader = md_reader_init(rings->header[0]);
    struct md_record records[BATCH];
    uint64_t ticks = 0;
    for (unsigned turn = 0; turn < TURNS; turn++) {
        fill(rings, 1, SINGLE);
        uint64_t start = bench_ticks();
        for (uint64_t read = 0, calls = 0; read < RECORDS && calls < RECORDS; calls++) {
            read += md_reader_read(&reader, records, batch);
        }
        ticks += bench_ticks() - start;
        *wrong += bench_wrong(records, 1) + (reader.next != rings->writer[0].next);
    }
    return ticks;
}

static uint64_t read_polled(struct rings *rings, uint32_t count, enum way way, uint64_t *wrong) {
    static struct md_reader_page page;
    static struct md_source sources[RINGS];
    memset(&page, 0, sizeof page);
    for (uint32_t i = 0; i < count; i++) {
        md_source_init(&sources[i], rings->header[i], &page, 0, MD_SHARE_ONE);
    }
    struct md_poller poller = {.sources = sources, .source_count = count, .page = &page};
    struct md_record records[BATCH];
    uint64_t ticks = 0;
    for (unsigned turn = 0; turn < TURNS; turn++) {
        fill(rings, count, way);
        uint64_t start = bench_ticks();
        for (uint64_t read = 0, calls = 0; read < RECORDS && calls < RECORDS; calls++) {
            read += md_poller_read(&poller, records, way == SINGLE ? 1 : BATCH);
        }
        ticks += bench_ticks() - start;
        *wrong += bench_wrong(records, 1);
    }
    *wrong += page.received != TURNS * RECORDS || page.lost != 0;
    for (uint32_t i = 0; i < count; i++) {
        *wrong += sources[i].reader.next != rings->writer[i].next;
    }
    return ticks;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "use: %s CORE MILLISECONDS\n", argv[0]);
        return 64;
    }
    bench_pin(bench_core(argv[1]));
    static struct rings rings;
    char *memory = bench_shared(RINGS * md_ring_size(DEPTH));
    for (uint32_t i = 0; i < RINGS; i++) {
        rings.header[i] = bench_ring(memory + i * md_ring_size(DEPTH), DEPTH, i);
        rings.writer[i] = md_writer_init(rings.header[i], 1);
        /* Rings stand at different places in life; at the same one they would share a cache set. */
        for (uint32_t k = 0; k < i; k++) {
            bench_publish(&rings.writer[i], 0);
        }
        md_ring_flush(&rings.writer[i], 0);
    }
    const double tick = bench_ns_per_tick();
    int64_t until_ns = bench_now_ns() + strtoll(argv[2], NULL, 10) * 1000000;
    uint64_t wrong = 0;
    do {
        for (int way = 0; way < WAYS; way++) {
            uint64_t batch = way == SINGLE ? 1 : BATCH;
            printf("{\"way\": \"%s\", \"read\": %.3f",
                   WAY_NAME[way],
                   ns_of(read_bare(&rings, batch, &wrong), tick));
            for (uint32_t count = 1; count <= RINGS; count *= 8) {
                uint64_t ticks = read_polled(&rings, count, (enum way)way, &wrong);
                printf(", \"%u\": %.3f", count, ns_of(ticks, tick));
            }
            printf("}\n");
        }
    } while (bench_now_ns() < until_ns);
    if (wrong != 0) {
        fprintf(stderr, "bench: a record was read altered or not at all\n");
    }
    return wrong != 0;
}
