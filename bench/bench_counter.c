/* What does it cost to count, and to record a time?
 *
 *     one thread: a feed's block, counted in as a decoder does
 *         count       md_count of eight counters in turn, some bytes added to one of them
 *         histogram   md_histogram_record of one value, as latencies are spread: most of them close
 *                     together, a few far away
 *         clock       clock_gettime, for comparison: what a time costs before it is recorded
 *
 * All of it lies in the core's own cache: what is measured is instructions.
 *
 * Cores: 1. Use: bench_counter CORE MS
 */
#include "bench.h"
#include "mdsys/clock.h"
#include "mdsys/counters.h"

enum { COUNTS = 1 << 16, VALUES = 4096, COUNTERS = 8 };

static struct md_counter_block block;
static int64_t values[VALUES];

/* Latencies: 8 to 16 us, each 64th up to a thousand times that. */
static void make_values(void) {
    uint64_t state = 88172645463325252u;
    for (unsigned i = 0; i < VALUES; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        values[i] = (int64_t)(8192 + (state & 8191)) << (i % 64 == 0 ? state >> 60 & 10 : 0);
    }
}

static uint64_t time_counts(void) {
    uint64_t *counters = &block.bytes;
    uint64_t start = bench_ticks();
    for (unsigned i = 0; i < COUNTS / COUNTERS; i++) {
        md_count(&counters[0], i & 255);
        for (unsigned k = 1; k < COUNTERS; k++) {
            md_count(&counters[k], 1);
        }
        __asm__ volatile("" ::: "memory"); /* as between two frames: each is stored */
    }
    return bench_ticks() - start;
}

static uint64_t time_histogram(void) {
    uint64_t start = bench_ticks();
    for (unsigned i = 0; i < COUNTS; i++) {
        md_histogram_record(&block.recv_to_ring, values[i % VALUES], 1);
        __asm__ volatile("" ::: "memory");
    }
    return bench_ticks() - start;
}

static uint64_t time_clock(void) {
    int64_t sum = 0;
    uint64_t start = bench_ticks();
    for (unsigned i = 0; i < COUNTS / 16; i++) {
        sum += md_realtime_ns();
    }
    uint64_t ticks = bench_ticks() - start;
    return sum == 0 ? 0 : ticks * 16;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "use: %s CORE MILLISECONDS\n", argv[0]);
        return 64;
    }
    bench_pin(bench_core(argv[1]));
    make_values();
    const double tick = bench_ns_per_tick() / COUNTS;
    int64_t until_ns = bench_now_ns() + strtoll(argv[2], NULL, 10) * 1000000;
    uint64_t rounds = 0;
    do {
        printf("{\"count\": %.4f, \"histogram\": %.4f, \"clock\": %.4f}\n",
               (double)time_counts() * tick,
               (double)time_histogram() * tick,
               (double)time_clock() * tick);
        rounds++;
    } while (bench_now_ns() < until_ns);
    uint64_t counted = 0;
    for (unsigned i = 0; i < MD_HISTOGRAM_BUCKETS; i++) {
        counted += block.recv_to_ring.positive[i];
    }
    if (counted != rounds * COUNTS || block.recv_to_ring.count != counted ||
        block.frames != rounds * (COUNTS / COUNTERS)) {
        fprintf(stderr, "bench: something was not counted\n");
        return 1;
    }
    return 0;
}
