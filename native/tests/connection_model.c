/* A connection's place changes hands while somebody reads it, at every moment that there is.
 *
 *     connection_model
 *
 * A feed frees a place, gives it to another connection, names its venue and says what it is at. The
 * reader is stopped behind every load, at two of them in all combinations, and goes on when the
 * feed has done any number of stores more. Then the feed dies behind every store, and its successor
 * does the same to the place. What the reader accepts must be the place as it stood between two of
 * these changes. It is a model in that stores take effect in program order.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void after_store(void);
#define MD_AFTER_STORE() after_store()

#include "mdsys/atomic.h"

static void after_load(void);
static uint64_t loaded(uint64_t value);

#define md_store_relaxed_u32(to, value) (md_store_relaxed_u32(to, value), after_store())
#define md_word_copy(to, from) (md_word_copy(to, from), after_load())
#define md_load_acquire_u64(from) loaded(md_load_acquire_u64(from))

#include "mdsys/counters.h"

enum { IMAGES_MAX = 256, LOADS = 17, NEVER = 1 << 30 };

static struct md_connection_block place;              /* what both see */
static struct md_connection_block images[IMAGES_MAX]; /* as it stood behind each store */
static int settled[IMAGES_MAX];                       /* and whether that was between two changes */
static int image_count;
static int recording;

static int loads;     /* of the reader so far */
static int stops[2];  /* behind which of them the feed goes on */
static int stands[2]; /* and the image that it comes to */
static unsigned long long accepted, refused;

static void note(int is_settled) {
    if (image_count == IMAGES_MAX) {
        abort();
    }
    images[image_count] = place;
    settled[image_count++] = is_settled;
}

static void after_store(void) {
    if (recording) {
        note(0);
    }
}

static void after_load(void) {
    for (int i = 0; i < 2; i++) {
        if (loads == stops[i]) {
            place = images[stands[i]];
        }
    }
    loads++;
}

static uint64_t loaded(uint64_t value) {
    after_load();
    return value;
}

static void settle(void) {
    settled[image_count - 1] = 1;
}

/* What a feed does to a place. */
static void hand_over(uint32_t number, const char *venue) {
    recording = 1;
    md_connection_set(&place, MD_CONNECTION_FREE, 10 * number);
    settle();
    md_connection_take(&place, number);
    settle();
    md_connection_name(&place, venue, strlen(venue));
    settle();
    md_connection_set(&place, MD_CONNECTION_CONNECTING, 10 * number + 1);
    settle();
    md_connection_set(&place, MD_CONNECTION_READY, 10 * number + 2);
    settle();
    recording = 0;
}

static int stood(const struct md_connection_block *seen) {
    for (int i = 0; i < image_count; i++) {
        if (settled[i] && memcmp(seen, &images[i], sizeof *seen) == 0) {
            return 1;
        }
    }
    return 0;
}

static void read_once(int from, int stop, int then, int stop_again, int at_last) {
    struct md_connection_block seen;
    place = images[from];
    loads = 0;
    stops[0] = stop;
    stands[0] = then;
    stops[1] = stop_again;
    stands[1] = at_last;
    if (!md_connection_load(&place, &seen)) {
        refused++;
        return;
    }
    accepted++;
    if (!stood(&seen)) {
        printf("a row of two: connection %u, state %u since %lld, %llu frames, venue %.24s\n",
               seen.number,
               seen.state,
               (long long)seen.since_ns,
               (unsigned long long)seen.frames,
               seen.venue);
        exit(1);
    }
}

static void begin(void) {
    memset(&place, 0, sizeof place);
    image_count = 0;
    md_connection_take(&place, 7);
    md_connection_name(&place, "KITE", 4);
    md_connection_set(&place, MD_CONNECTION_READY, 72);
    place.frames = 11;
    place.bytes = 22;
    place.records = 33;
    place.opens = 2;
    place.last_frame_ns = place.last_data_ns = 99;
    place.offset_ns = -5;
    note(1);
}

int main(void) {
    begin();
    hand_over(8, "BINANCE_USDM");
    for (int from = 0; from < image_count; from++) {
        for (int then = from; then < image_count; then++) {
            for (int at_last = then; at_last < image_count; at_last++) {
                for (int stop = 0; stop < LOADS; stop++) {
                    for (int again = stop; again < LOADS; again++) {
                        read_once(from, stop, then, again, at_last);
                    }
                }
            }
        }
    }
    const int whole = image_count;
    for (int death = 1; death < whole; death++) {
        begin();
        hand_over(8, "BINANCE_USDM");
        place = images[death];
        image_count = death + 1;
        hand_over(9, "KRAKEN");
        for (int from = 0; from < image_count; from++) {
            for (int then = from; then < image_count; then++) {
                for (int stop = 0; stop < LOADS; stop++) {
                    read_once(from, stop, then, NEVER, 0);
                }
            }
        }
    }
    printf("%d stores, %llu rows, %llu times none\n", whole - 1, accepted, refused);
    return accepted == 0 || refused == 0;
}
