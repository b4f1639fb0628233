#include "sim_binance.h"

#include <assert.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* ---- the market ------------------------------------------------------------------------------ */

enum {
    SLOTS = 64, /* a book's prices by (ticks mod 64): both sides and the drift fit, see DRIFT_MAX */
    SLOT_MASK = SLOTS - 1,
    /* How far the best bid may wander between two depth frames, so that every price touched since
     * the last one is told from its slot alone: bid0-DRIFT-LEVELS .. bid0+DRIFT+2+LEVELS. */
    DRIFT_MAX = 8,
    SPREAD_MAX = 2,
    BASE_OFFSET = 32, /* slot prices are read as [anchor - 32, anchor + 31] */
    TICKS_MIN = 2 * SLOTS,
    TICKS_MAX = 99999900, /* prices and sizes stay below 10^8: eight digits */
    LOTS_MAX = 1 << 20,
    LEVELS_PER_EVENT_MAX = 2 * SLOTS,
    CACHE_LINE = 64,
    FETCH_AHEAD = 8, /* events */
    NAME_ROOM = 64,  /* a name is copied whole, by a constant size */
};
static_assert(DRIFT_MAX + (int)MD_SIM_LEVELS <= BASE_OFFSET, "the lowest touched price has a slot");
static_assert(DRIFT_MAX + SPREAD_MAX + (int)MD_SIM_LEVELS < SLOTS - BASE_OFFSET, "and the highest");
static_assert((int)MD_SIM_NAME_SIZE_MAX <= (int)NAME_ROOM, "a name fits its room");

/* One symbol's book. Prices count ticks, sizes count lots; a lot and a tick are powers of ten. */
struct book {
    alignas(CACHE_LINE) uint32_t lots[SLOTS]; /* resting at each price; 0 outside the two windows */
    uint64_t bids_touched; /* slots whose bid changed since the last depth frame */
    uint64_t asks_touched;
    uint64_t trade_id;
    uint64_t update_id;
    uint64_t depth_update_id; /* of the last depth frame */
    uint32_t bid;             /* best; the bids are [bid - LEVELS + 1, bid] */
    uint32_t ask;             /* best; the asks are [ask, ask + LEVELS - 1] */
    uint32_t anchor;          /* the best bid at the last depth frame */
    uint32_t first_update;    /* the first one since then, counted from its id; 0: none yet */
};

/* What of a symbol is only text. */
struct label {
    char lower[NAME_ROOM];
    char upper[NAME_ROOM];
    uint8_t size;
    uint8_t pair_size;      /* of the name before its "_": coin-M's "ps" */
    uint8_t price_decimals; /* of a tick, in [0, 8] */
    uint8_t size_decimals;  /* of a lot, in [0, 8] */
};

/* 0 to 9999 as four digits each: 40 kB, and half the instructions of arithmetic. */
struct digits {
    char of[10000][4];
};

struct md_sim_market {
    struct md_sim_config config;
    uint64_t schedule_random[4]; /* which symbol, which kind */
    uint64_t walk_random[4];     /* what happens */
    uint64_t event_count;
    int64_t time_ns; /* of the next event */
    uint64_t time_fraction;
    uint32_t quote_below; /* thresholds of 16 random bits */
    uint32_t trade_below;
    size_t block_count;
    struct book *books;
    struct label *labels;
    struct digits digits;
    struct md_sim_event events[MD_SIM_BLOCK_EVENTS];
    struct md_sim_level levels[MD_SIM_BLOCK_EVENTS * LEVELS_PER_EVENT_MAX];
};

/* SplitMix64 (Steele, Lea, Flood 2014): spreads a seed. */
static uint64_t split_mix(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint64_t rotate_left(uint64_t value, unsigned by) {
    return (value << by) | (value >> (64 - by));
}

/* xoshiro256** 1.0 (Blackman, Vigna 2018; prng.di.unimi.it). */
static inline uint64_t next_random(uint64_t state[4]) {
    uint64_t result = rotate_left(state[1] * 5, 7) * 9;
    uint64_t shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate_left(state[3], 45);
    return result;
}

/* Maps 32 random bits to [0, bound). */
static inline uint32_t scale_random(uint32_t bits, uint32_t bound) {
    return (uint32_t)(((uint64_t)bits * bound) >> 32);
}

static inline uint32_t fresh_lots(uint32_t bits) {
    return 1 + (bits & (LOTS_MAX - 1));
}

static inline void set_bid(struct book *book, uint32_t price, uint32_t lots) {
    book->lots[price & SLOT_MASK] = lots;
    book->bids_touched |= UINT64_C(1) << (price & SLOT_MASK);
}

static inline void set_ask(struct book *book, uint32_t price, uint32_t lots) {
    book->lots[price & SLOT_MASK] = lots;
    book->asks_touched |= UINT64_C(1) << (price & SLOT_MASK);
}

static void
init_book(struct book *book, struct label *label, uint64_t seed, enum md_sim_venue venue) {
    /* A start price of 3 to 6 digits and where its point stands: 0.00001234 and 61537.20 alike. */
    static const struct {
        uint32_t ticks_min;
        uint8_t price_decimals;
        uint8_t size_decimals;
    } shapes[] = {
        {5000000, 2, 5},
        {200000, 2, 4},
        {50000, 2, 3},
        {40000, 3, 2},
        {60000, 4, 1},
        {5000, 4, 0},
        {20000, 6, 0},
        {1000, 8, 0},
    };
    size_t shape = split_mix(&seed) % (sizeof shapes / sizeof shapes[0]);
    label->price_decimals = shapes[shape].price_decimals;
    /* Futures trade in coarser lots: at most 3 decimals. Coin-M counts contracts. */
    uint8_t decimals = shapes[shape].size_decimals;
    uint8_t decimals_max = venue == MD_SIM_SPOT ? 8 : venue == MD_SIM_USDM ? 3 : 0;
    label->size_decimals = decimals < decimals_max ? decimals : decimals_max;

    uint32_t ticks = shapes[shape].ticks_min;
    book->bid = ticks + scale_random((uint32_t)split_mix(&seed), ticks);
    book->ask = book->bid + 1;
    book->anchor = book->bid;
    book->trade_id = 100000000 + split_mix(&seed) % 4000000000u;
    uint64_t update_min = venue != MD_SIM_SPOT ? 5000000000000u : 10000000000u;
    book->depth_update_id = update_min + split_mix(&seed) % update_min;
    book->update_id = book->depth_update_id + 1;
    book->first_update = 1;
    for (uint32_t i = 0; i < MD_SIM_LEVELS; i++) {
        set_bid(book, book->bid - i, fresh_lots((uint32_t)split_mix(&seed)));
        set_ask(book, book->ask + i, fresh_lots((uint32_t)split_mix(&seed)));
    }
}

struct md_sim_market *md_sim_create(const struct md_sim_config *config) {
    struct md_sim_market *market = calloc(1, sizeof *market);
    if (market == NULL) {
        return NULL;
    }
    market->config = *config;
    market->books = aligned_alloc(alignof(struct book), config->symbol_count * sizeof(struct book));
    market->labels = calloc(config->symbol_count, sizeof *market->labels);
    if (market->books == NULL || market->labels == NULL) {
        md_sim_destroy(market);
        return NULL;
    }
    memset(market->books, 0, config->symbol_count * sizeof(struct book));
    uint64_t seed = config->seed;
    for (size_t i = 0; i < 4; i++) {
        market->schedule_random[i] = split_mix(&seed);
        market->walk_random[i] = split_mix(&seed);
    }
    for (uint32_t i = 0; i < config->symbol_count; i++) {
        init_book(&market->books[i], &market->labels[i], split_mix(&seed), config->venue);
    }
    for (unsigned i = 0; i < 10000; i++) {
        char *text = market->digits.of[i];
        text[0] = (char)('0' + i / 1000);
        text[1] = (char)('0' + i / 100 % 10);
        text[2] = (char)('0' + i / 10 % 10);
        text[3] = (char)('0' + i % 10);
    }
    const uint8_t *mix = config->mix_percent;
    market->quote_below = mix[MD_SIM_QUOTE] * 65536u / 100;
    /* With no depth wanted, rounding must not leave it a sliver. */
    market->trade_below = mix[MD_SIM_DEPTH] == 0
                              ? 65536u
                              : (uint32_t)(mix[MD_SIM_QUOTE] + mix[MD_SIM_TRADE]) * 65536u / 100;
    return market;
}

void md_sim_destroy(struct md_sim_market *market) {
    if (market != NULL) {
        free(market->books);
        free(market->labels);
        free(market);
    }
}

void md_sim_set_name(struct md_sim_market *market, uint32_t index, const char *name, size_t size) {
    assert(index < market->config.symbol_count && size > 0 && size <= MD_SIM_NAME_SIZE_MAX);
    struct label *label = &market->labels[index];
    label->size = (uint8_t)size;
    for (size_t i = 0; i < size; i++) {
        char letter = name[i];
        label->lower[i] = (char)(letter >= 'A' && letter <= 'Z' ? letter + 32 : letter);
        label->upper[i] = (char)(letter >= 'a' && letter <= 'z' ? letter - 32 : letter);
    }
    const char *underscore = memchr(name, '_', size);
    label->pair_size = (uint8_t)(underscore == NULL ? size : (size_t)(underscore - name));
}

void md_sim_set_time(struct md_sim_market *market, int64_t time_ns) {
    market->time_ns = time_ns;
    market->time_fraction = 0;
}

void md_sim_shift_time(struct md_sim_market *market, int64_t by_ns) {
    market->time_ns += by_ns;
}

int64_t md_sim_time(const struct md_sim_market *market) {
    return market->time_ns;
}

void md_sim_decimals(const struct md_sim_market *market,
                     uint32_t index,
                     uint8_t *price,
                     uint8_t *size) {
    assert(index < market->config.symbol_count);
    *price = market->labels[index].price_decimals;
    *size = market->labels[index].size_decimals;
}

/* The book has changed `by` times. */
static inline void count_updates(struct book *book, uint64_t by) {
    book->update_id += by;
    if (book->first_update == 0) {
        book->first_update = (uint32_t)(book->update_id - book->depth_update_id);
    }
}

/* Moves the best price by one tick: the spread goes 1, 2, 1, .. and the middle wanders. */
static void move_top(struct book *book, bool up, uint32_t lots) {
    bool tight = book->ask - book->bid == 1;
    if (up && tight) {
        set_ask(book, book->ask, 0); /* the best ask is taken whole */
        book->ask += 1;
        set_ask(book, book->ask + MD_SIM_LEVELS - 1, lots);
    } else if (up) {
        book->bid += 1; /* a new bid inside the spread; the last one of the window is withdrawn */
        set_bid(book, book->bid, lots);
        set_bid(book, book->bid - MD_SIM_LEVELS, 0);
    } else if (tight) {
        set_bid(book, book->bid, 0);
        book->bid -= 1;
        set_bid(book, book->bid - MD_SIM_LEVELS + 1, lots);
    } else {
        book->ask -= 1;
        set_ask(book, book->ask, lots);
        set_ask(book, book->ask + MD_SIM_LEVELS, 0);
    }
}

static void resize_level(struct book *book, bool at_bid, uint32_t depth, uint32_t lots) {
    if (at_bid) {
        set_bid(book, book->bid - depth, lots);
    } else {
        set_ask(book, book->ask + depth, lots);
    }
}

static void
walk_quote(struct book *book, struct md_sim_event *event, uint64_t bits, bool depth_follows) {
    uint32_t lots = fresh_lots((uint32_t)(bits >> 40));
    count_updates(book, 1 + (bits & 7));
    bool coin = bits & 8;
    if (bits & 16) {
        if (!depth_follows) {
            book->anchor = book->bid; /* nobody reads the slots' prices: the drift needs no bound */
        }
        bool low = book->bid + DRIFT_MAX <= book->anchor || book->bid <= TICKS_MIN;
        bool high = book->bid >= book->anchor + DRIFT_MAX || book->bid >= TICKS_MAX;
        move_top(book, low || (coin && !high), lots);
    } else {
        resize_level(book, coin, 0, lots);
        if (bits & 32) {
            resize_level(
                book, bits & 64, 1 + ((bits >> 7) & 15), fresh_lots((uint32_t)(bits >> 20)));
        }
    }
    event->id = book->update_id;
    event->bid = (struct md_sim_level){book->bid, book->lots[book->bid & SLOT_MASK]};
    event->ask = (struct md_sim_level){book->ask, book->lots[book->ask & SLOT_MASK]};
}

static void walk_trade(struct book *book, struct md_sim_event *event, uint64_t bits) {
    bool at_bid = bits & 1;
    uint32_t price = at_bid ? book->bid : book->ask;
    uint32_t resting = book->lots[price & SLOT_MASK];
    uint32_t lots = 1 + scale_random((uint32_t)(bits >> 32), resting);
    uint32_t left = resting > lots ? resting - lots : fresh_lots((uint32_t)(bits >> 8));
    resize_level(book, at_bid, 0, left);
    count_updates(book, 1);
    book->trade_id += 1;
    event->id = book->trade_id;
    event->buyer_is_maker = at_bid;
    event->bid = (struct md_sim_level){price, lots};
}

/* Writes the touched levels of one side, the best first. Returns how many. */
static uint8_t take_touched(const struct book *book, bool bids, struct md_sim_level *out) {
    uint32_t base = book->anchor - BASE_OFFSET;
    unsigned by = base & SLOT_MASK;
    uint64_t touched = bids ? book->bids_touched : book->asks_touched;
    touched = (touched >> by) | (touched << ((SLOTS - by) & SLOT_MASK)); /* bit j: price base + j */
    uint8_t count = 0;
    while (touched != 0) {
        unsigned bit =
            bids ? 63 - (unsigned)__builtin_clzll(touched) : (unsigned)__builtin_ctzll(touched);
        touched &= ~(UINT64_C(1) << bit);
        uint32_t price = base + bit;
        /* A price may have changed sides since: then it is gone on this one. */
        bool here = bids ? price <= book->bid : price >= book->ask;
        out[count++] = (struct md_sim_level){price, here ? book->lots[price & SLOT_MASK] : 0};
    }
    return count;
}

static size_t
walk_depth(struct book *book, struct md_sim_event *event, uint64_t bits, struct md_sim_level *out) {
    if ((book->bids_touched | book->asks_touched) == 0) {
        count_updates(book, 1);
        resize_level(book, bits & 1, 1 + ((bits >> 1) & 15), fresh_lots((uint32_t)(bits >> 32)));
    }
    event->bid_count = take_touched(book, true, out);
    event->ask_count = take_touched(book, false, out + event->bid_count);
    event->id = book->update_id;
    event->previous_id = book->depth_update_id;
    /* Spot has no holes between frames, futures count other symbols' updates too: but the first
     * one of this symbol is never in a hole, since a snapshot may end with it. */
    uint64_t hole = bits >> 61;
    uint64_t hole_max = book->first_update - 1;
    event->first_id = book->depth_update_id + 1 + (hole < hole_max ? hole : hole_max);
    book->depth_update_id = book->update_id;
    book->first_update = 0;
    book->bids_touched = 0;
    book->asks_touched = 0;
    book->anchor = book->bid;
    return (size_t)event->bid_count + event->ask_count;
}

/* Which symbol and what kind, for the whole block: known ahead, so that books can be fetched ahead.
 */
static void schedule(struct md_sim_market *market, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = next_random(market->schedule_random);
        uint32_t kind_bits = bits & 0xffff;
        struct md_sim_event *event = &market->events[i];
        event->symbol = scale_random((uint32_t)(bits >> 32), market->config.symbol_count);
        event->kind = kind_bits < market->quote_below   ? MD_SIM_QUOTE
                      : kind_bits < market->trade_below ? MD_SIM_TRADE
                                                        : MD_SIM_DEPTH;
    }
}

/* Starts to load what an event FETCH_AHEAD later needs: 50,000 symbols stay in no cache. */
static inline void fetch(const void *from, size_t size) {
    for (size_t at = 0; at < size; at += CACHE_LINE) {
        __builtin_prefetch((const char *)from + at);
    }
}

void md_sim_advance(struct md_sim_market *market, size_t count) {
    assert(count <= MD_SIM_BLOCK_EVENTS);
    const uint64_t rate = market->config.rate;
    const int64_t step_ns = (int64_t)(1000000000 / rate);
    const uint64_t step_fraction = 1000000000 % rate;
    const bool depth_follows = market->config.mix_percent[MD_SIM_DEPTH] != 0;
    size_t levels = 0;
    schedule(market, count);
    for (size_t i = 0; i < count; i++) {
        if (i + FETCH_AHEAD < count) {
            fetch(&market->books[market->events[i + FETCH_AHEAD].symbol], sizeof(struct book));
        }
        struct md_sim_event *event = &market->events[i];
        struct book *book = &market->books[event->symbol];
        uint64_t bits = next_random(market->walk_random);
        event->time_ns = market->time_ns;
        switch (event->kind) {
        case MD_SIM_QUOTE:
            walk_quote(book, event, bits, depth_follows);
            break;
        case MD_SIM_TRADE:
            walk_trade(book, event, bits);
            break;
        default:
            event->level_first = (uint32_t)levels;
            levels += walk_depth(book, event, bits, &market->levels[levels]);
            if (market->config.venue == MD_SIM_SPOT) {
                event->first_id = event->previous_id + 1;
            }
        }
        market->time_ns += step_ns;
        market->time_fraction += step_fraction;
        if (market->time_fraction >= rate) {
            market->time_fraction -= rate;
            market->time_ns += 1;
        }
    }
    market->event_count += count;
    market->block_count = count;
}

const struct md_sim_event *
md_sim_next(struct md_sim_market *market, const uint8_t *wanted, uint64_t count) {
    for (; count != 0; count--) {
        md_sim_advance(market, 1);
        const struct md_sim_event *event = &market->events[0];
        if (wanted[event->symbol] >> event->kind & 1) {
            return event;
        }
    }
    return NULL;
}

const struct md_sim_level *md_sim_levels(const struct md_sim_market *market,
                                         const struct md_sim_event *event) {
    return &market->levels[event->level_first];
}

void md_sim_read_book(const struct md_sim_market *market, uint32_t index, struct md_sim_book *out) {
    assert(index < market->config.symbol_count);
    const struct book *book = &market->books[index];
    out->update_id = book->update_id;
    for (uint32_t i = 0; i < MD_SIM_LEVELS; i++) {
        uint32_t bid = book->bid - i;
        uint32_t ask = book->ask + i;
        out->bids[i] = (struct md_sim_level){bid, book->lots[bid & SLOT_MASK]};
        out->asks[i] = (struct md_sim_level){ask, book->lots[ask & SLOT_MASK]};
    }
}

uint64_t md_sim_event_count(const struct md_sim_market *market) {
    return market->event_count;
}

size_t md_sim_block_count(const struct md_sim_market *market) {
    return market->block_count;
}

/* ---- text ------------------------------------------------------------------------------------ */

/* These write behind what they return, up to the size of their widest copy; the room that
 * md_sim_render keeps free covers it. Little-endian. */

#define ZEROS UINT64_C(0x3030303030303030)
#define PUT(at, literal) (memcpy((at), (literal), sizeof(literal) - 1), (at) + sizeof(literal) - 1)

static inline char *put_name(char *at, const char *name, size_t size) {
    memcpy(at, name, NAME_ROOM / 2);
    if (size > NAME_ROOM / 2) {
        memcpy(at + NAME_ROOM / 2, name + NAME_ROOM / 2, NAME_ROOM / 2);
    }
    return at + size;
}

/* The eight decimal digits of value, in [0, 10^8), as text in one word: the first digit lowest. */
static inline uint64_t eight_digits(const struct digits *digits, uint32_t value) {
    uint32_t high;
    uint32_t low;
    memcpy(&high, digits->of[value / 10000], 4);
    memcpy(&low, digits->of[value % 10000], 4);
    return (uint64_t)low << 32 | high;
}

static inline char *put_word(char *at, uint64_t word) {
    memcpy(at, &word, 8);
    return at + 8;
}

/* How many of a word's eight digits are leading zeros, in [0, 8]. */
static inline unsigned leading_zeros(uint64_t word) {
    uint64_t nonzero = word ^ ZEROS;
    return nonzero == 0 ? 8 : (unsigned)__builtin_ctzll(nonzero) / 8;
}

/* value in [1, 10^16). */
static inline char *put_id(char *at, const struct digits *digits, uint64_t value) {
    if (value >= 100000000) {
        uint64_t word = eight_digits(digits, (uint32_t)(value / 100000000));
        unsigned leading = leading_zeros(word);
        at = put_word(at, word >> 8 * leading) - leading;
        return put_word(at, eight_digits(digits, (uint32_t)(value % 100000000)));
    }
    uint64_t word = eight_digits(digits, (uint32_t)value);
    unsigned leading = leading_zeros(word);
    return put_word(at, word >> 8 * leading) - leading;
}

/* value x 10^-decimals with `shown` decimals, value in [0, 10^8), decimals <= shown <= 8: the eight
 * digits, cut at the point. */
static inline char *put_fixed(
    char *at, const struct digits *digits, uint32_t value, unsigned decimals, unsigned shown) {
    uint64_t word = eight_digits(digits, value);
    unsigned leading = leading_zeros(word);
    unsigned point = 8 - decimals; /* digits before it */
    if (leading >= point) {
        leading = point - 1; /* wraps when there are none: one '0' is written then */
    }
    uint64_t whole = point == 0 ? ZEROS : word >> (8 * leading & 63);
    /* In two steps: a shift by 64 is undefined. */
    uint64_t fraction = word >> 4 * point >> 4 * point | ZEROS << 4 * decimals << 4 * decimals;
    put_word(at, whole);
    at += point - leading;
    *at = '.';
    put_word(at + 1, fraction);
    return shown == 0 ? at : at + 1 + shown;
}

/* ---- frames ---------------------------------------------------------------------------------- */

struct renderer {
    const struct md_sim_market *market;
    unsigned form;
    unsigned time_size;                     /* digits of a time: 13 of ms, 16 of µs */
    uint8_t header_size[MD_SIM_KIND_COUNT]; /* of the last frame of each kind */
    int64_t time_unit_ns;                   /* 10^6 or 10^3 */
    int64_t time_cached_ns; /* the texts below hold for [this, this + time_unit_ns) */
    char event_time[16];    /* E: the schedule */
    char trade_time[16];    /* T: the match, a millisecond before the message */
};

static void put_time(const struct renderer *renderer, char text[16], int64_t value) {
    char digits[32] = {0};
    put_id(digits, &renderer->market->digits, (uint64_t)value);
    memcpy(text, digits, 16);
}

static void set_time(struct renderer *renderer, int64_t time_ns) {
    if (time_ns - renderer->time_cached_ns < renderer->time_unit_ns) {
        return;
    }
    renderer->time_cached_ns = time_ns - time_ns % renderer->time_unit_ns;
    int64_t units = time_ns / renderer->time_unit_ns;
    put_time(renderer, renderer->event_time, units);
    units = (time_ns - 1000000) / renderer->time_unit_ns;
    put_time(renderer, renderer->trade_time, units);
}

static inline char *put_event_time(char *at, const struct renderer *renderer) {
    memcpy(at, renderer->event_time, 16);
    return at + renderer->time_size;
}

static inline char *put_trade_time(char *at, const struct renderer *renderer) {
    memcpy(at, renderer->trade_time, 16);
    return at + renderer->time_size;
}

static inline unsigned price_shown(const struct renderer *renderer, const struct label *label) {
    return renderer->market->config.venue != MD_SIM_SPOT ? label->price_decimals : 8;
}

static inline unsigned size_shown(const struct renderer *renderer, const struct label *label) {
    return renderer->market->config.venue != MD_SIM_SPOT ? label->size_decimals : 8;
}

static inline char *
put_price(char *at, const struct renderer *renderer, const struct label *label, uint32_t ticks) {
    return put_fixed(
        at, &renderer->market->digits, ticks, label->price_decimals, price_shown(renderer, label));
}

static inline char *
put_size(char *at, const struct renderer *renderer, const struct label *label, uint32_t lots) {
    return put_fixed(
        at, &renderer->market->digits, lots, label->size_decimals, size_shown(renderer, label));
}

/* The venue's own key order: spot {e,E,s,t,p,q,T,m,M}, futures {e,E,T,s,t,p,q,X,m}. */
static char *put_trade(char *at,
                       const struct renderer *renderer,
                       const struct label *label,
                       const struct md_sim_event *event) {
    bool futures = renderer->market->config.venue != MD_SIM_SPOT;
    at = PUT(at, "{\"e\":\"trade\",\"E\":");
    at = put_event_time(at, renderer);
    if (futures) {
        at = PUT(at, ",\"T\":");
        at = put_trade_time(at, renderer);
    }
    at = PUT(at, ",\"s\":\"");
    at = put_name(at, label->upper, label->size);
    at = PUT(at, "\",\"t\":");
    at = put_id(at, &renderer->market->digits, event->id);
    at = PUT(at, ",\"p\":\"");
    at = put_price(at, renderer, label, event->bid.price);
    at = PUT(at, "\",\"q\":\"");
    at = put_size(at, renderer, label, event->bid.lots);
    if (futures) {
        at = PUT(at, "\",\"X\":\"MARKET\"");
    } else {
        at = PUT(at, "\",\"T\":");
        at = put_trade_time(at, renderer);
    }
    at = event->buyer_is_maker ? PUT(at, ",\"m\":true") : PUT(at, ",\"m\":false");
    return futures ? PUT(at, "}") : PUT(at, ",\"M\":true}");
}

/* Coin-M's quotes and depth frames name the pair too. */
static inline char *put_pair(char *at, const struct renderer *renderer, const struct label *label) {
    if (renderer->market->config.venue != MD_SIM_COINM) {
        return at;
    }
    at = PUT(at, "\",\"ps\":\"");
    return put_name(at, label->upper, label->pair_size);
}

/* Spot {u,s,b,B,a,A}, USD-M {e,u,s,b,B,a,A,T,E}, coin-M {u,e,s,ps,b,B,a,A,T,E}. */
static char *put_quote(char *at,
                       const struct renderer *renderer,
                       const struct label *label,
                       const struct md_sim_event *event) {
    bool futures = renderer->market->config.venue != MD_SIM_SPOT;
    bool usdm = renderer->market->config.venue == MD_SIM_USDM;
    at = usdm ? PUT(at, "{\"e\":\"bookTicker\",\"u\":") : PUT(at, "{\"u\":");
    at = put_id(at, &renderer->market->digits, event->id);
    at = futures && !usdm ? PUT(at, ",\"e\":\"bookTicker\",\"s\":\"") : PUT(at, ",\"s\":\"");
    at = put_name(at, label->upper, label->size);
    at = put_pair(at, renderer, label);
    at = PUT(at, "\",\"b\":\"");
    at = put_price(at, renderer, label, event->bid.price);
    at = PUT(at, "\",\"B\":\"");
    at = put_size(at, renderer, label, event->bid.lots);
    at = PUT(at, "\",\"a\":\"");
    at = put_price(at, renderer, label, event->ask.price);
    at = PUT(at, "\",\"A\":\"");
    at = put_size(at, renderer, label, event->ask.lots);
    if (!futures) {
        return PUT(at, "\"}");
    }
    at = PUT(at, "\",\"T\":");
    at = put_trade_time(at, renderer);
    at = PUT(at, ",\"E\":");
    at = put_event_time(at, renderer);
    return PUT(at, "}");
}

static char *put_levels(char *at,
                        const struct renderer *renderer,
                        const struct label *label,
                        const struct md_sim_level *levels,
                        size_t count) {
    for (size_t i = 0; i < count; i++) {
        at = i == 0 ? PUT(at, "[\"") : PUT(at, ",[\"");
        at = put_price(at, renderer, label, levels[i].price);
        at = PUT(at, "\",\"");
        at = put_size(at, renderer, label, levels[i].lots);
        at = PUT(at, "\"]");
    }
    return at;
}

/* Spot {e,E,s,U,u,b,a}, futures {e,E,T,s,U,u,pu,b,a}; coin-M has ps after s. */
static char *put_depth(char *at,
                       const struct renderer *renderer,
                       const struct label *label,
                       const struct md_sim_event *event) {
    bool futures = renderer->market->config.venue != MD_SIM_SPOT;
    const struct md_sim_level *levels = &renderer->market->levels[event->level_first];
    at = PUT(at, "{\"e\":\"depthUpdate\",\"E\":");
    at = put_event_time(at, renderer);
    if (futures) {
        at = PUT(at, ",\"T\":");
        at = put_trade_time(at, renderer);
    }
    at = PUT(at, ",\"s\":\"");
    at = put_name(at, label->upper, label->size);
    at = put_pair(at, renderer, label);
    at = PUT(at, "\",\"U\":");
    at = put_id(at, &renderer->market->digits, event->first_id);
    at = PUT(at, ",\"u\":");
    at = put_id(at, &renderer->market->digits, event->id);
    if (futures) {
        at = PUT(at, ",\"pu\":");
        at = put_id(at, &renderer->market->digits, event->previous_id);
    }
    at = PUT(at, ",\"b\":[");
    at = put_levels(at, renderer, label, levels, event->bid_count);
    at = PUT(at, "],\"a\":[");
    at = put_levels(at, renderer, label, levels + event->bid_count, event->ask_count);
    return PUT(at, "]}");
}

static char *put_stream(char *at, const struct label *label, unsigned stream) {
    at = PUT(at, "{\"stream\":\"");
    at = put_name(at, label->lower, label->size);
    switch (stream) {
    case MD_SIM_STREAM_TRADE:
        at = PUT(at, "@trade");
        break;
    case MD_SIM_STREAM_QUOTE:
        at = PUT(at, "@bookTicker");
        break;
    case MD_SIM_STREAM_DEPTH_100MS:
        at = PUT(at, "@depth@100ms");
        break;
    case MD_SIM_STREAM_DEPTH_250MS:
        at = PUT(at, "@depth@250ms");
        break;
    case MD_SIM_STREAM_DEPTH_500MS:
        at = PUT(at, "@depth@500ms");
        break;
    case MD_SIM_STREAM_DEPTH_0MS:
        at = PUT(at, "@depth@0ms");
        break;
    default:
        at = PUT(at, "@depth");
    }
    return PUT(at, "\",\"data\":");
}

/* Writes one frame: a header of 2 or 4 bytes (RFC 6455 section 5.2), then the payload. The payload
 * goes where the last frame of the kind had it, and is moved when its size decides otherwise:
 * moving each short one would stall on the stores just made. */
static inline char *
put_frame(char *at, struct renderer *renderer, const struct md_sim_event *event, unsigned stream) {
    enum { SHORT_HEADER = 2, LONG_HEADER = 4, SHORT_PAYLOAD_MAX = 125, FIN_TEXT = 0x81 };
    const struct label *label = &renderer->market->labels[event->symbol];
    uint8_t *header_guess = &renderer->header_size[event->kind];
    char *payload = at + *header_guess;
    char *end = renderer->form & MD_SIM_COMBINED ? put_stream(payload, label, stream) : payload;
    switch (event->kind) {
    case MD_SIM_TRADE:
        end = put_trade(end, renderer, label, event);
        break;
    case MD_SIM_QUOTE:
        end = put_quote(end, renderer, label, event);
        break;
    default:
        end = put_depth(end, renderer, label, event);
    }
    if (renderer->form & MD_SIM_COMBINED) {
        *end++ = '}';
    }
    size_t size = (size_t)(end - payload);
    unsigned header_size = size <= SHORT_PAYLOAD_MAX ? SHORT_HEADER : LONG_HEADER;
    if (header_size != *header_guess) {
        *header_guess = (uint8_t)header_size;
        memmove(at + header_size, payload, size);
    }
    at[0] = (char)FIN_TEXT;
    if (header_size == SHORT_HEADER) {
        at[1] = (char)size;
    } else {
        at[1] = 126;
        at[2] = (char)(size >> 8);
        at[3] = (char)(size & 0xff);
    }
    return at + header_size + size;
}

/* The widest texts: five depth streams, each of LEVELS_PER_EVENT_MAX rows ["99999999.00000000",..].
 */
static_assert(5 * (LEVELS_PER_EVENT_MAX * 48 + 4 * NAME_ROOM + 256) < MD_SIM_EVENT_SIZE_MAX,
              "an event fits the room kept for it");

size_t md_sim_render(const struct md_sim_market *market,
                     const uint8_t *wanted,
                     unsigned form,
                     size_t *cursor,
                     char *out,
                     size_t capacity,
                     struct md_sim_counts *counts) {
    static const uint8_t streams_of_kind[MD_SIM_KIND_COUNT] = {
        [MD_SIM_TRADE] = MD_SIM_STREAM_TRADE,
        [MD_SIM_QUOTE] = MD_SIM_STREAM_QUOTE,
        [MD_SIM_DEPTH] = MD_SIM_STREAM_DEPTH | MD_SIM_STREAM_DEPTH_100MS |
                         MD_SIM_STREAM_DEPTH_250MS | MD_SIM_STREAM_DEPTH_500MS |
                         MD_SIM_STREAM_DEPTH_0MS,
    };
    bool microseconds = form & MD_SIM_MICROSECONDS;
    struct renderer renderer = {
        .market = market,
        .form = form,
        .time_size = microseconds ? 16 : 13,
        .time_unit_ns = microseconds ? 1000 : 1000000,
        .header_size = {4, 4, 4},
        .time_cached_ns = INT64_MIN / 2,
    };
    char *at = out;
    size_t i = *cursor;
    for (; i < market->block_count; i++) {
        if (capacity - (size_t)(at - out) < MD_SIM_EVENT_SIZE_MAX) {
            break;
        }
        if (i + FETCH_AHEAD < market->block_count) {
            uint32_t ahead = market->events[i + FETCH_AHEAD].symbol;
            fetch(&market->labels[ahead], sizeof(struct label));
        }
        const struct md_sim_event *event = &market->events[i];
        unsigned streams = wanted[event->symbol] & streams_of_kind[event->kind];
        if (streams == 0) {
            continue;
        }
        set_time(&renderer, event->time_ns);
        unsigned records = event->kind == MD_SIM_DEPTH ? event->bid_count + event->ask_count : 1;
        for (; streams != 0; streams &= streams - 1) {
            at = put_frame(at, &renderer, event, streams & (~streams + 1));
            counts->frames[event->kind] += 1;
            counts->records[event->kind] += records;
        }
    }
    *cursor = i;
    return (size_t)(at - out);
}
