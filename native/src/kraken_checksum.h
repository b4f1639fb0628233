/* Kraken's CRC-32 of a book's top, over the texts of its levels.
 *
 * An update changes one level or two of the twenty. So what each level's text adds is kept, and the
 * whole is put together by arithmetic: a CRC is a polynomial mod P, and that of two texts one
 * behind the other is crc(a) x^(8 |b|) + crc(b). That takes one carry-less product a level and one
 * reduction in all. Processors without that instruction write the text and run over it. */
#ifndef MDSYS_KRAKEN_CHECKSUM_H
#define MDSYS_KRAKEN_CHECKSUM_H

#include "kraken_publish.h"

/* KRAKEN_PORTABLE: for the tests, what other processors get. */
#if defined(__x86_64__) && !defined(KRAKEN_PORTABLE)
#define KRAKEN_PCLMUL
#include <wmmintrin.h>
#endif

static uint32_t kraken_crc_table[8][256]; /* [n][b]: of byte b with n zero bytes behind it */

#define KRAKEN_LENGTH_MAX 127u /* of a level's text: twice 19 digits and 18 zeros at most */
#define KRAKEN_BEHIND_MAX ((2 * KRAKEN_CHECKSUM_LEVELS - 1) * KRAKEN_LENGTH_MAX)
static_assert(KRAKEN_LENGTH_MAX >= 2 * (19 + MD_DECIMAL_SCALE_MAX), "the longest text");

/* x^(8 n) mod P: what n bytes behind a text make of its sum. Bit 31 is x^0, as in any CRC here. */
static uint32_t kraken_crc_behind[KRAKEN_BEHIND_MAX + 1];
#ifdef KRAKEN_PCLMUL
static bool kraken_has_pclmul;
#endif

__attribute__((constructor)) static void kraken_crc_fill(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? UINT32_C(0xEDB88320) : 0);
        }
        kraken_crc_table[0][byte] = crc;
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        for (unsigned n = 1; n < 8; n++) {
            uint32_t before = kraken_crc_table[n - 1][byte];
            kraken_crc_table[n][byte] = before >> 8 ^ kraken_crc_table[0][before & 0xFF];
        }
    }
    uint32_t power = UINT32_C(0x80000000);
    for (uint32_t n = 0; n <= KRAKEN_BEHIND_MAX; n++) {
        kraken_crc_behind[n] = power;
        power = power >> 8 ^ kraken_crc_table[0][power & 0xFF];
    }
#ifdef KRAKEN_PCLMUL
    __builtin_cpu_init();
    kraken_has_pclmul = __builtin_cpu_supports("pclmul");
#endif
}

/* CRC-32 as of zlib, eight bytes at a time. */
static uint32_t kraken_crc(const char *text, size_t size) {
    uint64_t crc = UINT32_MAX;
    for (; size >= 8; text += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        word ^= crc;
        crc = 0;
#pragma GCC unroll 8
        for (unsigned n = 0; n < 8; n++) {
            crc ^= kraken_crc_table[7 - n][word >> (8 * n) & 0xFF];
        }
    }
    for (; size > 0; text++, size--) {
        crc = crc >> 8 ^ kraken_crc_table[0][(crc ^ (unsigned char)*text) & 0xFF];
    }
    return (uint32_t)~crc;
}

/* Eight digits as characters' values, the first one lowest: halves, then quarters, then each. */
static inline uint64_t kraken_spread8(uint32_t value) { /* below 10^8 */
    uint64_t four = value / 10000 | (uint64_t)(value % 10000) << 32;
    uint64_t hundreds = (four * 10486 >> 20) & UINT64_C(0x0000007F0000007F);
    uint64_t two = hundreds | (four - hundreds * 100) << 16;
    uint64_t tens = (two * 103 >> 10) & UINT64_C(0x000F000F000F000F);
    return tens | (two - tens * 10) << 8;
}

#define KRAKEN_DIGITS_MAX (24 + MD_DECIMAL_SCALE_MAX) /* bytes that kraken_digits may touch */

/* Write what Kraken's text of a value is without the point and the zeros in front: the digits of
 * value x 10^(decimals - scale). Returns the end. */
static inline char *kraken_digits(char *out, int64_t value, unsigned scale, unsigned decimals) {
    uint64_t rest = (uint64_t)value;
    if (decimals < scale) {
        rest /= md_pow10[scale - decimals];
    }
    if (rest == 0) {
        return out;
    }
    uint32_t chunks[3], count = 0; /* of eight digits, lowest first */
    for (; rest >= 100000000; rest /= 100000000) {
        chunks[count++] = (uint32_t)(rest % 100000000);
    }
    uint64_t spread = kraken_spread8((uint32_t)rest);
    unsigned zeros = (unsigned)__builtin_ctzll(spread) / 8;
    uint64_t text = (spread | UINT64_C(0x3030303030303030)) >> (8 * zeros);
    memcpy(out, &text, 8);
    out += 8 - zeros;
    while (count > 0) {
        text = kraken_spread8(chunks[--count]) | UINT64_C(0x3030303030303030);
        memcpy(out, &text, 8);
        out += 8;
    }
    for (; decimals > scale; decimals--) {
        *out++ = '0';
    }
    return out;
}

/* Write a level's text. Returns the end. */
static inline char *
kraken_level_text(char *out, const struct md_feed_symbol *symbol, int64_t price, int64_t size) {
    out = kraken_digits(out, price, symbol->price_scale, symbol->price_decimals);
    return kraken_digits(out, size, symbol->size_scale, symbol->size_decimals);
}

#define KRAKEN_TEXT_ROOM (2 * KRAKEN_DIGITS_MAX) /* bytes that kraken_level_text may touch */

static uint32_t kraken_top_count(const struct md_book_side *side) {
    return side->count < KRAKEN_CHECKSUM_LEVELS ? side->count : KRAKEN_CHECKSUM_LEVELS;
}

static uint32_t kraken_checksum_of_text(const struct md_feed_symbol *symbol) {
    char text[2 * KRAKEN_CHECKSUM_LEVELS * KRAKEN_TEXT_ROOM];
    char *end = text;
    for (unsigned asks = 2; asks-- > 0;) {
        const struct md_book_side *side = &symbol->book->side[asks];
        uint32_t count = kraken_top_count(side);
        for (uint32_t i = 0; i < count; i++) {
            const struct md_book_level *level = md_book_level(side, i);
            end = kraken_level_text(end, symbol, level->price, level->size);
        }
    }
    return kraken_crc(text, (size_t)(end - text));
}

/* The texts are written with other decimals from now on. */
static void kraken_forget_texts(struct kraken_own *own) {
    memset(own->text_size, 0, sizeof own->text_size); /* no level has size 0 */
}

#ifdef KRAKEN_PCLMUL

/* Make the i-th of a side's kept texts that of a level. Most of those behind it are still right,
 * but may stand elsewhere: by how many places tells the level itself, which was here before or not.
 */
static __attribute__((noinline)) void kraken_keep_text(const struct md_feed_symbol *symbol,
                                                       struct kraken_own *own,
                                                       unsigned asks,
                                                       uint32_t i,
                                                       const struct md_book_level *level) {
    int64_t *prices = own->text_price[asks], *sizes = own->text_size[asks];
    uint32_t *crcs = own->text_crc[asks];
    uint8_t *lengths = own->text_length[asks];
    uint32_t from = i, to = i + 1;
    bool here = false;
    for (uint32_t j = i + 1; j < KRAKEN_CHECKSUM_LEVELS && !here; j++) {
        here = prices[j] == level->price && sizes[j] == level->size;
        from = here ? j : from;
    }
    if (here || prices[i] != level->price) { /* those between have gone; or it is new */
        to = here ? i : to;
        uint32_t count = KRAKEN_CHECKSUM_LEVELS - (here ? from : to);
        memmove(&prices[to], &prices[from], count * sizeof prices[0]);
        memmove(&sizes[to], &sizes[from], count * sizeof sizes[0]);
        memmove(&crcs[to], &crcs[from], count * sizeof crcs[0]);
        memmove(&lengths[to], &lengths[from], count * sizeof lengths[0]);
    }
    if (!here) {
        char text[KRAKEN_TEXT_ROOM];
        char *end = kraken_level_text(text, symbol, level->price, level->size);
        prices[i] = level->price;
        sizes[i] = level->size;
        crcs[i] = kraken_crc(text, (size_t)(end - text));
        lengths[i] = (uint8_t)(end - text);
    }
}

__attribute__((target("pclmul"))) static uint32_t
kraken_checksum_of_sums(const struct md_feed_symbol *symbol, struct kraken_own *own) {
    __m128i sum = _mm_setzero_si128();
    uint32_t behind = 0;
    for (unsigned asks = 0; asks < 2; asks++) { /* from the text's end to its beginning */
        const struct md_book_side *side = &symbol->book->side[asks];
        uint32_t count = kraken_top_count(side);
        for (uint32_t i = 0; i < count; i++) {
            const struct md_book_level *level = md_book_level(side, i);
            if (__builtin_expect((own->text_price[asks][i] ^ level->price) |
                                     (own->text_size[asks][i] ^ level->size),
                                 0)) {
                kraken_keep_text(symbol, own, asks, i, level);
            }
        }
        for (uint32_t i = count; i-- > 0;) {
            __m128i crc = _mm_cvtsi32_si128((int)own->text_crc[asks][i]);
            __m128i power = _mm_cvtsi32_si128((int)kraken_crc_behind[behind]);
            sum = _mm_xor_si128(sum, _mm_clmulepi64_si128(crc, power, 0));
            behind +=
                own->text_length[asks][i] & KRAKEN_LENGTH_MAX; /* a capture may hold anything */
        }
    }
    /* Bit k of the sum is x^(62 - k). The half with the high powers is reduced as a CRC would. */
    uint64_t product = (uint64_t)_mm_cvtsi128_si64(sum) << 1;
    return (uint32_t)(product >> 32) ^ kraken_crc_table[3][product & 0xFF] ^
           kraken_crc_table[2][product >> 8 & 0xFF] ^ kraken_crc_table[1][product >> 16 & 0xFF] ^
           kraken_crc_table[0][product >> 24 & 0xFF];
}

#endif

static uint32_t kraken_checksum(const struct md_feed_symbol *symbol, struct kraken_own *own) {
#ifdef KRAKEN_PCLMUL
    if (kraken_has_pclmul) {
        return kraken_checksum_of_sums(symbol, own);
    }
#endif
    (void)own;
    return kraken_checksum_of_text(symbol);
}

#endif
