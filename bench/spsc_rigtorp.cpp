/* The original behind spsc.h, in memory that two processes share.
 *
 * Without assertions, as its own benchmark is built: the one in pop() reads the producer's line at
 * every message, which costs it up to half its rate.
 */
#define NDEBUG
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Winterference-size" /* 64 here, on both sides of one build */
#endif
#include <new>

#if __has_include(<rigtorp/SPSCQueue.h>)
#include <rigtorp/SPSCQueue.h>
#else
#include <SPSCQueue.h>
#endif

#include "spsc.h"

namespace {

struct Arena {
    using value_type = spsc_item;
    spsc_item *items;

    spsc_item *allocate(std::size_t) {
        return items;
    }
    void deallocate(spsc_item *, std::size_t) {}
};

constexpr uint64_t ITEMS_OFFSET = 4096;

} // namespace

struct spsc {
    rigtorp::SPSCQueue<spsc_item, Arena> queue;
};

uint64_t spsc_size(void) {
    return ITEMS_OFFSET + (SPSC_CAPACITY + 16) * sizeof(spsc_item);
}

spsc *spsc_create(void *memory) {
    static_assert(sizeof(spsc) <= ITEMS_OFFSET, "the items follow the queue");
    auto *items = reinterpret_cast<spsc_item *>(static_cast<char *>(memory) + ITEMS_OFFSET);
    return new (memory) spsc{rigtorp::SPSCQueue<spsc_item, Arena>(SPSC_CAPACITY - 1, Arena{items})};
}

void spsc_produce(spsc *queue, uint64_t first, uint64_t count) {
    for (uint64_t n = first; n != first + count; n++) {
        queue->queue.emplace(spsc_item{{n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7}});
    }
}

uint64_t spsc_consume(spsc *queue, uint64_t count) {
    uint64_t sum = 0;
    while (count != 0) {
        spsc_item *item = queue->queue.front();
        if (item == nullptr) {
            continue;
        }
        sum += spsc_sum(item);
        queue->queue.pop();
        count--;
    }
    return sum;
}
