/* XXH3, 64 bits, seed 0, for keys of up to 128 bytes: what names are looked up by.
 *
 * The algorithm and its constants are those of the xxHash specification
 * (github.com/Cyan4973/xxHash, doc/xxhash_spec.md, "XXH3 Algorithm Overview");
 * tests/unit/test_native.py holds it against the xxhash package. Here because a C strategy must
 * find a symbol with nothing but these headers.
 */
#ifndef MDSYS_XXH3_H
#define MDSYS_XXH3_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MD_XXH3_SIZE_MAX 128u

#define MD_XXH_PRIME32_1 UINT64_C(0x9E3779B1)
#define MD_XXH_PRIME32_2 UINT64_C(0x85EBCA77)
#define MD_XXH_PRIME32_3 UINT64_C(0xC2B2AE3D)
#define MD_XXH_PRIME64_1 UINT64_C(0x9E3779B185EBCA87)
#define MD_XXH_PRIME64_2 UINT64_C(0xC2B2AE3D27D4EB4F)
#define MD_XXH_PRIME64_3 UINT64_C(0x165667B19E3779F9)
#define MD_XXH_PRIME_MX1 UINT64_C(0x165667919E3779F9)
#define MD_XXH_PRIME_MX2 UINT64_C(0x9FB21C651E98DF25)

/* The first 128 bytes of the specification's default secret, as little-endian words. */
static const uint64_t md_xxh3_secret[16] = {
    UINT64_C(0xbe4ba423396cfeb8),
    UINT64_C(0x1cad21f72c81017c),
    UINT64_C(0xdb979083e96dd4de),
    UINT64_C(0x1f67b3b7a4a44072),
    UINT64_C(0x78e5c0cc4ee679cb),
    UINT64_C(0x2172ffcc7dd05a82),
    UINT64_C(0x8e2443f7744608b8),
    UINT64_C(0x4c263a81e69035e0),
    UINT64_C(0xcb00c391bb52283c),
    UINT64_C(0xa32e531b8b65d088),
    UINT64_C(0x4ef90da297486471),
    UINT64_C(0xd8acdea946ef1938),
    UINT64_C(0x3f349ce33f76faa8),
    UINT64_C(0x1d4f0bc7c7bbdcf9),
    UINT64_C(0x3159b4cd4be0518a),
    UINT64_C(0x647378d9c97e9fc8),
};

static inline uint64_t md_xxh_read64(const unsigned char *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t md_xxh_read32(const unsigned char *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t md_xxh_secret64(size_t offset) {
    return md_xxh_read64((const unsigned char *)md_xxh3_secret + offset);
}

static inline uint64_t md_xxh_fold(uint64_t a, uint64_t b) {
    __extension__ typedef unsigned __int128 md_u128;
    md_u128 product = (md_u128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t md_xxh_rotl(uint64_t v, unsigned bits) {
    return v << bits | v >> (64 - bits);
}

static inline uint64_t md_xxh3_avalanche(uint64_t h) {
    h ^= h >> 37;
    h *= MD_XXH_PRIME_MX1;
    return h ^ h >> 32;
}

static inline uint64_t md_xxh64_avalanche(uint64_t h) {
    h ^= h >> 33;
    h *= MD_XXH_PRIME64_2;
    h ^= h >> 29;
    h *= MD_XXH_PRIME64_3;
    return h ^ h >> 32;
}

static inline uint64_t md_xxh3_mix16(const unsigned char *p, size_t secret_offset) {
    return md_xxh_fold(md_xxh_read64(p) ^ md_xxh_secret64(secret_offset),
                       md_xxh_read64(p + 8) ^ md_xxh_secret64(secret_offset + 8));
}

/* size: in [0, MD_XXH3_SIZE_MAX]. */
static inline uint64_t md_xxh3_64(const void *key, size_t size) {
    const unsigned char *p = (const unsigned char *)key;
    if (size > 16) {
        uint64_t h = (uint64_t)size * MD_XXH_PRIME64_1;
        size_t rounds = (size - 1) / 32; /* pairs of 16 bytes from both ends inwards, in [0, 3] */
        for (size_t i = rounds + 1; i-- > 0;) {
            h += md_xxh3_mix16(p + 16 * i, 32 * i);
            h += md_xxh3_mix16(p + size - 16 * (i + 1), 32 * i + 16);
        }
        return md_xxh3_avalanche(h);
    }
    if (size > 8) {
        uint64_t flip1 = md_xxh_secret64(24) ^ md_xxh_secret64(32);
        uint64_t flip2 = md_xxh_secret64(40) ^ md_xxh_secret64(48);
        uint64_t low = md_xxh_read64(p) ^ flip1;
        uint64_t high = md_xxh_read64(p + size - 8) ^ flip2;
        return md_xxh3_avalanche(size + __builtin_bswap64(low) + high + md_xxh_fold(low, high));
    }
    if (size >= 4) {
        uint64_t flip = md_xxh_secret64(8) ^ md_xxh_secret64(16);
        uint64_t h = (md_xxh_read32(p + size - 4) + (md_xxh_read32(p) << 32)) ^ flip;
        h ^= md_xxh_rotl(h, 49) ^ md_xxh_rotl(h, 24);
        h *= MD_XXH_PRIME_MX2;
        h ^= (h >> 35) + size;
        h *= MD_XXH_PRIME_MX2;
        return h ^ h >> 28;
    }
    uint64_t flip0 = md_xxh_secret64(0);
    if (size == 0) {
        return md_xxh64_avalanche(md_xxh_secret64(56) ^ md_xxh_secret64(64));
    }
    uint64_t combined = (uint64_t)p[0] << 16 | (uint64_t)p[size >> 1] << 24 |
                        (uint64_t)p[size - 1] | (uint64_t)size << 8;
    return md_xxh64_avalanche(combined ^ ((flip0 & UINT32_MAX) ^ (flip0 >> 32)));
}

#endif
