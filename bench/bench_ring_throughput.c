/* How many messages a second go through, none lost, against an index queue (spsc.h)?
 *
 *     core A, the writer                        core B, the reader
 *     claim, fill in place, release n   -->     takes up to m a call, sums every word
 *            ^                                      |
 *            '------- how far the reader is <-------'   after each read, in a line of its own
 *
 * This is the lossless mode as it ships: the writer waits by its audience (native/src/audience.h),
 * the reader shows its place and keeps its distance (md_reader_pace). The ring has as many slots as
 * the queue. What differs: here no wait ends in an ejection, since on a machine shared with others
 * the kernel takes the reader's core away for longer than that.
 *
 * Cores: 2, both busy. Use: bench_ring_throughput CORE_A CORE_B MS n:m...
 */
#include <sys/resource.h>

#include "audience.h"
#include "bench.h"
#include "spsc.h"

enum { DEPTH = SPSC_CAPACITY, MESSAGES = 200000, TRIPS = 2000, BATCH_MAX = 256, MEASURES_MAX = 32 };

struct line {
    alignas(64) uint64_t value;
};

struct arena {
    struct line round;    /* A counts phases up; STOP ends B */
    struct line finished; /* B: the phase it has taken everything of */
    struct line floor[2];
    struct md_reader_ring place; /* B: all before its `next` it has read */
    uint64_t sum;                /* B's, of the phase that is finished; */
    uint64_t switches;           /* and how often it lost its core */
};

#define STOP UINT64_MAX

enum phase { PHASE_FLOOR, PHASE_SPSC, PHASE_RING }; /* and PHASE_RING + 1 ..., one a measure */

struct measure {
    const char *name;
    uint64_t write; /* records a release, in [1, BATCH_MAX] */
    uint64_t read;  /* at most, a read; in [1, BATCH_MAX] */
};

static struct measure measures[MEASURES_MAX];
static uint64_t phase_count = PHASE_RING;

/* As in spsc.h: message n is the words n .. n + 7; of a record the first is its sequence. */
static uint64_t sum_of(uint64_t first, uint64_t count) {
    return 8 * (count * first + count * (count - 1) / 2) + 28 * count;
}

static inline void fill(struct md_slot *slot, uint64_t n) {
    int64_t i = (int64_t)n;
    md_slot_fill(slot, i + 1, i + 2, n + 3, i + 4, i + 5, i + 6, i + 7);
}

/* How often the kernel has given our core to another. */
static uint64_t switches(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_nivcsw;
}

/* ---- the writer --------------------------------------------------------------------------- */

static void produce_single(struct md_ring_writer *writer) {
    for (uint64_t end = writer->next + MESSAGES; writer->next != end;) {
        uint64_t seq = writer->next;
        fill(md_ring_claim(writer, seq), seq);
        md_ring_release(writer, 1);
    }
}

static void produce_batch(struct md_ring_writer *writer, uint64_t batch) {
    for (uint64_t end = writer->next + MESSAGES; writer->next != end;) {
        uint64_t first = writer->next;
        uint64_t count = end - first < batch ? end - first : batch;
        md_ring_claim_batch(writer, count);
        for (uint64_t seq = first; seq != first + count; seq++) {
            fill(md_ring_slot(writer, seq), seq);
        }
        md_ring_release(writer, count);
    }
}

/* ---- the reader --------------------------------------------------------------------------- */

static inline void show(struct md_ring_reader *reader, struct md_reader_ring *place) {
    md_store_release_u64(&place->next, reader->next); /* A0: pairs with A1 */
}

static uint64_t consume_single(struct md_ring_reader *reader, struct md_reader_ring *place) {
    struct md_pace pace = {0};
    uint64_t sum = 0;
    for (uint64_t end = reader->next + MESSAGES; reader->next < end;) {
        struct md_record record;
        uint64_t count = md_reader_read(reader, &record, 1);
        if (count != 0) {
            sum += spsc_sum(&record);
            show(reader, place);
        }
        md_reader_pace(reader, &pace, count);
    }
    return sum;
}

static uint64_t
consume_batch(struct md_ring_reader *reader, struct md_reader_ring *place, uint64_t batch) {
    struct md_record records[BATCH_MAX];
    struct md_pace pace = {0};
    uint64_t sum = 0;
    for (uint64_t end = reader->next + MESSAGES; reader->next < end;) {
        uint64_t count = md_reader_read(reader, records, batch);
        for (uint64_t i = 0; i < count; i++) {
            sum += spsc_sum(&records[i]);
        }
        if (count != 0) {
            show(reader, place);
        }
        md_reader_pace(reader, &pace, count);
    }
    return sum;
}

/* ---- both --------------------------------------------------------------------------------- */

/* Half a round trip of the tight ping-pong, to tell the placement. */
static void floor_trips(struct arena *arena, unsigned me, uint64_t base) {
    for (uint64_t i = base; i < base + TRIPS; i++) {
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
        uint64_t phase = round % phase_count;
        uint64_t before = switches();
        if (phase == PHASE_FLOOR) {
            floor_trips(arena, 1, round * TRIPS);
        } else if (phase == PHASE_SPSC) {
            arena->sum = spsc_consume(queue, MESSAGES);
        } else {
            uint64_t batch = measures[phase - PHASE_RING].read;
            arena->sum = batch == 1 ? consume_single(reader, &arena->place)
                                    : consume_batch(reader, &arena->place, batch);
        }
        arena->switches = switches() - before;
        md_store_release_u64(&arena->finished.value, round);
    }
}

static int
run_a(struct arena *arena, struct md_ring_writer *writer, struct spsc *queue, int64_t until_ns) {
    int wrong = 0;
    for (uint64_t round = 1; bench_now_ns() < until_ns || round % phase_count != 1; round++) {
        uint64_t phase = round % phase_count;
        uint64_t first = phase == PHASE_SPSC ? round * MESSAGES : writer->next;
        uint64_t before = switches();
        int64_t start_ns = bench_now_ns();
        md_store_release_u64(&arena->round.value, round);
        if (phase == PHASE_FLOOR) {
            floor_trips(arena, 0, round * TRIPS);
        } else if (phase == PHASE_SPSC) {
            spsc_produce(queue, first, MESSAGES);
        } else {
            uint64_t batch = measures[phase - PHASE_RING].write;
            if (batch == 1) {
                produce_single(writer);
            } else {
                produce_batch(writer, batch);
            }
            md_audience_flush(writer->audience, start_ns);
        }
        while (md_load_acquire_u64(&arena->finished.value) != round) {
        }
        double took_ns = (double)(bench_now_ns() - start_ns);
        wrong |= phase != PHASE_FLOOR && arena->sum != sum_of(first, MESSAGES);
        printf("{\"phase\": \"%s\", \"ns\": %.3f, \"switches\": %llu}\n",
               phase == PHASE_FLOOR  ? "floor"
               : phase == PHASE_SPSC ? "spsc"
                                     : measures[phase - PHASE_RING].name,
               phase == PHASE_FLOOR ? took_ns / (TRIPS * 2) : took_ns / MESSAGES,
               (unsigned long long)(switches() - before + arena->switches));
    }
    md_store_release_u64(&arena->round.value, STOP);
    return wrong;
}

static int parse(int argc, char **argv) {
    if (argc < 5 || argc > 4 + MEASURES_MAX) {
        return -1;
    }
    for (int i = 4; i < argc; i++) {
        struct measure *measure = &measures[i - 4];
        char *end;
        measure->name = argv[i];
        measure->write = strtoull(argv[i], &end, 10);
        measure->read = *end == ':' ? strtoull(end + 1, &end, 10) : 0;
        if (*end != '\0' || measure->write - 1 >= BATCH_MAX || measure->read - 1 >= BATCH_MAX) {
            return -1;
        }
        phase_count++;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (parse(argc, argv) != 0) {
        fprintf(stderr, "use: %s CORE_A CORE_B MILLISECONDS WRITE:READ...\n", argv[0]);
        return 64;
    }
    int core_a = bench_core(argv[1]), core_b = bench_core(argv[2]);
    struct arena *arena = bench_shared(sizeof *arena);
    struct spsc *queue = spsc_create(bench_shared(spsc_size()));
    char *memory = bench_shared(MD_PAGE_HEADER_SIZE + DEPTH * sizeof(struct md_slot));
    struct md_ring_header *header = (struct md_ring_header *)(void *)memory;
    header->depth = DEPTH;
    header->slots_offset = MD_PAGE_HEADER_SIZE;
    struct md_ring_writer writer = md_writer_init(header, 1);
    for (uint64_t seq = 1; seq <= MD_CLAIM_AHEAD; seq++) {
        md_ring_mark(&writer, seq);
    }
    md_store_release_u64(&arena->place.next, 1);
    if (bench_fork_child(core_a, core_b)) {
        struct md_ring_reader reader = md_reader_init(header);
        run_b(arena, &reader, queue);
        _exit(reader.lost != 0);
    }
    static struct md_counter_block counters;
    static struct md_audience audience;
    /* Nobody is ejected: here the kernel takes cores away for longer than any patience. */
    md_audience_init(&audience, &writer, &counters, INT64_MAX / 2);
    md_audience_add(&audience, 1, &arena->place, 1);
    md_audience_flush(&audience, bench_now_ns());
    if (writer.limit == MD_NO_LIMIT) {
        fprintf(stderr, "bench: the reader was not granted\n");
        return 1;
    }
    int64_t until_ns = bench_now_ns() + strtoll(argv[3], NULL, 10) * 1000000;
    int wrong = run_a(arena, &writer, queue, until_ns);
    if (bench_wait_child() != 0 || wrong || counters.readers_ejected != 0) {
        fprintf(stderr, "bench: the sum of what arrived is wrong, or something was lost\n");
        return 1;
    }
    return 0;
}
