/* What does a change of a book cost, at the top, deep down, and when all of it is replaced?
 *
 * One core. 1,000 levels a side. Ours (native/src/book.c: a sorted array a side, the best price
 * last) and a std::map a side take turns over the very same changes, half of them new sizes, a
 * quarter levels that go, a quarter levels that come:
 *
 *   top       one of the 5 best        deep      one of the 500 worst
 *   snapshot  2,000 levels, best first, after forgetting what was there
 *   read_top  the 10 best of both sides, as after each message
 *   checksum  Kraken's CRC32 of the 10 best of both sides
 *
 * After each round both books must have the same top. Prints an object a round, ns each.
 *
 *   bench_book CORE SECONDS_MS
 */
#include "bench.h"

#include "book_map.h"
#include "decode_kraken.c" /* whose own the checksum is */
#include "feed.h"

enum { LEVELS = 1000, CHANGES = 1024, SNAPSHOTS = 8 };

struct change {
    unsigned side;
    int64_t price;
    int64_t size;
};

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static int64_t price_of(unsigned side, unsigned place) {
    int64_t off = 1 + (int64_t)place;
    return (side == MD_FLAG_BUY ? 1000000 - off : 1000000 + off) * 10000000;
}

/* Changes that leave the book as it was: each level that goes comes back. */
static void make_changes(struct change *out, unsigned first, unsigned count) {
    for (unsigned i = 0; i < CHANGES; i += 4) {
        unsigned side = next_random() & 1 ? MD_FLAG_BUY : MD_FLAG_SELL;
        unsigned places[2] = {first + (unsigned)(next_random() % count),
                              first + (unsigned)(next_random() % count)};
        int64_t size = (int64_t)(1 + next_random() % 1000) * 100000;
        out[i] = (struct change){side, price_of(side, places[0]), size};
        out[i + 1] = (struct change){side, price_of(side, places[1]), 0};
        out[i + 2] = (struct change){side, price_of(side, places[0]), size + 100000};
        out[i + 3] = (struct change){side, price_of(side, places[1]), size};
        if (places[0] == places[1]) {
            out[i + 1].size = size;
        }
    }
}

static double ours_ns(struct md_book *book, const struct change *changes) {
    int64_t start = bench_now_ns();
    for (unsigned i = 0; i < CHANGES; i++) {
        md_book_set(book, changes[i].side, changes[i].price, changes[i].size, i, MD_ABSENT);
    }
    return (double)(bench_now_ns() - start) / CHANGES;
}

static double map_ns(struct book_map *book, const struct change *changes) {
    int64_t start = bench_now_ns();
    for (unsigned i = 0; i < CHANGES; i++) {
        book_map_set(book, changes[i].side == MD_FLAG_SELL, changes[i].price, changes[i].size);
    }
    return (double)(bench_now_ns() - start) / CHANGES;
}

static double ours_snapshot_ns(struct md_book *book) {
    int64_t start = bench_now_ns();
    for (unsigned turn = 0; turn < SNAPSHOTS; turn++) {
        md_book_clear(book);
        for (unsigned i = 0; i < LEVELS; i++) {
            md_book_set(book, MD_FLAG_BUY, price_of(MD_FLAG_BUY, i), 100000000 + i, 0, MD_ABSENT);
        }
        for (unsigned i = 0; i < LEVELS; i++) {
            md_book_set(book, MD_FLAG_SELL, price_of(MD_FLAG_SELL, i), 100000000 + i, 0, MD_ABSENT);
        }
        md_book_complete(book);
    }
    return (double)(bench_now_ns() - start) / SNAPSHOTS;
}

static double map_snapshot_ns(struct book_map *book) {
    int64_t start = bench_now_ns();
    for (unsigned turn = 0; turn < SNAPSHOTS; turn++) {
        book_map_clear(book);
        for (unsigned i = 0; i < LEVELS; i++) {
            book_map_set(book, 0, price_of(MD_FLAG_BUY, i), 100000000 + i);
        }
        for (unsigned i = 0; i < LEVELS; i++) {
            book_map_set(book, 1, price_of(MD_FLAG_SELL, i), 100000000 + i);
        }
    }
    return (double)(bench_now_ns() - start) / SNAPSHOTS;
}

static int64_t sum_top(const struct md_book_top *top) {
    int64_t sum = 0;
    for (unsigned i = 0; i < top->bid_count; i++) {
        sum += top->bid[i].price + top->bid[i].size;
    }
    for (unsigned i = 0; i < top->ask_count; i++) {
        sum += top->ask[i].price + top->ask[i].size;
    }
    return sum;
}

static int64_t sink;

static double ours_top_ns(const struct md_book *book) {
    int64_t start = bench_now_ns();
    for (unsigned i = 0; i < CHANGES; i++) {
        struct md_book_top top;
        md_book_top(book, &top);
        sink += sum_top(&top);
    }
    return (double)(bench_now_ns() - start) / CHANGES;
}

static double map_top_ns(const struct book_map *book) {
    int64_t start = bench_now_ns();
    for (unsigned i = 0; i < CHANGES; i++) {
        sink += book_map_top(book);
    }
    return (double)(bench_now_ns() - start) / CHANGES;
}

/* With no kept sum of any level, as after a snapshot; a change of one level costs a part of it. */
static uint32_t whole_checksum(const struct md_feed_symbol *symbol) {
    struct kraken_own own;
    memset(&own, 0, sizeof own);
    return kraken_checksum(symbol, &own);
}

static double checksum_ns(const struct md_feed_symbol *symbol) {
    int64_t start = bench_now_ns();
    for (unsigned i = 0; i < CHANGES; i++) {
        sink += whole_checksum(symbol);
    }
    return (double)(bench_now_ns() - start) / CHANGES;
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: bench_book CORE MS\n");
        return 64;
    }
    bench_pin(atoi(arguments[1]));
    int64_t end = bench_now_ns() + atoll(arguments[2]) * 1000000;
    static struct change top[CHANGES], deep[CHANGES];
    make_changes(top, 0, 5);
    make_changes(deep, LEVELS / 2, LEVELS / 2);
    struct md_book *book = md_book_create(false);
    struct book_map *map = book_map_create();
    if (book == NULL || map == NULL) {
        bench_die("memory");
    }
    struct md_feed_symbol symbol = {
        .book = book, .price_scale = 8, .size_scale = 8, .price_decimals = 1, .size_decimals = 8};
    do {
        double snapshot[2] = {map_snapshot_ns(map), ours_snapshot_ns(book)};
        double at_top[2] = {map_ns(map, top), ours_ns(book, top)};
        double deep_down[2] = {map_ns(map, deep), ours_ns(book, deep)};
        double reading[2] = {map_top_ns(map), ours_top_ns(book)};
        double checking = checksum_ns(&symbol);
        struct md_book_top now;
        md_book_top(book, &now);
        if (sum_top(&now) != book_map_top(map) || now.bid_count != 10 || now.ask_count != 10 ||
            md_book_side(book, MD_FLAG_BUY)->count != LEVELS) {
            fprintf(stderr, "bench_book: the books differ\n");
            return 1;
        }
        printf("{\"snapshot\": [%.1f, %.1f], \"top\": [%.2f, %.2f], \"deep\": [%.2f, %.2f], "
               "\"read_top\": [%.2f, %.2f], \"checksum\": %.2f, \"value\": %u}\n",
               snapshot[0],
               snapshot[1],
               at_top[0],
               at_top[1],
               deep_down[0],
               deep_down[1],
               reading[0],
               reading[1],
               checking,
               whole_checksum(&symbol));
    } while (bench_now_ns() < end);
    return 0;
}
