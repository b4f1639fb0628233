/* What foresight may look at: frames in blocks of exactly their size, so that a sanitizer sees any
 * step beyond; and what it must find: the symbol that the decoder looks up. Prints "ok". */
#include "foresee.h"

#include <stdio.h>
#include <stdlib.h>

enum { SYMBOLS = 3000 };

static void fail(const char *what, const char *frame, size_t size) {
    fprintf(stderr, "%s: %.*s\n", what, (int)size, frame);
    exit(1);
}

/* Return the name's place, looking at a copy that nothing stands behind. */
static size_t look(const struct md_feed *feed, struct md_foresight *sight, const char *frame) {
    size_t size = strlen(frame);
    size_t name = 0;
    for (size_t cut = 0; cut <= size; cut++) {
        char *copy = malloc(cut == 0 ? 1 : cut);
        if (copy == NULL) {
            exit(1);
        }
        memcpy(copy, frame, cut);
        name = md_foresee_name(sight, copy, cut);
        md_foresee_begin(sight);
        md_foresee_symbol(feed, sight, copy, cut);
        md_foresee_cell(feed, sight);
        free(copy);
    }
    return name;
}

int main(void) {
    static struct md_cell cells[SYMBOLS + 1];
    static struct md_ring_writer ring;
    static struct md_counter_block counters;
    struct md_feed feed;
    if (md_feed_init(&feed, &ring, 1, &counters, SYMBOLS) != 0) {
        return 1;
    }
    char name[32], frame[256];
    for (uint32_t i = 1; i <= SYMBOLS; i++) {
        int size = snprintf(name, sizeof name, "SYM%06u", i);
        if (md_feed_add_symbol(&feed, name, (size_t)size, i, 0, 8, 8, &cells[i]) != 0) {
            return 1;
        }
    }
    struct md_foresight sight = {.marker = "\"s\":\"", .marker_size = 5};
    uint32_t straight = 0;
    for (uint32_t i = 1; i <= SYMBOLS; i++) {
        const char *kinds[] = {
            "{\"u\":%u,\"s\":\"SYM%06u\",\"b\":\"0123456789\"}",
            "{\"e\":\"trade\",\"E\":%u,\"s\":\"SYM%06u\",\"t\":0123456789}",
            "{\"stream\":\"x\",\"data\":{\"u\":%u,\"s\":\"SYM%06u\",\"b\":1234}}"};
        int size = snprintf(frame, sizeof frame, kinds[i % 3], i, i);
        size_t at = look(&feed, &sight, frame);
        snprintf(name, sizeof name, "SYM%06u", i);
        if (at == 0 || memcmp(frame + at, name, 9) != 0) {
            fail("the name is not found", frame, (size_t)size);
        }
        uint32_t hash = sight.hashes[(sight.symbols - 1) % MD_FORESEE_PLACES];
        straight += md_foresee_at(&feed, hash) == md_feed_find_symbol(&feed, name, 9);
    }
    if (straight < SYMBOLS / 2) {
        fail("mostly another symbol's line is fetched", "", 0);
    }
    const char *strange[] = {"",
                             "{",
                             "[]",
                             "\"s\":\"",
                             "{\"s\":\"",
                             "{\"s\":\"ABCDEFGHIJKLMNOPQRSTUVWXYZ\"}",
                             "{\"result\":null,\"id\":1}",
                             "{\"s\":\"\"}                         "};
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        look(&feed, &sight, strange[i]);
    }
    md_feed_free(&feed);
    puts("ok");
    return 0;
}
