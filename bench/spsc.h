/* The yardstick of throughput: a bounded queue for one producer and one consumer, by two indices
 * on lines of their own, each side keeping a copy of the other's. This is the algorithm of
 * rigtorp's SPSCQueue (github.com/rigtorp/SPSCQueue, read 2025); with MDSYS_RIGTORP=FOLDER, the one
 * that holds rigtorp/SPSCQueue.h or SPSCQueue.h, the original is compiled behind the same
 * functions.
 */
#ifndef MDSYS_BENCH_SPSC_H
#define MDSYS_BENCH_SPSC_H

#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { SPSC_CAPACITY = 65536 }; /* as many as the ring has slots */

struct spsc_item {
    uint64_t word[8];
};

/* The sum of an item's words, two at a time, for all readers alike: gcc -O2 would load each by
 * itself, and more than half of what a reader of single records does would be this. */
static inline uint64_t spsc_sum(const void *item) {
    typedef uint64_t pair __attribute__((vector_size(16)));
    pair part[4];
    memcpy(part, item, sizeof part);
    pair sum = (part[0] + part[1]) + (part[2] + part[3]);
    return sum[0] + sum[1];
}

struct spsc;

uint64_t spsc_size(void);
/* memory: zeroed, spsc_size() bytes, at a page border. */
struct spsc *spsc_create(void *memory);
/* Put in count items made of first, first + 1 ..., each word[0] the number, word[k] number + k. */
void spsc_produce(struct spsc *queue, uint64_t first, uint64_t count);
/* Take count items out. Returns the sum of all their words. */
uint64_t spsc_consume(struct spsc *queue, uint64_t count);

#ifdef __cplusplus
}
#endif

#endif
