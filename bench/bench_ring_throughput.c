/* How many messages a second go through, none lost, against an index queue (spsc.h)?
 *
 *     core A, the writer                     core B, the reader
 *     claim, fill in place, release  -->     takes 1 (or up to 64) a call, sums every word
 *            ^                                   |
 *            '------ how far the reader is <-----'   one line, stored every DEPTH/16 messages
 *
 * The ring itself never waits for readers. Here the writer does, by that line, since what is asked
 * for is lossless: exactly the bound that a queue of the same 65,536 slots gives.
 *
 * Cores: 2, both busy. Use: bench_ring_throughput CORE_A CORE_B MS
 */
#include "bench.h"
#include "mdsys/ring.h"
#include "spsc.h"

enum { DEPTH = SPSC_CAPACITY, MESSAGES = 1000000, BATCH = 64, REPORT_EVERY = DEPTH / 16 };

struct line {
    alignas(64) uint64_t value;
};

struct arena {
    struct line round;    /* A counts phases up; STOP ends B */
    struct line finished; /* B: the phase it has taken everything of */
    struct line floor[2];
    struct line reader_next; /* B: all before this it has read */
    uint64_t sum;            /* B's, of the phase that is finished */
};

#define STOP UINT64_MAX

enum phase { PHASE_FLOOR, PHASE_SPSC, PHASE_SINGLE, PHASE_BATCH_READ, PHASE_BATCH, PHASE_COUNT };
static const char *const PHASE_NAME[] = {"floor", "spsc", "single", "batch_read", "batch64"};

/* As in spsc.h: message n is the words n .. n + 7; of a record the first is its sequence. */
static uint64_t sum_of(uint64_t first, uint64_t count) {
    return 8 * (count * first + count * (count - 1) / 2) + 28 * count;
}

static void fill(struct md_ring_writer *writer, uint64_t n) {
    struct md_slot *slot = md_ring_claim(writer, n);
    for (unsigned i = 0; i < MD_SLOT_WORDS; i++) {
        md_slot_put(slot, i, n + i + 1);
    }
}

static void ring_produce(struct md_ring_writer *writer, struct arena *arena, uint64_t batch) {
    uint64_t end = writer->next + MESSAGES;
    uint64_t limit = 0; /* may be published: what is less than a ring ahead of the reader */
    while (writer->next != end) {
        uint64_t count = end - writer->next < batch ? end - writer->next : batch;
        while (writer->next + count > limit) {
            limit = md_load_acquire_u64(&arena->reader_next.value) + DEPTH - BATCH;
        }
        for (uint64_t i = 0; i < count; i++) {
            fill(writer, writer->next + i);
        }
        md_ring_release(writer, count);
    }
    md_ring_flush(writer, 0);
}

static uint64_t ring_consume(struct md_ring_reader *reader, struct arena *arena, uint64_t batch) {
    struct md_record records[BATCH];
    uint64_t end = reader->next + MESSAGES;
    uint64_t sum = 0;
    for (uint64_t report = reader->next; reader->next != end;) {
        uint64_t count = md_reader_read(reader, records, batch);
        for (uint64_t i = 0; i < count; i++) {
            uint64_t word[8];
            memcpy(word, &records[i], sizeof word);
            sum += word[0] + word[1] + word[2] + word[3] + word[4] + word[5] + word[6] + word[7];
        }
        if (reader->next >= report) {
            md_store_release_u64(&arena->reader_next.value, reader->next);
            report = reader->next + REPORT_EVERY;
        }
    }
    md_store_release_u64(&arena->reader_next.value, reader->next);
    return sum;
}

/* Half a round trip of the tight ping-pong, to tell the placement. */
static void floor_trips(struct arena *arena, unsigned me, uint64_t base) {
    for (uint64_t i = base; i < base + MESSAGES / 256; i++) {
        if (me == 0) {
            md_store_release_u64(&arena->floor[0].value, i);
        }
        while (md_load_acquire_u64(&arena->floor[1 - me].value) != i) {
        }
        if (me == 1) {
            md_store_release_u64(&arena->floor[1].value, i);
        }
    }
}

static void run_b(struct arena *arena, struct md_ring_reader *reader, struct spsc *queue) {
    for (uint64_t round = 1;; round++) {
        uint64_t now;
        while ((now = md_load_acquire_u64(&arena->round.value)) < round) {
        }
        if (now == STOP) {
            break;
        }
        switch (round % PHASE_COUNT) {
        case PHASE_FLOOR:
            floor_trips(arena, 1, round * MESSAGES);
            break;
        case PHASE_SPSC:
            arena->sum = spsc_consume(queue, MESSAGES);
            break;
        case PHASE_SINGLE:
            arena->sum = ring_consume(reader, arena, 1);
            break;
        default:
            arena->sum = ring_consume(reader, arena, BATCH);
        }
        md_store_release_u64(&arena->finished.value, round);
    }
}

static int
run_a(struct arena *arena, struct md_ring_writer *writer, struct spsc *queue, int64_t until_ns) {
    int wrong = 0;
    for (uint64_t round = 1; bench_now_ns() < until_ns || round % PHASE_COUNT != 0; round++) {
        enum phase phase = (enum phase)(round % PHASE_COUNT);
        uint64_t first = phase == PHASE_SPSC ? round * MESSAGES : writer->next;
        int64_t start_ns = bench_now_ns();
        md_store_release_u64(&arena->round.value, round);
        switch (phase) {
        case PHASE_FLOOR:
            floor_trips(arena, 0, round * MESSAGES);
            break;
        case PHASE_SPSC:
            spsc_produce(queue, first, MESSAGES);
            break;
        default:
            ring_produce(writer, arena, phase == PHASE_BATCH ? BATCH : 1);
        }
        while (md_load_acquire_u64(&arena->finished.value) != round) {
        }
        double took_ns = (double)(bench_now_ns() - start_ns);
        wrong |= phase != PHASE_FLOOR && arena->sum != sum_of(first, MESSAGES);
        printf("{\"phase\": \"%s\", \"ns\": %.3f}\n",
               PHASE_NAME[phase],
               phase == PHASE_FLOOR ? took_ns / (MESSAGES / 256 * 2) : took_ns / MESSAGES);
    }
    md_store_release_u64(&arena->round.value, STOP);
    return wrong;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "use: %s CORE_A CORE_B MILLISECONDS\n", argv[0]);
        return 64;
    }
    int core_a = bench_core(argv[1]), core_b = bench_core(argv[2]);
    struct arena *arena = bench_shared(sizeof *arena);
    struct spsc *queue = spsc_create(bench_shared(spsc_size()));
    char *memory = bench_shared(MD_PAGE_HEADER_SIZE + DEPTH * sizeof(struct md_slot));
    struct md_ring_header *header = (struct md_ring_header *)(void *)memory;
    struct md_slot *slots = (struct md_slot *)(void *)(memory + MD_PAGE_HEADER_SIZE);
    md_store_release_u64(&arena->reader_next.value, 1);
    if (bench_fork_child(core_a, core_b)) {
        struct md_ring_reader reader = {
            .slots = slots, .mask = DEPTH - 1, .next = 1, .header = header};
        run_b(arena, &reader, queue);
        _exit(reader.lost != 0);
    }
    struct md_ring_writer writer = {.slots = slots, .mask = DEPTH - 1, .next = 1, .header = header};
    int64_t until_ns = bench_now_ns() + strtoll(argv[3], NULL, 10) * 1000000;
    int wrong = run_a(arena, &writer, queue, until_ns);
    if (bench_wait_child() != 0 || wrong) {
        fprintf(stderr, "bench: the sum of what arrived is wrong, or something was lost\n");
        return 1;
    }
    return 0;
}
