/* A strict JSON cursor over one frame: no allocation, no recursion, no byte outside the frame.
 *
 * It takes what RFC 8259 takes, and nothing else: UTF-8, paired surrogates, nesting up to
 * MD_JSON_DEPTH_MAX. Values are spans of the frame; what nobody asks for is checked and skipped.
 * Private to the decoders. */
#ifndef MDSYS_JSON_SCAN_H
#define MDSYS_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MD_JSON_DEPTH_MAX 64U /* of the frame as a whole; one bit each in md_json_value */

enum md_json_type {
    MD_JSON_NONE = 0, /* the key was not there */
    MD_JSON_STRING = 1,
    MD_JSON_NUMBER = 2,
    MD_JSON_TRUE = 3,
    MD_JSON_FALSE = 4,
    MD_JSON_NULL = 5,
    MD_JSON_OBJECT = 6,
    MD_JSON_ARRAY = 7,
};

struct md_json_value {
    const char *text; /* of a string: between the quotes, as written */
    size_t size;
    enum md_json_type type;
    bool escaped; /* a string that holds a backslash */
};

struct md_json {
    const char *at;
    const char *end;
    unsigned depth;    /* objects and arrays that `at` is inside of */
    bool beyond_ascii; /* some string was: the frame must be checked for UTF-8 */
};

static inline void md_json_space(struct md_json *json) {
    while (json->at < json->end &&
           (*json->at == ' ' || *json->at == '\n' || *json->at == '\r' || *json->at == '\t')) {
        json->at++;
    }
}

/* Step over c, with blanks before it. */
static inline bool md_json_take(struct md_json *json, char c) {
    md_json_space(json);
    if (json->at == json->end || *json->at != c) {
        return false;
    }
    json->at++;
    return true;
}

/* The four hex digits at `at`, or -1. */
static inline int32_t md_json_hex4(const char *at, const char *end) {
    int32_t value = 0;
    if (end - at < 4) {
        return -1;
    }
    for (unsigned i = 0; i < 4; i++) {
        char c = at[i];
        int32_t digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

/* `at` is behind "\u". Gives the code point, of a surrogate pair too; *size: characters taken.
 * Returns -1 for anything else, a lone surrogate among it. */
static inline int32_t md_json_code_point(const char *at, const char *end, size_t *size) {
    int32_t high = md_json_hex4(at, end);
    *size = 4;
    if (high < 0xD800 || high > 0xDFFF) {
        return high;
    }
    if (high > 0xDBFF || end - at < 10 || at[4] != '\\' || at[5] != 'u') {
        return -1;
    }
    int32_t low = md_json_hex4(at + 6, end);
    if (low < 0xDC00 || low > 0xDFFF) {
        return -1;
    }
    *size = 10;
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

/* How many of the next eight bytes are ordinary: neither quote, escape nor control character, nor
 * beyond ASCII. 0 within the last eight bytes of the frame, which go one by one. */
static inline unsigned md_json_plain(const char *at, const char *end) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t word;
    if (end - at < 8) {
        return 0;
    }
    memcpy(&word, at, 8);
    uint64_t quote = word ^ ones * '"';
    uint64_t escape = word ^ ones * '\\';
    /* The high bit of each byte that is not; the lowest is exact, a borrow can spoil the others. */
    uint64_t other = (((quote - ones) & ~quote) | ((escape - ones) & ~escape) |
                      ((word - ones * 0x20) & ~word) | word) &
                     ones * 0x80;
    return other == 0 ? 8 : (unsigned)__builtin_ctzll(other) / 8;
}

/* Take a string; `at` is on its opening quote. */
static inline bool md_json_string(struct md_json *json, struct md_json_value *out) {
    const char *at = json->at + 1;
    const char *end = json->end;
    out->text = at;
    out->type = MD_JSON_STRING;
    out->escaped = false;
    for (;; at++) {
        unsigned plain;
        while ((plain = md_json_plain(at, end)) == 8) {
            at += 8;
        }
        at += plain;
        if (at == end) {
            return false;
        }
        unsigned char c = (unsigned char)*at;
        if (c == '"') {
            out->size = (size_t)(at - out->text);
            json->at = at + 1;
            return true;
        }
        if (c < 0x20) {
            return false;
        }
        if (c >= 0x80) {
            json->beyond_ascii = true;
        } else if (c == '\\') {
            out->escaped = true;
            if (++at == end) {
                return false;
            }
            if (*at == 'u') {
                size_t size;
                if (md_json_code_point(at + 1, end, &size) < 0) {
                    return false;
                }
                at += size;
            } else if (*at == '\0' || strchr("\"\\/bfnrt", *at) == NULL) {
                return false;
            }
        }
    }
}

/* Write a string as it is meant, into at most capacity bytes. Returns the size, or SIZE_MAX when
 * it does not fit. The string has been through md_json_string. */
static inline size_t
md_json_unescape(const struct md_json_value *string, char *out, size_t capacity) {
    const char *end = string->text + string->size;
    size_t size = 0;
    for (const char *at = string->text; at < end; at++) {
        char utf8[4] = {*at};
        size_t count = 1;
        if (*at == '\\' && *++at == 'u') {
            size_t taken;
            uint32_t point = (uint32_t)md_json_code_point(at + 1, end, &taken);
            at += taken;
            count = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
            for (size_t i = count - 1; i > 0; i--, point >>= 6) {
                utf8[i] = (char)(0x80 | (point & 0x3F));
            }
            static const uint8_t lead[5] = {0, 0x00, 0xC0, 0xE0, 0xF0};
            utf8[0] = (char)(lead[count] | point);
        } else if (at[0] != utf8[0]) {
            static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
            utf8[0] = to[strchr(from, *at) - from];
        }
        if (count > capacity - size) {
            return SIZE_MAX;
        }
        memcpy(out + size, utf8, count);
        size += count;
    }
    return size;
}

static inline bool md_json_digits(struct md_json *json) {
    const char *first = json->at;
    while (json->at < json->end && *json->at >= '0' && *json->at <= '9') {
        json->at++;
    }
    return json->at > first;
}

static inline bool md_json_number(struct md_json *json) {
    if (*json->at == '-') {
        json->at++;
    }
    const char *first = json->at;
    if (!md_json_digits(json) || (*first == '0' && json->at - first > 1)) {
        return false;
    }
    if (json->at < json->end && *json->at == '.') {
        json->at++;
        if (!md_json_digits(json)) {
            return false;
        }
    }
    if (json->at < json->end && (*json->at == 'e' || *json->at == 'E')) {
        json->at++;
        if (json->at < json->end && (*json->at == '+' || *json->at == '-')) {
            json->at++;
        }
        return md_json_digits(json);
    }
    return true;
}

static inline bool md_json_word(struct md_json *json, const char *word, size_t size) {
    if ((size_t)(json->end - json->at) < size || memcmp(json->at, word, size) != 0) {
        return false;
    }
    json->at += size;
    return true;
}

/* Take a value that is neither object nor array; `at` is on its first byte. */
static inline bool md_json_scalar(struct md_json *json, struct md_json_value *out) {
    bool ok;
    out->text = json->at;
    out->escaped = false;
    switch (*json->at) {
    case '"':
        return md_json_string(json, out);
    case 't':
        out->type = MD_JSON_TRUE;
        ok = md_json_word(json, "true", 4);
        break;
    case 'f':
        out->type = MD_JSON_FALSE;
        ok = md_json_word(json, "false", 5);
        break;
    case 'n':
        out->type = MD_JSON_NULL;
        ok = md_json_word(json, "null", 4);
        break;
    default:
        out->type = MD_JSON_NUMBER;
        ok = md_json_number(json);
    }
    out->size = (size_t)(json->at - out->text);
    return ok;
}

/* Take a key and its colon. */
static inline bool md_json_key(struct md_json *json, struct md_json_value *key) {
    md_json_space(json);
    return json->at < json->end && *json->at == '"' && md_json_string(json, key) &&
           md_json_take(json, ':');
}

/* Take an object or array; `at` is on its first byte. What is in it is checked, not kept. */
static inline bool md_json_nested(struct md_json *json, struct md_json_value *out) {
    uint64_t objects = 0; /* one bit a level, innermost lowest: 1 object, 0 array */
    unsigned depth = 0;
    struct md_json_value inner;
    out->text = json->at;
    out->type = *json->at == '{' ? MD_JSON_OBJECT : MD_JSON_ARRAY;
    out->escaped = false;
    do {
        md_json_space(json);
        if (json->at == json->end) {
            return false;
        }
        char open = *json->at;
        if (open == '{' || open == '[') {
            if (json->depth + ++depth > MD_JSON_DEPTH_MAX) {
                return false;
            }
            json->at++;
            objects = objects << 1 | (open == '{');
            if (!md_json_take(json, open == '{' ? '}' : ']')) {
                if (open == '{' && !md_json_key(json, &inner)) {
                    return false;
                }
                continue;
            }
            depth--; /* it was empty */
            objects >>= 1;
        } else if (!md_json_scalar(json, &inner)) {
            return false;
        }
        /* A value has ended: so may what it stands in. */
        while (depth > 0 && md_json_take(json, objects & 1 ? '}' : ']')) {
            depth--;
            objects >>= 1;
        }
        if (depth > 0 &&
            (!md_json_take(json, ',') || ((objects & 1) && !md_json_key(json, &inner)))) {
            return false;
        }
    } while (depth > 0);
    out->size = (size_t)(json->at - out->text);
    return true;
}

/* Take any value, blanks before it too. */
static inline bool md_json_value(struct md_json *json, struct md_json_value *out) {
    md_json_space(json);
    if (json->at == json->end) {
        return false;
    }
    return *json->at == '{' || *json->at == '[' ? md_json_nested(json, out)
                                                : md_json_scalar(json, out);
}

/* RFC 3629: no overlong form, no surrogate, nothing above U+10FFFF. */
static inline bool md_utf8_valid(const char *text, size_t size) {
    const unsigned char *at = (const unsigned char *)text;
    const unsigned char *end = at + size;
    while (at < end) {
        unsigned char lead = *at++;
        if (lead < 0x80) {
            continue;
        }
        unsigned more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
        if (lead < 0xC2 || lead > 0xF4 || (size_t)(end - at) < more) {
            return false;
        }
        unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        if (*at < low || *at > high) {
            return false;
        }
        for (at++; more > 1; more--, at++) {
            if ((*at & 0xC0) != 0x80) {
                return false;
            }
        }
    }
    return true;
}

#endif
