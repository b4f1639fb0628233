/* Says whether the positional scanners take a frame: the flat ones would hide that they do not.
 *
 * usage: coinbase_takes exchange|advanced FRAME   exit status 0: taken, 1: left to the flat one */
#include <string.h>

#include "../src/decode_coinbase.c"

int main(int argc, char **argv) {
    static struct md_slot slots[256];
    static struct md_ring_header header;
    static struct md_counter_block counters;
    static struct md_cell cell;
    struct md_ring_writer ring = {
        .slots = slots, .mask = 255, .next = 1, .limit = MD_NO_LIMIT, .header = &header};
    struct md_feed feed;
    struct md_connection connection = {.number = 3, .socket = 1};
    if (argc != 3 || md_feed_init(&feed, &ring, 1, &counters, 1) != 0 ||
        md_feed_add_symbol(&feed, "BTC-USD", 7, 1, 0, 8, 8, &cell) != 0) {
        return 2;
    }
    size_t size = strlen(argv[2]);
    bool taken = strcmp(argv[1], "advanced") == 0
                     ? positional_advanced(&feed, &connection, argv[2], size, 7)
                     : positional_exchange(&feed, &connection, argv[2], size, 7);
    md_feed_free(&feed);
    return taken ? 0 : 1;
}
