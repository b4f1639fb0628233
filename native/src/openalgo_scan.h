/* An OpenAlgo frame as JSON: one pass over it, which keeps what the decoder asks for.
 *
 * Only what is no JSON fails here. What has another shape than a message's is kept as it is, or
 * noted; of a key that comes twice the last one counts. Private to decode_openalgo.c. */
#ifndef MDSYS_OPENALGO_SCAN_H
#define MDSYS_OPENALGO_SCAN_H

#include "json_scan.h"
#include "openalgo_publish.h"

#define OPENALGO_KEY_SIZE_MAX 24u

enum { ROW_PRICE, ROW_SIZE, ROW_ORDERS, ROW_KEY_COUNT };

/* One side of the depth as it is written. */
struct openalgo_side {
    struct md_json_value rows[OPENALGO_ROWS_MAX][ROW_KEY_COUNT];
    unsigned count;
    bool there;
    bool spoilt; /* it is JSON, and no list of levels */
};

enum {
    TOP_TYPE,
    TOP_STATUS,
    TOP_SYMBOL,
    TOP_EXCHANGE,
    TOP_DATA,
    TOP_KEY_COUNT,
};

/* Of names for one thing the first that is there counts. */
enum {
    DATA_LTP,
    DATA_VOLUME,
    DATA_LAST_QUANTITY,
    DATA_LTQ,
    DATA_LAST_TRADE_QUANTITY,
    DATA_OI,
    DATA_OPEN_INTEREST,
    DATA_TIMESTAMP,
    DATA_DEPTH,
    DATA_KEY_COUNT,
};

struct openalgo_message {
    struct md_json_value top[TOP_KEY_COUNT];
    struct md_json_value data[DATA_KEY_COUNT];
    struct openalgo_side sides[2]; /* bids, asks */
};

struct openalgo_key {
    const char *text;
    size_t size;
};

#define OPENALGO_KEY(word) {word, sizeof word - 1}

static const struct openalgo_key top_keys[TOP_KEY_COUNT] = {
    [TOP_TYPE] = OPENALGO_KEY("type"),
    [TOP_STATUS] = OPENALGO_KEY("status"),
    [TOP_SYMBOL] = OPENALGO_KEY("symbol"),
    [TOP_EXCHANGE] = OPENALGO_KEY("exchange"),
    [TOP_DATA] = OPENALGO_KEY("data"),
};
static const struct openalgo_key data_keys[DATA_KEY_COUNT] = {
    [DATA_LTP] = OPENALGO_KEY("ltp"),
    [DATA_VOLUME] = OPENALGO_KEY("volume"),
    [DATA_LAST_QUANTITY] = OPENALGO_KEY("last_quantity"),
    [DATA_LTQ] = OPENALGO_KEY("ltq"),
    [DATA_LAST_TRADE_QUANTITY] = OPENALGO_KEY("last_trade_quantity"),
    [DATA_OI] = OPENALGO_KEY("oi"),
    [DATA_OPEN_INTEREST] = OPENALGO_KEY("open_interest"),
    [DATA_TIMESTAMP] = OPENALGO_KEY("timestamp"),
    [DATA_DEPTH] = OPENALGO_KEY("depth"),
};
static const struct openalgo_key depth_keys[2] = {OPENALGO_KEY("buy"), OPENALGO_KEY("sell")};
static const struct openalgo_key row_keys[ROW_KEY_COUNT] = {
    [ROW_PRICE] = OPENALGO_KEY("price"),
    [ROW_SIZE] = OPENALGO_KEY("quantity"),
    [ROW_ORDERS] = OPENALGO_KEY("orders"),
};

/* Go on to an object's next key, past its colon. 1: there is one, 0: the object has ended, -1: this
 * is no JSON. The first call is behind the opening brace. */
static int next_key(struct md_json *json, bool *begun, struct md_json_value *key) {
    bool first = !*begun;
    *begun = true;
    if (first || !md_json_take(json, ',')) {
        if (md_json_take(json, '}')) {
            json->depth--;
            return 0;
        }
        if (!first) {
            return -1;
        }
    }
    return md_json_key(json, key) ? 1 : -1;
}

/* The text's place among keys; count: it is none of them. */
static inline unsigned
key_place(const struct md_json_value *text, const struct openalgo_key *keys, unsigned count) {
    char buffer[OPENALGO_KEY_SIZE_MAX];
    const char *at = text->text;
    size_t size = text->size;
    if (text->escaped) {
        at = buffer;
        size = md_json_unescape(text, buffer, sizeof buffer);
    }
    for (unsigned i = 0; i < count; i++) {
        if (size == keys[i].size && memcmp(at, keys[i].text, size) == 0) {
            return i;
        }
    }
    return count;
}

static bool at_open(struct md_json *json, char open) {
    md_json_space(json);
    return json->at < json->end && *json->at == open;
}

/* Step into an object or array. */
static void enter(struct md_json *json) {
    json->at++;
    json->depth++;
}

/* Take {"price": .., "quantity": .., "orders": ..}. */
static bool take_row(struct md_json *json, struct md_json_value row[ROW_KEY_COUNT]) {
    struct md_json_value key, unknown;
    bool begun = false;
    int step;
    memset(row, 0, ROW_KEY_COUNT * sizeof row[0]);
    enter(json);
    while ((step = next_key(json, &begun, &key)) > 0) {
        unsigned place = key_place(&key, row_keys, ROW_KEY_COUNT);
        if (!md_json_value(json, place < ROW_KEY_COUNT ? &row[place] : &unknown)) {
            return false;
        }
    }
    return step == 0;
}

/* Take one side. False: no JSON; what else is wrong with it is noted in `spoilt`. */
static bool take_side(struct md_json *json, struct openalgo_side *side) {
    struct md_json_value value;
    side->count = 0;
    side->spoilt = false;
    if (!at_open(json, '[')) {
        bool taken = md_json_value(json, &value);
        side->there = taken && value.type != MD_JSON_NULL;
        side->spoilt = side->there;
        return taken;
    }
    side->there = true;
    enter(json);
    if (!md_json_take(json, ']')) {
        do {
            bool fits = side->count < OPENALGO_ROWS_MAX;
            if (fits && at_open(json, '{')) {
                if (!take_row(json, side->rows[side->count++])) {
                    return false;
                }
            } else if (md_json_value(json, &value)) {
                side->spoilt = true;
            } else {
                return false;
            }
        } while (md_json_take(json, ','));
        if (!md_json_take(json, ']')) {
            return false;
        }
    }
    json->depth--;
    return true;
}

static bool take_depth(struct md_json *json, struct openalgo_side sides[2]) {
    struct md_json_value key, unknown;
    bool begun = false;
    int step;
    enter(json);
    while ((step = next_key(json, &begun, &key)) > 0) {
        unsigned place = key_place(&key, depth_keys, 2);
        if (place < 2 ? !take_side(json, &sides[place]) : !md_json_value(json, &unknown)) {
            return false;
        }
    }
    return step == 0;
}

static void forget_depth(struct openalgo_message *message) {
    for (unsigned i = 0; i < 2; i++) {
        message->sides[i].there = message->sides[i].spoilt = false;
        message->sides[i].count = 0;
    }
}

static bool take_data(struct md_json *json, struct openalgo_message *message) {
    struct md_json_value key, unknown;
    bool begun = false;
    int step;
    memset(message->data, 0, sizeof message->data);
    enter(json);
    while ((step = next_key(json, &begun, &key)) > 0) {
        unsigned place = key_place(&key, data_keys, DATA_KEY_COUNT);
        struct md_json_value *value = place < DATA_KEY_COUNT ? &message->data[place] : &unknown;
        if (place == DATA_DEPTH) {
            forget_depth(message); /* of a key that comes twice the last one counts */
        }
        if (place == DATA_DEPTH && at_open(json, '{')) {
            *value = (struct md_json_value){.type = MD_JSON_OBJECT};
            if (!take_depth(json, message->sides)) {
                return false;
            }
        } else if (!md_json_value(json, value)) {
            return false;
        }
    }
    return step == 0;
}

static bool take_message(struct md_json *json, struct openalgo_message *message) {
    struct md_json_value key, unknown;
    bool begun = false;
    int step;
    memset(message->top, 0, sizeof message->top);
    if (!at_open(json, '{')) {
        return false;
    }
    enter(json);
    while ((step = next_key(json, &begun, &key)) > 0) {
        unsigned place = key_place(&key, top_keys, TOP_KEY_COUNT);
        struct md_json_value *value = place < TOP_KEY_COUNT ? &message->top[place] : &unknown;
        if (place == TOP_DATA) {
            forget_depth(message);
        }
        if (place == TOP_DATA && at_open(json, '{')) {
            *value = (struct md_json_value){.type = MD_JSON_OBJECT};
            if (!take_data(json, message)) {
                return false;
            }
        } else if (!md_json_value(json, value)) {
            return false;
        }
    }
    md_json_space(json);
    return step == 0 && json->at == json->end;
}

#endif
