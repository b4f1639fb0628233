/* Every decoder by the name that a venue gives it. */
#ifndef MDSYS_DECODERS_H
#define MDSYS_DECODERS_H

#include <string.h>

#include "decode_binance.h"
#if __has_include("decode_kraken.h")
#include "decode_kraken.h"
#endif
#if __has_include("decode_coinbase.h")
#include "decode_coinbase.h"
#endif
#if __has_include("decode_kite.h")
#include "decode_kite.h"
#endif
#if __has_include("decode_openalgo.h")
#include "decode_openalgo.h"
#endif
#if __has_include("decode_alpaca.h")
#include "decode_alpaca.h"
#endif
#if __has_include("decode_massive.h")
#include "decode_massive.h"
#endif

static const struct md_decoder {
    const char *name;
    md_decode_fn decode;
    const char *marker; /* what stands before a symbol's name; NULL: nothing to find it by */
} md_decoders[] = {
    {"binance_spot", md_decode_binance_spot, "\"s\":\""},
    {"binance_usdm", md_decode_binance_usdm, "\"s\":\""},
    {"binance_coinm", md_decode_binance_coinm, "\"s\":\""},
#if __has_include("decode_kraken.h")
    {"kraken", md_decode_kraken, "\"symbol\":\""},
    {"kraken_v1", md_decode_kraken_v1, NULL},
#endif
#if __has_include("decode_coinbase.h")
    {"coinbase_exchange", md_decode_coinbase_exchange, "\"product_id\":\""},
    {"coinbase_advanced", md_decode_coinbase_advanced, "\"product_id\":\""},
#endif
#if __has_include("decode_kite.h")
    {"kite", md_decode_kite, NULL},
#endif
#if __has_include("decode_openalgo.h")
    {"openalgo", md_decode_openalgo, NULL},
#endif
#if __has_include("decode_alpaca.h")
    {"alpaca", md_decode_alpaca, "\"S\":\""},
#endif
#if __has_include("decode_massive.h")
    {"massive", md_decode_massive, "\"sym\":\""},
#endif
};

#define MD_DECODER_COUNT (sizeof md_decoders / sizeof md_decoders[0])

/* Returns NULL when there is none of this name. */
static inline const struct md_decoder *md_decoder_find(const char *name) {
    for (size_t i = 0; i < MD_DECODER_COUNT; i++) {
        if (strcmp(md_decoders[i].name, name) == 0) {
            return &md_decoders[i];
        }
    }
    return NULL;
}

/* The same. */
static inline md_decode_fn md_decoder_named(const char *name) {
    const struct md_decoder *decoder = md_decoder_find(name);
    return decoder == NULL ? NULL : decoder->decode;
}

#endif
