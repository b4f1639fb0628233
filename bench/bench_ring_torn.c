/* Is a record ever handed out torn, when the writer overruns the reader in the middle of a copy?
 *
 *     core A: publishes without pause into a ring of DEPTH slots, every word made of the sequence
 *     core B: reads always from the oldest slot on, the one that is overwritten next, and holds
 *             every word of what it is given against the sequence it bears
 *
 * B calls the shipped md_reader_read. That a copy was thrown away shows in the buffer: a try that
 * was overrun is followed by one for a quarter as many, so what lies beyond that in the buffer
 * and is not part of the answer was copied and refused. Copies shorter than that are not counted,
 * so "refused" is a lower bound.
 *
 * Cores: 2, both busy. Use: bench_ring_torn CORE_A CORE_B MS REFUSED; ends at the first of the two.
 */
#include "bench.h"
#include "mdsys/ring.h"

enum { DEPTH = 256, BATCH = 16, SECOND_TRY = BATCH / 4 + 1, AHEAD_MAX = 32 };

struct arena {
    alignas(64) uint64_t stop;
    alignas(64) struct md_ring_header header;
    alignas(4096) struct md_slot slots[DEPTH];
};

static uint64_t word_of(uint64_t seq, unsigned index) {
    return (seq + index) * UINT64_C(0x9e3779b97f4a7c15);
}

static void write_until_stopped(struct arena *arena) {
    struct md_ring_writer writer = {
        .slots = arena->slots,
        .mask = DEPTH - 1,
        .next = 1,
        .limit = MD_NO_LIMIT,
        .header = &arena->header,
    };
    while (md_load_acquire_u64(&arena->stop) == 0) {
        uint64_t seq = writer.next;
        struct md_slot *slot = md_ring_claim(&writer, seq);
        for (unsigned i = 0; i < MD_SLOT_WORDS; i++) {
            md_slot_put(slot, i, word_of(seq, i));
        }
        md_ring_release(&writer, 1);
        md_ring_flush(&writer, 0);
    }
}

static bool is_whole(const struct md_record *record) {
    uint64_t word[MD_SLOT_WORDS + 1];
    memcpy(word, record, sizeof word);
    bool whole = true;
    for (unsigned i = 0; i < MD_SLOT_WORDS; i++) {
        whole &= word[i + 1] == word_of(word[0], i);
    }
    return whole;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "use: %s CORE_A CORE_B MILLISECONDS REFUSED\n", argv[0]);
        return 64;
    }
    int core_a = bench_core(argv[1]), core_b = bench_core(argv[2]);
    int64_t until_ns = bench_now_ns() + strtoll(argv[3], NULL, 10) * 1000000;
    uint64_t wanted = strtoull(argv[4], NULL, 10);
    struct arena *arena = bench_shared(sizeof *arena);
    if (bench_fork_child(core_b, core_a)) {
        write_until_stopped(arena);
        _exit(0);
    }
    struct md_ring_reader reader = {
        .slots = arena->slots, .mask = DEPTH - 1, .next = 1, .header = &arena->header};
    uint64_t reads = 0, refused = 0, accepted = 0, torn = 0;
    while (refused < wanted && ((reads & 0xffff) != 0 || bench_now_ns() < until_ns)) {
        struct md_record records[BATCH];
        uint64_t newest = md_load_acquire_u64(&arena->header.cursor);
        /* How far the writer comes before our first look depends on where the two cores are, so
         * every lead is tried in turn: some are overrun before the copy, some in it, some not. */
        uint64_t ahead = reads % AHEAD_MAX;
        reader.next = newest + ahead > DEPTH ? newest + ahead - DEPTH : 1;
        records[SECOND_TRY].seq = 0;
        uint64_t count = md_reader_read(&reader, records, BATCH);
        for (uint64_t i = 0; i < count; i++) {
            torn += !is_whole(&records[i]);
        }
        refused += count <= SECOND_TRY && records[SECOND_TRY].seq != 0;
        accepted += count;
        reads++;
    }
    md_store_release_u64(&arena->stop, 1);
    printf("{\"reads\": %lu, \"refused\": %lu, \"accepted\": %lu, \"torn\": %lu}\n",
           (unsigned long)reads,
           (unsigned long)refused,
           (unsigned long)accepted,
           (unsigned long)torn);
    return bench_wait_child();
}
