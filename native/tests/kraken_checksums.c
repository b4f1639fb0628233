/* Holds the two ways to a Kraken book's checksum against each other over random courses of changes,
 * with decimals that grow now and then. Exit status 0: equal after every step; 3: this processor or
 * build has but one way. */
#include <stdio.h>
#include <string.h>

#include "../src/decode_kraken.c"

#ifdef KRAKEN_PCLMUL

static uint64_t state = 88172645463325252u;

static uint64_t random_below(uint64_t limit) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % limit;
}

int main(void) {
    if (!kraken_has_pclmul) {
        return 3;
    }
    static const uint64_t limits[] = {10, 1000, 100000000, (uint64_t)INT64_MAX};
    for (unsigned course = 0; course < 300; course++) {
        struct kraken_own own;
        struct md_feed_symbol symbol = {.price_scale = 8, .size_scale = (uint8_t)(course % 19)};
        uint64_t prices = 1 + random_below(40), sizes = limits[course % 4];
        memset(&own, 0, sizeof own);
        symbol.book = md_book_create(false);
        for (unsigned step = 0; symbol.book != NULL && step < 300; step++) {
            if (random_below(100) == 0) {
                symbol.price_decimals = (uint8_t)random_below(19);
                symbol.size_decimals = (uint8_t)random_below(19);
                kraken_forget_texts(&own);
            }
            for (uint64_t i = random_below(4); i > 0; i--) {
                int64_t price = (int64_t)((1 + random_below(prices)) * limits[course % 3]);
                int64_t size = random_below(3) == 0 ? 0 : (int64_t)(1 + random_below(sizes));
                unsigned side = random_below(2) == 0 ? MD_FLAG_BUY : MD_FLAG_SELL;
                if (!md_book_set(symbol.book, side, price, size, 0, MD_ABSENT)) {
                    return 2;
                }
            }
            if (kraken_checksum_of_sums(&symbol, &own) != kraken_checksum_of_text(&symbol)) {
                fprintf(stderr, "course %u, step %u\n", course, step);
                return 1;
            }
        }
        md_book_destroy(symbol.book);
    }
    return 0;
}

#else

int main(void) {
    return 3;
}

#endif
