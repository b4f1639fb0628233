/* A snapshot by REST when memory runs out at any step of it: it is refused, and the book is as it
 * was or void, never half of each. Prints at how many steps there was none. */
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned long left = ULONG_MAX; /* so many allocations succeed */

static bool may_allocate(void) {
    return left == ULONG_MAX || (left != 0 && left-- != 0);
}

static void *scarce_malloc(size_t size) {
    return may_allocate() ? malloc(size) : NULL;
}

static void *scarce_realloc(void *at, size_t size) {
    return may_allocate() ? realloc(at, size) : NULL;
}

#define malloc scarce_malloc
#define realloc scarce_realloc
#include "../src/book.c"
#include "../src/book_snapshot.c"

enum { LEVELS = 600, DEPTH = 8192, BODY_SIZE = 64 << 10 };

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: violated: %s\n", __LINE__, #condition);                      \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static struct md_slot slots[DEPTH];
static struct md_ring_header header;
static struct md_counter_block counters;

/* An answer with so many levels a side. */
static size_t write_body(char *body, unsigned id) {
    int size = snprintf(body, BODY_SIZE, "{\"lastUpdateId\":%u,\"bids\":[", id);
    for (int i = 0; i < 2 * LEVELS; i++) {
        const char *between = i == LEVELS ? "],\"asks\":[" : i == 0 ? "" : ",";
        int price = i < LEVELS ? 1000 - i : 2000 + i;
        size += snprintf(
            body + size, BODY_SIZE - (size_t)size, "%s[\"%d\",\"%u\"]", between, price, id);
    }
    size += snprintf(body + size, BODY_SIZE - (size_t)size, "]}");
    return (size_t)size;
}

/* Merge an answer while `allowed` allocations succeed. in_step: there is a book, and it is asked
 * for again. Returns whether it was taken. */
static bool merged(unsigned long allowed, bool in_step) {
    static char body[BODY_SIZE];
    struct md_ring_writer ring = {
        .slots = slots, .mask = DEPTH - 1, .next = 1, .limit = MD_NO_LIMIT, .header = &header};
    const struct md_connection connection = {.number = 1, .socket = 1};
    struct md_cell cell = {0};
    struct md_feed feed;
    CHECK(md_feed_init(&feed, &ring, 1, &counters, 1) == 0);
    feed.books_by_rest = true;
    CHECK(md_feed_add_symbol(&feed, "X", 1, 1, 0, 0, 0, &cell) == 0);
    struct md_feed_symbol *symbol = md_feed_find_symbol(&feed, "X", 1);
    md_book_expect(&feed, symbol, &connection);
    if (in_step) {
        size_t size = write_body(body, 1);
        CHECK(md_book_snapshot_json(&feed, symbol, &connection, body, size, 0, 1) == MD_FRAME_OK);
        symbol->book->keep_gone = true; /* as when its top has moved beyond what was told */
        symbol->book_wanted = 1;
    }
    uint64_t before = ring.next, size = write_body(body, 2);
    feed.wish_count = 0;

    left = allowed;
    enum md_frame_result result =
        md_book_snapshot_json(&feed, symbol, &connection, body, size, 0, 2);
    left = ULONG_MAX;

    bool usable = cell.book_flags != 0;
    CHECK(usable == symbol->book->in_step);
    if (result == MD_FRAME_OK) {
        CHECK(usable && cell.bid[0].size == 2 && cell.ask[0].size == 2);
        CHECK(ring.next - before == 2 * LEVELS);
    } else {
        CHECK(result == MD_FRAME_MALFORMED && feed.wish_count != 0 && symbol->book_wanted);
        CHECK(usable <= in_step && ring.next - before == (in_step && !usable));
        if (usable) { /* it was not touched */
            CHECK(symbol->book->side[0].levels[0].size == 1);
            CHECK(symbol->book->side[1].levels[0].size == 1);
        } else {
            CHECK(symbol->book->side[0].count == 0 && symbol->book->side[1].count == 0);
        }
        CHECK(md_book_snapshot_json(&feed, symbol, &connection, body, size, 0, 3) == MD_FRAME_OK);
        CHECK(cell.book_flags != 0 && cell.bid[0].size == 2);
    }
    md_feed_free(&feed);
    return result == MD_FRAME_OK;
}

int main(void) {
    unsigned long failures[2] = {0, 0};
    for (unsigned in_step = 0; in_step < 2; in_step++) {
        while (!merged(failures[in_step], in_step)) {
            failures[in_step]++;
        }
    }
    printf("%lu %lu\n", failures[0], failures[1]);
    return 0;
}
