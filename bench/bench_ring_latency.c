/* How long does a record take from one core to another, against what the hardware needs?
 *
 *   ping-pong (floor, floor_pause, ring) core A                    core B
 *     floor                              line X  ---- n ---->      spins on X
 *                                        spins on Y  <--- n ----   line Y
 *     floor_pause                        the same, with a pause in each turn of the spin loops
 *     ring                               ring X  -- record -->     reads, checks, answers
 *                                        reads   <- record ---     ring Y
 *     sample = half a round trip; all phases run the same loop, back to back in one round, so
 *     that all see the same placement of the virtual cores.
 *
 *   schedule (floor_paced, ring_paced)   core A sends at t, t + 1 us, t + 2 us ... and stamps the
 *     time it *should* have sent; core B takes the stamp from its own clock. Nothing that delays
 *     the sender hides. Needs time-stamp counters in step.
 *
 * Cores: 2, both busy. The ring's reader spins as mdsys's readers do, with a pause: two cores that
 * fetch a line as fast as they can get into each other's way. So the tight floor is not the least
 * that the hardware can do, only the usual yardstick; hence both. Use:
 * bench_ring_latency CORE_A CORE_B MS DEPTH SHARED_NS NEAR_NS; the last two tell placements apart
 * by the tight floor's median, so that the distributions, printed at the end, are of one each.
 */
#include "bench.h"

#include "mdsys/ring.h"

enum { TRIPS = 20000, PACED = 4000, PACED_STEP_NS = 1000 };

struct line {
    alignas(64) uint64_t value;
};

struct channel {
    struct line floor;
    struct md_ring_header *header;
    struct md_slot *slots;
};

struct clock {
    double ns;        /* of one tick */
    uint32_t granule; /* ticks by which the counter advances */
    uint64_t step;    /* ticks of the schedule */
};

/* All that both processes see. The rings' slots follow in the same mapping, page aligned. */
struct arena {
    struct line round; /* A counts rounds up; ROUND_STOP ends B */
    struct channel there, back;
    uint32_t stamps[PACED]; /* B's samples of the schedule, A's once B has answered */
    uint64_t first_due;     /* of the schedule in hand */
};

#define ROUND_STOP UINT64_MAX

struct end {
    struct channel *out_channel, *in_channel;
    struct md_ring_writer out;
    struct md_ring_reader in;
    uint64_t floor_next; /* the value that the floor's next message bears */
    uint64_t wrong;
};

static struct end make_end(struct channel *out, struct channel *in, uint64_t depth) {
    return (struct end){
        .out_channel = out,
        .in_channel = in,
        .out = {.slots = out->slots,
                .mask = depth - 1,
                .next = 1,
                .limit = MD_NO_LIMIT,
                .header = out->header},
        .in = {.slots = in->slots, .mask = depth - 1, .next = 1, .header = in->header},
        .floor_next = 1,
    };
}

static void floor_send(struct end *end) {
    md_store_release_u64(&end->out_channel->floor.value, end->floor_next);
}

static void floor_receive(struct end *end, bool pause) {
    while (md_load_acquire_u64(&end->in_channel->floor.value) != end->floor_next) {
        if (pause) {
            md_pause();
        }
    }
}

/* A quote made of the number n, encoded in place as a decoder does it, and flushed as after a
 * socket read that held one frame. */
static void ring_send(struct end *end, uint64_t n) {
    struct md_slot *slot = md_ring_claim(&end->out, end->out.next);
    int64_t v = (int64_t)n;
    md_slot_fill(
        slot, v, v + 1, md_record_tag(1, MD_KIND_QUOTE, MD_FLAG_LAST, 8, 8), v, ~v, v, v * 3);
    md_ring_release(&end->out, 1);
    md_ring_flush(&end->out, v);
}

static void ring_receive(struct end *end, struct md_record *record) {
    while (md_reader_read(&end->in, record, 1) == 0) {
        md_pause();
    }
    int64_t v = record->ts_event;
    end->wrong += record->ts_recv != v + 1 || record->body.word[0] != v ||
                  record->body.word[1] != ~v || record->body.word[3] != v * 3;
}

/* A's half of the ping-pong; samples hold whole round trips. */
static void ping_floor(struct end *end, bool pause, uint32_t *samples) {
    uint64_t start = bench_ticks();
    for (unsigned i = 0; i < TRIPS; i++) {
        floor_send(end);
        floor_receive(end, pause);
        end->floor_next++;
        uint64_t now = bench_ticks();
        samples[i] = (uint32_t)(now - start);
        start = now;
    }
}

static void pong_floor(struct end *end, bool pause) {
    for (unsigned i = 0; i < TRIPS; i++) {
        floor_receive(end, pause);
        floor_send(end);
        end->floor_next++;
    }
}

static void ping_ring(struct end *end, uint32_t *samples) {
    struct md_record record;
    uint64_t start = bench_ticks();
    for (unsigned i = 0; i < TRIPS; i++) {
        ring_send(end, i);
        ring_receive(end, &record);
        end->wrong += record.ts_event != (int64_t)i;
        uint64_t now = bench_ticks();
        samples[i] = (uint32_t)(now - start);
        start = now;
    }
}

static void pong_ring(struct end *end) {
    struct md_record record;
    for (unsigned i = 0; i < TRIPS; i++) {
        ring_receive(end, &record);
        ring_send(end, (uint64_t)record.ts_event);
    }
}

/* A's half of the schedule: the stamp is the message, PACED_END the last one. B's answer to that
 * hands the samples over. */
#define PACED_END UINT64_MAX

static void paced_put(struct end *end, bool floor, uint64_t message) {
    if (floor) {
        md_store_release_u64(&end->out_channel->floor.value, message);
    } else {
        ring_send(end, message);
    }
}

static void paced_send(struct arena *arena, struct end *end, bool floor, uint64_t step) {
    uint64_t due = bench_ticks() + 20 * step;
    arena->first_due = due; /* B reads it behind the first message */
    for (unsigned i = 0; i <= PACED; i++, due += step) {
        while (bench_ticks() < due) {
        }
        paced_put(end, floor, i < PACED ? due : PACED_END);
    }
    floor_receive(end, false);
    end->floor_next++;
}

/* The floor's line holds only the newest stamp, so a late B misses some; they were as late as the
 * schedule says, and are counted so. Of the ring it misses none. */
static void paced_receive(struct arena *arena, struct end *end, bool floor, uint64_t step) {
    uint32_t count = 0;
    uint64_t seen = md_load_acquire_u64(&end->in_channel->floor.value);
    while (count < PACED) {
        uint64_t due;
        if (floor) {
            while ((due = md_load_acquire_u64(&end->in_channel->floor.value)) == seen) {
            }
            seen = due;
        } else {
            struct md_record record;
            ring_receive(end, &record);
            due = (uint64_t)record.ts_event;
        }
        uint64_t now = bench_ticks();
        uint64_t stamp = arena->first_due + count * step;
        for (; stamp <= due && count < PACED; stamp += step) {
            arena->stamps[count++] = now > stamp ? (uint32_t)(now - stamp) : 0;
        }
    }
    while (floor && seen != PACED_END) {
        seen = md_load_acquire_u64(&end->in_channel->floor.value);
    }
    if (!floor) {
        struct md_record record;
        ring_receive(end, &record); /* PACED_END */
    }
    floor_send(end);
    end->floor_next++;
}

static void run_b(struct arena *arena, struct end *end, uint64_t step) {
    for (uint64_t round = 1;; round++) {
        uint64_t now;
        while ((now = md_load_acquire_u64(&arena->round.value)) < round) {
        }
        if (now == ROUND_STOP) {
            break;
        }
        pong_floor(end, false);
        pong_floor(end, true);
        pong_ring(end);
        for (unsigned floor = 0; floor < 2; floor++) {
            paced_receive(arena, end, floor, step);
        }
    }
}

enum phase { FLOOR, FLOOR_PAUSE, RING, RING_PACED, FLOOR_PACED, PHASES };
enum { PLACEMENTS = 3 };

static const char *const PHASE_NAME[] = {
    "floor", "floor_pause", "ring", "ring_paced", "floor_paced"};

struct report {
    struct clock clock;
    double limit_ns[PLACEMENTS - 1];
    unsigned where; /* the round's placement */
    struct bench_histogram histogram[PLACEMENTS][PHASES];
};

/* Samples of a phase, of half a round trip each or of a whole one. Sorts them. */
static void
tell(struct report *report, enum phase phase, uint32_t *samples, size_t count, double scale) {
    uint32_t granule = report->clock.granule;
    scale *= report->clock.ns;
    bench_print_percentiles(PHASE_NAME[phase], samples, count, scale, granule);
    if (phase == FLOOR) {
        double median = scale * (samples[count / 2] - granule / 2.0);
        report->where = (median >= report->limit_ns[0]) + (median >= report->limit_ns[1]);
    }
    bench_histogram_fill(&report->histogram[report->where][phase], samples, count, scale, granule);
}

static void run_a(struct arena *arena, struct end *end, struct report *report, int64_t until_ns) {
    static uint32_t samples[TRIPS];
    for (uint64_t round = 1; bench_now_ns() < until_ns; round++) {
        md_store_release_u64(&arena->round.value, round);
        ping_floor(end, false, samples);
        tell(report, FLOOR, samples, TRIPS, 0.5);
        ping_floor(end, true, samples);
        tell(report, FLOOR_PAUSE, samples, TRIPS, 0.5);
        ping_ring(end, samples);
        tell(report, RING, samples, TRIPS, 0.5);
        for (unsigned floor = 0; floor < 2; floor++) {
            paced_send(arena, end, floor, report->clock.step);
            tell(report, floor ? FLOOR_PACED : RING_PACED, arena->stamps, PACED, 1);
        }
    }
    md_store_release_u64(&arena->round.value, ROUND_STOP);
    for (unsigned where = 0; where < PLACEMENTS; where++) {
        for (unsigned phase = 0; phase < PHASES; phase++) {
            bench_print_histogram(&report->histogram[where][phase], PHASE_NAME[phase], where);
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "use: %s CORE_A CORE_B MILLISECONDS DEPTH SHARED_NS NEAR_NS\n", argv[0]);
        return 64;
    }
    int core_a = bench_core(argv[1]), core_b = bench_core(argv[2]);
    int64_t milliseconds = strtoll(argv[3], NULL, 10);
    uint64_t depth = strtoull(argv[4], NULL, 10);
    if (depth < MD_RING_DEPTH_MIN || (depth & (depth - 1)) != 0) {
        errno = EINVAL;
        bench_die("DEPTH");
    }
    size_t ring_size = MD_PAGE_HEADER_SIZE + depth * sizeof(struct md_slot);
    struct arena *arena = bench_shared(sizeof *arena);
    struct channel *channels[2] = {&arena->there, &arena->back};
    for (int i = 0; i < 2; i++) {
        char *memory = bench_shared(ring_size);
        channels[i]->header = (struct md_ring_header *)(void *)memory;
        channels[i]->slots = (struct md_slot *)(void *)(memory + MD_PAGE_HEADER_SIZE);
    }
    struct clock clock = {.ns = bench_ns_per_tick(), .granule = bench_tick_step()};
    clock.step = (uint64_t)(PACED_STEP_NS / clock.ns);
    printf("{\"memory_huge_kib\": %lu, \"depth\": %lu}\n", bench_huge_kib(), (unsigned long)depth);
    if (bench_fork_child(core_a, core_b)) {
        struct end end = make_end(&arena->back, &arena->there, depth);
        run_b(arena, &end, clock.step);
        _exit(end.wrong != 0);
    }
    struct end end = make_end(&arena->there, &arena->back, depth);
    static struct report report;
    report.clock = clock;
    report.limit_ns[0] = strtod(argv[5], NULL);
    report.limit_ns[1] = strtod(argv[6], NULL);
    run_a(arena, &end, &report, bench_now_ns() + milliseconds * 1000000);
    if (bench_wait_child() != 0 || end.wrong != 0 || end.in.lost != 0) {
        fprintf(stderr, "bench: a record arrived altered or not at all\n");
        return 1;
    }
    return 0;
}
