#include "book_snapshot.h"

#include <stdlib.h>

#include "json_scan.h"
#include "mdsys/decimal.h"

enum { NUMBER_SIZE_MAX = 127 };

struct side {
    struct md_book_level *levels;
    uint32_t count;
};

static bool key_is(const struct md_json_value *key, const char *word) {
    return key->size == strlen(word) && memcmp(key->text, word, key->size) == 0;
}

static bool read_uint(const struct md_json_value *value, uint64_t *out) {
    if (value->type != MD_JSON_NUMBER || value->size > 18) {
        return false;
    }
    *out = 0;
    for (size_t i = 0; i < value->size; i++) {
        if (!md_is_digit(value->text[i])) {
            return false;
        }
        *out = *out * 10 + (uint64_t)(value->text[i] - '0');
    }
    return true;
}

static enum md_frame_result
read_decimal(const struct md_json_value *value, unsigned scale, int64_t *out) {
    if ((value->type != MD_JSON_STRING && value->type != MD_JSON_NUMBER) || value->escaped ||
        value->size > NUMBER_SIZE_MAX) {
        return MD_FRAME_MALFORMED;
    }
    switch (md_decimal_parse(value->text, value->size, scale, out)) {
    case MD_DECIMAL_OK:
        return MD_FRAME_OK;
    case MD_DECIMAL_SYNTAX:
        return MD_FRAME_MALFORMED;
    default:
        return MD_FRAME_VALUE;
    }
}

/* Read [[price, size], ...]; the rows are best first, strictly, and no size is 0. */
static enum md_frame_result read_side(const struct md_json_value *array,
                                      const struct md_feed_symbol *symbol,
                                      bool asks,
                                      struct side *out) {
    struct md_json json = {.at = array->text + 1, .end = array->text + array->size};
    uint32_t room = 0;
    if (md_json_take(&json, ']')) {
        return MD_FRAME_OK;
    }
    do {
        struct md_json_value price, size, more;
        if (!md_json_take(&json, '[') || !md_json_value(&json, &price) ||
            !md_json_take(&json, ',') || !md_json_value(&json, &size)) {
            return MD_FRAME_MALFORMED;
        }
        while (md_json_take(&json, ',')) {
            md_json_value(&json, &more);
        }
        md_json_take(&json, ']');
        if (out->count == room) {
            room = room == 0 ? 256 : 2 * room;
            struct md_book_level *levels = realloc(out->levels, room * sizeof *levels);
            if (levels == NULL) {
                return MD_FRAME_MALFORMED; /* as good as: there is no memory to read it into */
            }
            out->levels = levels;
        }
        struct md_book_level *level = &out->levels[out->count];
        *level = (struct md_book_level){.orders = MD_ABSENT};
        enum md_frame_result result = read_decimal(&price, symbol->price_scale, &level->price);
        if (result == MD_FRAME_OK) {
            result = read_decimal(&size, symbol->size_scale, &level->size);
        }
        if (result != MD_FRAME_OK) {
            return result;
        }
        if (level->size <= 0 || (out->count > 0 && (asks ? level->price <= level[-1].price
                                                         : level->price >= level[-1].price))) {
            return MD_FRAME_MALFORMED;
        }
        out->count++;
    } while (md_json_take(&json, ','));
    return MD_FRAME_OK;
}

static enum md_frame_result merge(struct md_feed *feed,
                                  struct md_feed_symbol *symbol,
                                  const struct md_connection *connection,
                                  struct md_json *json,
                                  uint32_t asked,
                                  int64_t ts_recv,
                                  struct side sides[2]) {
    struct md_json_value arrays[2] = {{.type = MD_JSON_NONE}, {.type = MD_JSON_NONE}};
    struct md_json_value id = {.type = MD_JSON_NONE}, time = {.type = MD_JSON_NONE};
    if (!md_json_take(json, '{')) {
        return MD_FRAME_MALFORMED;
    }
    json->depth++;
    do {
        struct md_json_value key, value;
        if (!md_json_key(json, &key) || !md_json_value(json, &value)) {
            return MD_FRAME_MALFORMED;
        }
        if (key_is(&key, "lastUpdateId")) {
            id = value;
        } else if (key_is(&key, "bids")) {
            arrays[0] = value;
        } else if (key_is(&key, "asks")) {
            arrays[1] = value;
        } else if (key_is(&key, "T")) {
            time = value;
        }
    } while (md_json_take(json, ','));
    uint64_t snapshot_id, milliseconds;
    int64_t ts_event = MD_ABSENT;
    if (!md_json_take(json, '}') || !read_uint(&id, &snapshot_id) ||
        arrays[0].type != MD_JSON_ARRAY || arrays[1].type != MD_JSON_ARRAY) {
        return MD_FRAME_MALFORMED;
    }
    if (read_uint(&time, &milliseconds) && milliseconds <= INT64_MAX / 1000000) {
        ts_event = (int64_t)milliseconds * 1000000;
    }
    for (unsigned i = 0; i < 2; i++) {
        enum md_frame_result result = read_side(&arrays[i], symbol, i == 1, &sides[i]);
        if (result != MD_FRAME_OK) {
            return result;
        }
    }
    return md_book_snapshot(feed,
                            symbol,
                            connection,
                            sides[0].levels,
                            sides[0].count,
                            sides[1].levels,
                            sides[1].count,
                            snapshot_id,
                            asked,
                            ts_event,
                            ts_recv)
               ? MD_FRAME_OK
               : MD_FRAME_MALFORMED;
}

enum md_frame_result md_book_snapshot_json(struct md_feed *feed,
                                           struct md_feed_symbol *symbol,
                                           const struct md_connection *connection,
                                           const char *body,
                                           size_t size,
                                           uint32_t asked,
                                           int64_t ts_recv) {
    struct md_json json = {.at = body, .end = body + size};
    struct side sides[2] = {{NULL, 0}, {NULL, 0}};
    enum md_frame_result result = merge(feed, symbol, connection, &json, asked, ts_recv, sides);
    free(sides[0].levels);
    free(sides[1].levels);
    if (result != MD_FRAME_OK) {
        md_book_refuse_snapshot(feed, symbol);
    }
    return result;
}
