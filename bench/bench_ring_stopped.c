/* What does a reader that has stopped (SIGSTOP) cost the writer, and what the other readers?
 *
 *     core A: the writer, flushing every FLUSH_EVERY records
 *     core B: one reader that reads on, spinning, registered
 *             four that were stopped: of each policy but lossless, in the middle of reading and
 *             while parked. They never run again; their pages stay in the writer's audience.
 *
 *     rate     published without pause: with none of the stopped ones in the audience, with one,
 *              with none, with the next ...; the value is the time a record takes
 *     latency  a record each 10 us, stamped; read by the one that reads on: with none, with all
 * four
 *
 * Cores: 2, both busy. Use: bench_ring_stopped CORE_A CORE_B MS
 */
#include "rings.h"

#include "audience.h"

enum { DEPTH = 65536, BATCH = 64, FLUSH_EVERY = 16, VICTIMS = 4, VICTIM_ID = 2 };
enum { RATE_MS = 10, SAMPLES = 200, STEP_NS = 10000, SYMBOLS = 4 };
enum what { RATE, LATENCY };

static const struct {
    const char *name;
    enum md_policy policy;
    bool parked;
} VICTIM[VICTIMS] = {
    {"drop_oldest", MD_POLICY_DROP_OLDEST, false},
    {"drop_oldest_parked", MD_POLICY_DROP_OLDEST, true},
    {"conflate", MD_POLICY_CONFLATE, false},
    {"conflate_parked", MD_POLICY_CONFLATE, true},
};

struct arena {
    struct bench_phase phase; /* what: enum what */
    uint32_t ticks[SAMPLES];
    uint64_t wrong;
    struct md_reader_page page; /* of the one that reads on */
    struct md_reader_page victim[VICTIMS];
    struct md_counter_block counters;
};

/* Reads on, spinning. */
static void run_reader(struct arena *arena, struct md_ring_header *header) {
    arena->page.reader_id = 1;
    for (uint32_t seen = 0; bench_next(&arena->phase, &seen);) {
        bool latency = arena->phase.what == LATENCY;
        struct md_source source;
        md_source_init(&source, header, &arena->page, 0, MD_SHARE_ONE);
        struct md_poller poller = {.sources = &source, .source_count = 1, .page = &arena->page};
        struct md_record records[BATCH];
        uint64_t count = 0;
        bench_add(&arena->phase.ready);
        while (latency ? count < SAMPLES : !bench_over(&arena->phase)) {
            uint64_t n = md_poller_read(&poller, records, latency ? 1 : BATCH);
            if (n == 0) {
                md_pause();
            } else if (latency) {
                uint64_t now = bench_ticks(), stamp = (uint64_t)records[0].ts_event;
                arena->ticks[count] = now > stamp ? (uint32_t)(now - stamp) : 0;
            }
            count += n;
            arena->wrong += bench_wrong(records, n);
        }
        arena->wrong += latency && source.reader.lost != 0;
        bench_add(&arena->phase.finished);
    }
}

/* Reads until it is stopped. */
static void run_victim(struct md_reader_page *page, struct md_ring_header *header, unsigned me) {
    static struct md_conflation_entry entries[SYMBOLS];
    struct md_conflation conflation = {.entries = entries, .capacity = SYMBOLS};
    struct md_source source;
    md_source_init(&source, header, page, DEPTH, MD_SHARE_ONE / 2);
    struct md_poller poller = {
        .sources = &source,
        .source_count = 1,
        .policy = VICTIM[me].policy,
        .conflation = &conflation,
        .page = page,
    };
    struct md_waiter waiter = {0};
    struct md_record records[BATCH];
    for (;;) {
        if (md_poller_read(&poller, records, BATCH) == 0 && VICTIM[me].parked) {
            md_park(&poller, &waiter, MD_PARK_NS_MAX);
        }
    }
}

static pid_t start_victim(
    struct arena *arena, struct md_ring_header *header, unsigned me, int core_a, int core_b) {
    pid_t parent = getpid();
    fflush(stdout);
    pid_t child = fork();
    if (child < 0) {
        bench_die("fork");
    }
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent) {
            bench_pin(core_b);
            run_victim(&arena->victim[me], header, me);
        }
        _exit(1);
    }
    bench_pin(core_a);
    return child;
}

/* Stop it where it shall be: asleep on the bell as it is, or behind the reading of something. */
static void
stop_victim(struct arena *arena, struct md_ring_writer *writer, unsigned me, pid_t pid) {
    const struct md_reader_page *page = &arena->victim[me];
    const uint64_t *asleep = &page->ring[0].asleep;
    for (;;) {
        bool parked = md_load_acquire_u64(asleep) == (uint64_t)writer->header->bell + 1;
        if (VICTIM[me].parked ? parked : md_load_acquire_u64(&page->received) >= DEPTH) {
            break;
        }
        if (!VICTIM[me].parked) {
            bench_publish(writer, 0);
        }
        sched_yield();
    }
    int status;
    if (kill(pid, SIGSTOP) != 0 || waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status)) {
        bench_die("SIGSTOP");
    }
}

static double publish_for(struct md_audience *audience, int ms) {
    struct md_ring_writer *writer = audience->writer;
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

static void listen(struct md_audience *audience, struct arena *arena, unsigned first, unsigned n) {
    for (unsigned i = first; i < first + n; i++) {
        md_audience_add(audience, VICTIM_ID + i, &arena->victim[i].ring[0], 0);
    }
}

static void forget(struct md_audience *audience) {
    for (unsigned i = 0; i < VICTIMS; i++) {
        md_audience_remove(audience, VICTIM_ID + i);
    }
}

static double rate(struct arena *arena, struct md_audience *audience) {
    bench_begin(&arena->phase, RATE, 0, 1);
    double ns = publish_for(audience, RATE_MS);
    bench_end(&arena->phase, 1);
    return ns;
}

static void latency(struct arena *arena,
                    struct md_audience *audience,
                    const char *name,
                    double tick,
                    uint32_t step) {
    uint64_t gap = (uint64_t)(STEP_NS / tick);
    bench_begin(&arena->phase, LATENCY, 0, 1);
    uint64_t due = bench_ticks() + gap;
    for (unsigned i = 0; i < SAMPLES; i++, due += gap) {
        while (bench_ticks() < due) {
        }
        bench_publish(audience->writer, due);
        md_audience_flush(audience, (int64_t)i);
    }
    bench_end(&arena->phase, 1);
    bench_print_percentiles(name, arena->ticks, SAMPLES, tick, step);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "use: %s CORE_A CORE_B MILLISECONDS\n", argv[0]);
        return 64;
    }
    int core_a = bench_core(argv[1]), core_b = bench_core(argv[2]);
    struct arena *arena = bench_shared(sizeof *arena);
    struct md_ring_header *header = bench_ring(bench_shared(md_ring_size(DEPTH)), DEPTH, 0);
    struct md_ring_writer writer = md_writer_init(header, 1);
    pid_t victims[VICTIMS];
    for (unsigned i = 0; i < VICTIMS; i++) {
        arena->victim[i].reader_id = VICTIM_ID + i;
        victims[i] = start_victim(arena, header, i, core_a, core_b);
        stop_victim(arena, &writer, i, victims[i]);
    }
    if (bench_fork_child(core_a, core_b)) {
        run_reader(arena, header);
        _exit(arena->wrong != 0);
    }
    struct md_audience audience;
    md_audience_init(&audience, &writer, &arena->counters, 0);
    md_audience_add(&audience, 1, &arena->page.ring[0], 0);
    double tick = bench_ns_per_tick();
    uint32_t step = bench_tick_step();
    int64_t until_ns = bench_now_ns() + strtoll(argv[3], NULL, 10) * 1000000;
    do {
        for (unsigned i = 0; i < VICTIMS; i++) {
            double before = rate(arena, &audience);
            listen(&audience, arena, i, 1);
            double with = rate(arena, &audience);
            forget(&audience);
            double after = rate(arena, &audience);
            printf("{\"phase\": \"rate\", \"victim\": \"%s\", \"before\": %.3f, \"ns\": %.3f, "
                   "\"after\": %.3f}\n",
                   VICTIM[i].name,
                   before,
                   with,
                   after);
        }
        latency(arena, &audience, "without", tick, step);
        listen(&audience, arena, 0, VICTIMS);
        latency(arena, &audience, "with", tick, step);
        forget(&audience);
    } while (bench_now_ns() < until_ns);
    for (unsigned i = 0; i < VICTIMS; i++) {
        kill(victims[i], SIGKILL);
        waitpid(victims[i], NULL, 0);
    }
    bench_begin(&arena->phase, BENCH_STOP, 0, 0);
    /* Those that were parked were rung for once, when they were heard first, and never again. */
    bool rung = arena->counters.bells > VICTIMS;
    if (bench_wait_child() != 0 || rung) {
        fprintf(stderr,
                "bench: a record arrived altered, or the bell rang for who does not hear\n");
        return 1;
    }
    return 0;
}
