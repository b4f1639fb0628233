/* Every decoder by the name that a venue gives it. */
#ifndef MDSYS_DECODERS_H
#define MDSYS_DECODERS_H

#include <string.h>

#include "decode_binance.h"

#define MD_DECODER_COUNT 2u

static const struct md_decoder {
    const char *name;
    md_decode_fn decode;
} md_decoders[MD_DECODER_COUNT] = {
    {"binance_spot", md_decode_binance_spot},
    {"binance_usdm", md_decode_binance_usdm},
};

/* Returns NULL when there is none of this name. */
static inline md_decode_fn md_decoder_named(const char *name) {
    for (unsigned i = 0; i < MD_DECODER_COUNT; i++) {
        if (strcmp(md_decoders[i].name, name) == 0) {
            return md_decoders[i].decode;
        }
    }
    return NULL;
}

#endif
