#include "spsc.h"

#include <stdalign.h>

#include "mdsys/atomic.h"

struct spsc {
    alignas(64) uint64_t write_index;
    alignas(64) uint64_t read_index_copy; /* the producer's */
    alignas(64) uint64_t read_index;
    alignas(64) uint64_t write_index_copy; /* the consumer's */
    alignas(64) struct spsc_item items[SPSC_CAPACITY];
};

uint64_t spsc_size(void) {
    return sizeof(struct spsc);
}

struct spsc *spsc_create(void *memory) {
    return memory;
}

void spsc_produce(struct spsc *queue, uint64_t first, uint64_t count) {
    for (uint64_t n = first; n != first + count; n++) {
        uint64_t index = md_load_relaxed_u64(&queue->write_index);
        uint64_t next = index + 1 == SPSC_CAPACITY ? 0 : index + 1;
        while (next == queue->read_index_copy) {
            queue->read_index_copy = md_load_acquire_u64(&queue->read_index);
        }
        queue->items[index] =
            (struct spsc_item){{n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7}};
        md_store_release_u64(&queue->write_index, next);
    }
}

uint64_t spsc_consume(struct spsc *queue, uint64_t count) {
    uint64_t sum = 0;
    while (count != 0) {
        uint64_t index = md_load_relaxed_u64(&queue->read_index);
        if (index == queue->write_index_copy) {
            queue->write_index_copy = md_load_acquire_u64(&queue->write_index);
            if (index == queue->write_index_copy) {
                continue;
            }
        }
        sum += spsc_sum(&queue->items[index]);
        md_store_release_u64(&queue->read_index, index + 1 == SPSC_CAPACITY ? 0 : index + 1);
        count--;
    }
    return sum;
}
