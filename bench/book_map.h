/* An order book as it is mostly written: a std::map a side. In book_map.cpp. */
#ifndef MDSYS_BOOK_MAP_H
#define MDSYS_BOOK_MAP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct book_map;

struct book_map *book_map_create(void);
void book_map_clear(struct book_map *book);
void book_map_set(struct book_map *book, int is_ask, int64_t price, int64_t size);
/* Return the sum of prices and sizes of the ten best of each side. */
int64_t book_map_top(const struct book_map *book);

#ifdef __cplusplus
}
#endif
#endif
