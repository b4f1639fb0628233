/* Says whether a venue's quick scanner takes a frame: the flat one would hide that it does not.
 *
 * usage: quick_takes kraken|openalgo|alpaca|massive SYMBOL FRAME
 * exit status 0: taken, of arrays every event; 1: left to the flat one */
#include <string.h>

#include "../src/decode_alpaca.c"
#include "../src/decode_kraken.c"
#include "../src/decode_massive.c"
#include "../src/decode_openalgo.c"

typedef bool (*quick_event_fn)(struct md_event_context *context,
                               struct md_json *json,
                               struct md_event *event);

static bool
takes_events(struct md_event_context *context, const char *frame, quick_event_fn quick) {
    struct md_json json = {.at = frame, .end = frame + strlen(frame), .depth = 1};
    struct md_event event;
    bool taken = md_json_take(&json, '[');
    do {
        taken = taken && quick(context, &json, &event);
    } while (taken && md_json_take(&json, ','));
    return taken;
}

int main(int argc, char **argv) {
    static struct md_slot slots[256];
    static struct md_ring_header header;
    static struct md_counter_block counters;
    static struct md_cell cell;
    struct md_ring_writer ring = {
        .slots = slots, .mask = 255, .next = 1, .limit = MD_NO_LIMIT, .header = &header};
    struct md_feed feed;
    struct md_connection connection = {.number = 3, .socket = 1};
    if (argc != 4 || md_feed_init(&feed, &ring, 1, &counters, 1) != 0 ||
        md_feed_add_symbol(&feed, argv[2], strlen(argv[2]), 1, 0, 8, 8, &cell) != 0) {
        return 2;
    }
    const char *venue = argv[1], *frame = argv[3];
    size_t size = strlen(frame);
    struct md_event_row rows[MD_EVENT_ROWS_KEPT];
    struct md_event_context events = {&feed, &connection, 7, rows, 0};
    const struct kraken_context kraken = {&feed, &connection, 7, frame + size - 8};
    bool taken = strcmp(venue, "kraken") == 0 ? kraken_quick(&kraken, frame, size)
                 : strcmp(venue, "openalgo") == 0
                     ? openalgo_quick(&feed, frame, size, 7, &connection)
                 : strcmp(venue, "alpaca") == 0 ? takes_events(&events, frame, alpaca_quick)
                                                : takes_events(&events, frame, massive_quick);
    md_feed_free(&feed);
    return taken ? 0 : 1;
}
