/* Says whether the positional scanner takes a frame: the flat one would hide that it does not.
 *
 * usage: positional_takes spot|usdm|coinm FRAME   exit status 0: taken, 1: left to the flat scanner
 */
#include <string.h>

#include "../src/decode_binance.c"

int main(int argc, char **argv) {
    static struct md_slot slots[64];
    static struct md_ring_header header;
    static struct md_counter_block counters;
    static struct md_cell cell;
    struct md_ring_writer ring = {
        .slots = slots, .mask = 63, .next = 1, .limit = MD_NO_LIMIT, .header = &header};
    struct md_feed feed;
    struct md_connection connection = {.number = 3, .socket = 1};
    if (argc != 3 || md_feed_init(&feed, &ring, 1, &counters, 1) != 0 ||
        md_feed_add_symbol(&feed, "BTCUSDT", 7, 1, 0, 8, 8, &cell) != 0 ||
        md_feed_add_symbol(&feed, "BTCUSD_PERP", 11, 2, 0, 8, 8, &cell) != 0) {
        return 2;
    }
    const struct binance_context context = {&feed,
                                            .ts_recv = 7,
                                            .connection = &connection,
                                            .futures = strcmp(argv[1], "spot") != 0,
                                            .coinm = strcmp(argv[1], "coinm") == 0};
    bool taken = positional_decode(&context, argv[2], strlen(argv[2]));
    md_feed_free(&feed);
    return taken ? 0 : 1;
}
