/* libFuzzer harness of the decoders of Alpaca and Massive.
 *
 * Input: one byte for the venue (bit 0: Massive), then the frame, which lies in memory of its very
 * size, so AddressSanitizer sees any byte read beside it. Asserted besides: a frame that is refused
 * as a whole publishes nothing, and blanks between tokens, with which the quick ways of
 * event_fields.h decline everything, change neither result nor records.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -Inative/include -Inative/src \
 *       native/fuzz/fuzz_events.c native/src/{decode_alpaca,decode_massive,feed,publish,book}.c \
 *       -o fuzz && ./fuzz corpus */
#include <stdio.h>
#include <stdlib.h>

#include "decode_alpaca.h"
#include "decode_massive.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "violated: %s\n", #condition);                                         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

enum { DEPTH = 256, SIZE_MAX_FUZZED = 4096 };

/* A feed on private memory. */
struct rig {
    struct md_slot slots[DEPTH];
    struct md_ring_header header;
    struct md_ring_writer ring;
    struct md_counter_block counters;
    struct md_cell cells[2];
    struct md_feed feed;
    struct md_connection connection;
};

static void rig_init(struct rig *rig) {
    memset(rig, 0, sizeof *rig);
    rig->ring.slots = rig->slots;
    rig->ring.mask = DEPTH - 1;
    rig->ring.next = 1;
    rig->ring.limit = MD_NO_LIMIT;
    rig->ring.header = &rig->header;
    rig->connection.number = 3;
    rig->connection.socket = 1;
    CHECK(md_feed_init(&rig->feed, &rig->ring, 1, &rig->counters, 2) == 0);
    CHECK(md_feed_add_symbol(&rig->feed, "AAPL", 4, 1, 0, 8, 8, &rig->cells[0]) == 0);
    CHECK(md_feed_add_symbol(&rig->feed, "BTC/USD", 7, 2, 0, 10, 9, &rig->cells[1]) == 0);
}

/* Copy a frame with a blank before each token that is a mark. Returns the size. */
static size_t spread(const char *frame, size_t size, char *out) {
    bool in_string = false;
    char *at = out;
    for (size_t i = 0; i < size; i++) {
        char c = frame[i];
        if (in_string && c == '\\' && i + 1 < size) {
            *at++ = c;
            c = frame[++i];
        } else if (c == '"') {
            if (!in_string) {
                *at++ = ' ';
            }
            in_string = !in_string;
        } else if (!in_string && c != '\0' && strchr("{}[]:,", c) != NULL) {
            *at++ = ' ';
        }
        *at++ = c;
    }
    return (size_t)(at - out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct rig plain, blanks;
    if (size < 2 || size > SIZE_MAX_FUZZED) {
        return 0;
    }
    md_decode_fn decode = data[0] & 1 ? md_decode_massive : md_decode_alpaca;
    size--;
    char *frame = malloc(size), *spaced = malloc(2 * size);
    if (frame == NULL || spaced == NULL) {
        abort();
    }
    memcpy(frame, data + 1, size);
    rig_init(&plain);
    rig_init(&blanks);
    enum md_frame_result result = decode(&plain.feed, frame, size, 7, &plain.connection);
    size_t spaced_size = spread(frame, size, spaced);
    char *exact = realloc(spaced, spaced_size);
    CHECK(result == decode(&blanks.feed, exact, spaced_size, 7, &blanks.connection));

    uint64_t count = plain.ring.next - 1;
    CHECK(count == plain.counters.records && count == blanks.ring.next - 1);
    CHECK(result != MD_FRAME_MALFORMED || count == 0);
    CHECK(result != MD_FRAME_VALUE || plain.counters.statuses != 0);
    CHECK(memcmp(plain.slots, blanks.slots, sizeof plain.slots) == 0);
    CHECK(memcmp(plain.cells, blanks.cells, sizeof plain.cells) == 0);

    md_feed_free(&plain.feed);
    md_feed_free(&blanks.feed);
    free(frame);
    free(exact);
    return 0;
}
