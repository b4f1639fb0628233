#include "book_map.h"

#include <functional>
#include <map>

struct book_map {
    std::map<int64_t, int64_t, std::greater<>> bids;
    std::map<int64_t, int64_t> asks;
};

namespace {

template <class Side> void set_level(Side &side, int64_t price, int64_t size) {
    if (size == 0) {
        side.erase(price);
    } else {
        side[price] = size;
    }
}

template <class Side> int64_t sum_top(const Side &side) {
    int64_t sum = 0;
    int left = 10;
    for (auto level = side.begin(); level != side.end() && left > 0; ++level, --left) {
        sum += level->first + level->second;
    }
    return sum;
}

} // namespace

struct book_map *book_map_create(void) {
    return new book_map;
}

void book_map_clear(struct book_map *book) {
    book->bids.clear();
    book->asks.clear();
}

void book_map_set(struct book_map *book, int is_ask, int64_t price, int64_t size) {
    if (is_ask != 0) {
        set_level(book->asks, price, size);
    } else {
        set_level(book->bids, price, size);
    }
}

int64_t book_map_top(const struct book_map *book) {
    return sum_top(book->bids) + sum_top(book->asks);
}
