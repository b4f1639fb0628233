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
#define RIG_DEPTH 256
#include "rig.h"

#include "decode_alpaca.h"
#include "decode_massive.h"

enum { SIZE_MAX_FUZZED = 4096 };

static void rig_init(struct rig *rig) {
    rig_open(rig);
    rig_add(rig, "AAPL", 4, 8, 8);
    rig_add(rig, "BTC/USD", 7, 10, 9);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct rig plain, blanks;
    if (size < 2 || size > SIZE_MAX_FUZZED) {
        return 0;
    }
    md_decode_fn decode = data[0] & 1 ? md_decode_massive : md_decode_alpaca;
    size--;
    char *frame = exact_copy(data + 1, size), *spaced = malloc(2 * size);
    CHECK(spaced != NULL);
    rig_init(&plain);
    rig_init(&blanks);
    enum md_frame_result result = decode(&plain.feed, frame, size, 7, &plain.connection);
    size_t spaced_size = spread(frame, size, spaced);
    char *exact = realloc(spaced, spaced_size);
    CHECK(result == decode(&blanks.feed, exact, spaced_size, 7, &blanks.connection));

    uint64_t count = rig_count(&plain);
    CHECK(count == plain.counters.records && count == rig_count(&blanks));
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
