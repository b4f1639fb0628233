/* How many records a second go through, none lost, by how many are handed over at a time?
 *
 *     core A, the writer                        core B, the reader
 *     claims, fills and releases frames of   -> takes up to as many a call, sums every word
 *     BATCH; waits by the reader's line      <- stores how far it is every DEPTH/16 records
 *
 * The ring as bench_ring_throughput.c has it; there single records and batches of 64 are held
 * against a queue, here the sizes against each other.
 *
 * Cores: 2, both busy. Use: bench_ring_batches CORE_A CORE_B MS
 */
#include "rings.h"

enum {
    DEPTH = 65536,
    RECORDS = 1 << 18,
    BATCH_MAX = 1024,
    REPORT_EVERY = DEPTH / 16,
    TRIPS = 2000
};

struct arena {
    struct bench_phase phase; /* what: 1 the floor; argument: the batch */
    alignas(64) uint64_t ping;
    alignas(64) uint64_t pong;
    alignas(64) uint64_t reader_next; /* B: all before this it has read */
    uint64_t wrong;
};

static void produce(struct md_ring_writer *writer, const struct arena *arena, uint64_t batch) {
    uint64_t end = writer->next + RECORDS;
    uint64_t limit = md_load_acquire_u64(&arena->reader_next) + DEPTH - MD_CLAIM_AHEAD;
    while (writer->next != end) {
        while (writer->next + batch > limit) {
            limit = md_load_acquire_u64(&arena->reader_next) + DEPTH - MD_CLAIM_AHEAD;
        }
        for (uint64_t i = 0; i < batch; i++) {
            uint64_t seq = writer->next + i;
            struct md_slot *slot = md_ring_claim(writer, seq);
            for (unsigned word = 0; word < MD_SLOT_WORDS; word++) {
                md_slot_put(slot, word, seq + word + 1);
            }
        }
        md_ring_release(writer, batch);
    }
    md_ring_flush(writer, 0);
}

/* Returns whether the sum of all words is what produce wrote. */
static bool consume(struct md_ring_reader *reader, struct arena *arena, uint64_t batch) {
    static struct md_record records[BATCH_MAX];
    uint64_t first = reader->next, end = first + RECORDS, sum = 0;
    for (uint64_t report = first; reader->next != end;) {
        uint64_t count = md_reader_read(reader, records, batch);
        for (uint64_t i = 0; i < count; i++) {
            uint64_t word[8];
            memcpy(word, &records[i], sizeof word);
            sum += word[0] + word[1] + word[2] + word[3] + word[4] + word[5] + word[6] + word[7];
        }
        if (reader->next >= report) {
            md_store_release_u64(&arena->reader_next, reader->next);
            report = reader->next + REPORT_EVERY;
        }
    }
    md_store_release_u64(&arena->reader_next, reader->next);
    uint64_t seqs = RECORDS * first + (uint64_t)RECORDS * (RECORDS - 1) / 2;
    return sum == 8 * seqs + UINT64_C(28) * RECORDS && reader->lost == 0;
}

/* One end of the tight ping-pong, which tells the placement. */
static void trips(uint64_t *out, const uint64_t *in, uint64_t base, bool begins) {
    for (uint64_t i = base + 1; i <= base + TRIPS; i++) {
        if (begins) {
            md_store_release_u64(out, i);
        }
        while (md_load_acquire_u64(in) != i) {
        }
        if (!begins) {
            md_store_release_u64(out, i);
        }
    }
}

static int run_b(struct arena *arena, struct md_ring_header *header) {
    struct md_ring_reader reader = md_reader_init(header);
    for (uint32_t seen = 0; bench_next(&arena->phase, &seen);) {
        bench_add(&arena->phase.ready);
        if (arena->phase.what == 1) {
            trips(&arena->pong, &arena->ping, (uint64_t)arena->phase.argument * TRIPS, false);
        } else {
            arena->wrong += !consume(&reader, arena, arena->phase.argument);
        }
        bench_add(&arena->phase.finished);
    }
    return arena->wrong != 0;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "use: %s CORE_A CORE_B MILLISECONDS\n", argv[0]);
        return 64;
    }
    int core_a = bench_core(argv[1]), core_b = bench_core(argv[2]);
    struct arena *arena = bench_shared(sizeof *arena);
    struct md_ring_header *header = bench_ring(bench_shared(md_ring_size(DEPTH)), DEPTH, 0);
    arena->reader_next = 1;
    if (bench_fork_child(core_a, core_b)) {
        _exit(run_b(arena, header));
    }
    struct md_ring_writer writer = md_writer_init(header, 1);
    int64_t until_ns = bench_now_ns() + strtoll(argv[3], NULL, 10) * 1000000;
    for (uint32_t round = 0; round < 3 || bench_now_ns() < until_ns; round++) {
        bench_begin(&arena->phase, 1, round, 1);
        int64_t start_ns = bench_now_ns();
        trips(&arena->ping, &arena->pong, (uint64_t)round * TRIPS, true);
        printf("{\"floor\": %.3f", (double)(bench_now_ns() - start_ns) / (2 * TRIPS));
        bench_await(&arena->phase.finished, 1);
        for (uint32_t batch = 1; batch <= BATCH_MAX; batch *= 2) {
            bench_begin(&arena->phase, 0, batch, 1);
            start_ns = bench_now_ns();
            produce(&writer, arena, batch);
            while (md_load_acquire_u64(&arena->reader_next) != writer.next) {
            }
            printf(", \"%u\": %.3f", batch, (double)(bench_now_ns() - start_ns) / RECORDS);
            bench_await(&arena->phase.finished, 1);
        }
        printf("}\n");
    }
    bench_begin(&arena->phase, BENCH_STOP, 0, 0);
    if (bench_wait_child() != 0) {
        fprintf(stderr, "bench: the sum of what arrived is wrong, or something was lost\n");
        return 1;
    }
    return 0;
}
