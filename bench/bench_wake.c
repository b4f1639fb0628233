/* How long from publish to handler, by how the reader waits? And what does an idle one cost?
 *
 *     core A: at t, t + STEP, t + 2 STEP ... stamps, publishes, flushes (and so rings the bell)
 *     core B: md_consumer_run with a handler that holds the stamp against its own clock
 *         spin           a core of its own
 *         adaptive       spins 50 us, then parks: at 1,000 a second it always parks
 *         adaptive_busy  the same at 50,000 a second, where it never does
 *         park           sleeps on the doorbell at once
 *         nap            not registered, so no bell reaches it: sleeps by the clock
 *         line           the floor of who spins: one cache line, stored and seen
 *         futex          the floor of who sleeps: one futex_wake, no ring
 *     The sender sleeps until shortly before its time, and what delays it counts.
 *     idle: nothing is published, the ring is flushed every 50 ms as an idle feed does; the value
 * is the reader's CPU time over wall time.
 *
 * Cores: 2; needs time-stamp counters in step. Use: bench_wake CORE_A CORE_B MS
 */
#include "rings.h"

#include "audience.h"
#include "mdsys/consumer.h"

enum { DEPTH = 4096, SAMPLES = 25, BATCH = 64, EARLY_NS = 100000 };
enum way { LINE, SPIN, BUSY, FUTEX, ADAPTIVE, PARK, NAP, WAYS };

static const struct {
    const char *name;
    int64_t step_ns;
    enum md_wait wait;
    bool registered;
} WAY[] = {
    [LINE] = {"line", 1000000, MD_WAIT_SPIN, false},
    [SPIN] = {"spin", 1000000, MD_WAIT_SPIN, true},
    [BUSY] = {"adaptive_busy", 20000, MD_WAIT_ADAPTIVE, true},
    [FUTEX] = {"futex", 1000000, MD_WAIT_PARK, false},
    [ADAPTIVE] = {"adaptive", 1000000, MD_WAIT_ADAPTIVE, true},
    [PARK] = {"park", 1000000, MD_WAIT_PARK, true},
    [NAP] = {"nap", 1000000, MD_WAIT_PARK, false},
};

struct arena {
    struct bench_phase phase; /* what: enum way; argument: messages to come, 0: idle */
    alignas(64) uint64_t line;
    alignas(64) uint32_t futex;
    alignas(64) uint32_t count;
    uint32_t sent; /* of a floor */
    uint64_t ticks[SAMPLES];
    double cpu_percent;
    uint64_t wrong;
    struct md_reader_page page;
    struct md_counter_block counters;
};

struct state {
    struct arena *arena;
    uint32_t stop;
};

static void take_sample(struct arena *arena, uint64_t stamp) {
    uint64_t now = bench_ticks();
    arena->ticks[arena->count] = now > stamp ? now - stamp : 0;
    md_store_release_u32(&arena->count, arena->count + 1);
}

static uint64_t handle(const struct md_record *records, uint64_t count, void *given) {
    struct state *state = given;
    for (uint64_t i = 0; i < count && state->arena->count < SAMPLES; i++) {
        take_sample(state->arena, (uint64_t)records[i].ts_event);
    }
    state->arena->wrong += bench_wrong(records, count);
    state->stop = state->arena->count >= state->arena->phase.argument;
    return count;
}

static void receive_floor(struct arena *arena, enum way way) {
    uint64_t seen = md_load_acquire_u64(&arena->line);
    uint32_t bell = md_load_acquire_u32(&arena->futex);
    bench_add(&arena->phase.ready);
    while (arena->count < arena->phase.argument) {
        uint64_t stamp;
        while ((stamp = md_load_acquire_u64(&arena->line)) == seen) {
            if (way == FUTEX) {
                bench_futex_wait(&arena->futex, bell);
                bell = md_load_acquire_u32(&arena->futex);
            } else {
                md_pause();
            }
        }
        seen = stamp;
        take_sample(arena, stamp);
    }
}

static void receive(struct arena *arena, struct md_ring_header *header, enum way way) {
    static struct md_record batch[BATCH];
    struct state state = {.arena = arena};
    struct md_handler handler = {.call = handle, .state = &state};
    struct md_source source;
    memset(
        (void *)&arena->page.polls, 0, sizeof arena->page - offsetof(struct md_reader_page, polls));
    arena->page.reader_id = WAY[way].registered;
    md_source_init(&source, header, &arena->page, 0, MD_SHARE_ONE);
    struct md_consumer consumer = {
        .poller = {.sources = &source, .source_count = 1, .page = &arena->page},
        .waiter = {.stop = &state.stop},
        .wait = WAY[way].wait,
        .adaptive = 1,
        .batch = batch,
        .handlers = &handler,
        .handler_count = 1,
    };
    md_consumer_begin(&consumer, BATCH, BATCH);
    bench_add(&arena->phase.ready);
    while (md_consumer_run(&consumer, bench_now_ns() + MD_PARK_NS_MAX) != MD_CONSUMER_STOP) {
    }
    arena->wrong += arena->page.lost;
}

static int64_t cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void run_b(struct arena *arena, struct md_ring_header *header) {
    for (uint32_t seen = 0; bench_next(&arena->phase, &seen);) {
        enum way way = (enum way)arena->phase.what;
        int64_t start_ns = bench_now_ns(), start_cpu_ns = cpu_ns();
        if (way == LINE || way == FUTEX) {
            receive_floor(arena, way);
        } else {
            receive(arena, header, way);
        }
        arena->cpu_percent =
            100.0 * (double)(cpu_ns() - start_cpu_ns) / (double)(bench_now_ns() - start_ns);
        bench_add(&arena->phase.finished);
    }
}

static void sleep_until(int64_t ns) {
    struct timespec at = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static void send(struct arena *arena, struct md_ring_writer *writer, enum way way) {
    if (way == LINE || way == FUTEX) {
        uint32_t sent = arena->sent++;
        while (md_load_acquire_u32(&arena->count) != sent) { /* one line holds one message */
            md_pause();
        }
        md_store_release_u64(&arena->line, bench_ticks());
        if (way == FUTEX) {
            bench_add(&arena->futex);
        }
        return;
    }
    bench_publish(writer, bench_ticks());
    md_audience_flush(writer->audience, md_realtime_ns());
}

static void begin(struct arena *arena, struct md_audience *audience, enum way way, uint32_t count) {
    arena->count = 0;
    arena->sent = 0;
    bench_begin(&arena->phase, way, count, 1);
    if (WAY[way].registered) {
        md_audience_add(audience, 1, &arena->page.ring[0], 0);
    }
}

static void paced(struct arena *arena, struct md_audience *audience, enum way way, double tick) {
    begin(arena, audience, way, SAMPLES);
    int64_t due_ns = bench_now_ns() + 1000000;
    for (unsigned i = 0; i < SAMPLES; i++, due_ns += WAY[way].step_ns) {
        if (due_ns - bench_now_ns() > 2 * EARLY_NS) {
            sleep_until(due_ns - EARLY_NS);
        }
        while (bench_now_ns() < due_ns) {
        }
        send(arena, audience->writer, way);
    }
    bench_await(&arena->phase.finished, 1);
    md_audience_remove(audience, 1);
    printf("{\"way\": \"%s\", \"ns\": [", WAY[way].name);
    for (unsigned i = 0; i < SAMPLES; i++) {
        printf("%s%.0f", i == 0 ? "" : ", ", (double)arena->ticks[i] * tick);
    }
    printf("]}\n");
}

static void idle(struct arena *arena, struct md_audience *audience, enum way way, int64_t ns) {
    begin(arena, audience, way, 1);
    int64_t end_ns = bench_now_ns() + ns;
    while (bench_now_ns() < end_ns) {
        sleep_until(bench_now_ns() + BENCH_HEARTBEAT_NS);
        md_audience_flush(audience, md_realtime_ns());
    }
    send(arena, audience->writer, way);
    bench_await(&arena->phase.finished, 1);
    md_audience_remove(audience, 1);
    printf("{\"idle\": \"%s\", \"cpu_percent\": %.4f}\n", WAY[way].name, arena->cpu_percent);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "use: %s CORE_A CORE_B MILLISECONDS\n", argv[0]);
        return 64;
    }
    int core_a = bench_core(argv[1]), core_b = bench_core(argv[2]);
    int64_t ns = strtoll(argv[3], NULL, 10) * 1000000;
    struct arena *arena = bench_shared(sizeof *arena);
    struct md_ring_header *header = bench_ring(bench_shared(md_ring_size(DEPTH)), DEPTH, 0);
    double tick = bench_ns_per_tick();
    if (bench_fork_child(core_a, core_b)) {
        run_b(arena, header);
        _exit(arena->wrong != 0);
    }
    struct md_ring_writer writer = md_writer_init(header, 1);
    struct md_audience audience;
    md_audience_init(&audience, &writer, &arena->counters, 0);
    int64_t until_ns = bench_now_ns() + ns;
    do {
        for (int way = 0; way < WAYS; way++) {
            paced(arena, &audience, (enum way)way, tick);
        }
    } while (bench_now_ns() < until_ns);
    for (int way = ADAPTIVE; way <= NAP; way++) {
        idle(arena, &audience, (enum way)way, ns / 4 > 500000000 ? ns / 4 : 500000000);
    }
    bench_begin(&arena->phase, BENCH_STOP, 0, 0);
    if (bench_wait_child() != 0) {
        fprintf(stderr, "bench: a record arrived altered or not at all\n");
        return 1;
    }
    return 0;
}
