/* Frames on their way to a recorder: a bounded ring of bytes between one feed and one recorder.
 *
 *   page 0: struct md_capture_header            pages 1..: size bytes, entries one behind another
 *
 *   feed                                        recorder
 *   N1 free = size - (head - tail)  acquire     O1 head         acquire
 *   N2 entry                        plain       O2 entry        plain
 *   N3 head += entry                release     O3 tail = head  release
 *
 * N3 pairs with O1, O3 with N1. Both map it shared and writable, and the feed trusts nothing that
 * the recorder may write: a tail that cannot be true counts as a full ring. What does not fit is
 * dropped and counted; the feed never waits. An entry is a struct md_capture_entry, its payload,
 * and zeros up to a multiple of 8; it may wrap around the end. */
#ifndef MDSYS_CAPTURE_H
#define MDSYS_CAPTURE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "mdsys/atomic.h"

#define MD_CAPTURE_MAGIC UINT64_C(0x314341505344454d)
#define MD_CAPTURE_SIZE_MIN (UINT64_C(1) << 16)

enum md_capture_kind {
    MD_CAPTURE_TEXT = 1,     /* a text message of a socket */
    MD_CAPTURE_BINARY = 2,   /* a binary one */
    MD_CAPTURE_RECORD = 3,   /* a status that the feed published by itself: 64 bytes, struct
                              * md_record; connection: the ring */
    MD_CAPTURE_SNAPSHOT = 4, /* name of a symbol, LF, levels a side that were asked for, LF, a REST
                              * answer that was merged into its book; socket: the venue */
    MD_CAPTURE_SOCKET = 5,   /* a socket's story: up (payload "up"), down ("down") */
    /* What a decoder must know beside the frames, told whenever a recorder begins a file. */
    MD_CAPTURE_BEGIN = 6,  /* JSON: the process and its rings; all of the following is told anew */
    MD_CAPTURE_VENUE = 7,  /* JSON: a venue's decoder and channels; connection: its index */
    MD_CAPTURE_SYMBOL = 8, /* struct md_capture_symbol and names; connection: the venue */
    MD_CAPTURE_BOOK = 9,   /* struct md_capture_book and levels; connection: the venue */
    MD_CAPTURE_LINK = 10,  /* struct md_capture_link: whose socket this is */
    MD_CAPTURE_OVERLAP = 11, /* uint32_t: md_feed.overlapping; connection: the venue */
    MD_CAPTURE_EXPECT = 12,  /* uint32_t ids: their books' changes come by this socket */
};

struct md_capture_entry {
    uint32_t size;   /* of the payload */
    uint32_t kind;   /* enum md_capture_kind */
    uint64_t number; /* of the entry, from 1; what is missing was lost */
    int64_t ts_recv; /* when the socket read returned */
    uint32_t connection;
    uint32_t socket;
};

static_assert(sizeof(struct md_capture_entry) == 32, "four words");

enum { MD_CAPTURE_RINGS_MAX = 256 }; /* of one feed */

struct md_capture_header {
    uint64_t magic;
    uint64_t size; /* bytes of the ring, a power of 2 */
    uint64_t data_offset;
    uint64_t reserved0[5];
    uint64_t head; /* the feed's line */
    uint64_t number;
    uint64_t lost_entries;
    uint64_t lost_bytes;
    uint64_t reserved1[4];
    uint64_t tail; /* the recorder's line */
    uint64_t reserved2[7];
    /* The feed's, for its successor. Of each of its rings: of whoever took it over at this sequence
     * or later the recorder may not have heard; 0: it has heard of nobody yet. What a feed had
     * published when it was killed, before it could tell, stands in the ring all the same. */
    uint64_t told[MD_CAPTURE_RINGS_MAX];
};

static_assert(offsetof(struct md_capture_header, told) == 192, "three cache lines");
static_assert(sizeof(struct md_capture_header) <= 4096, "it has the page before the ring");

/* What the feed keeps for itself, since all of the ring can be written by others. */
struct md_capture {
    struct md_capture_header *header;
    char *data;
    uint64_t mask;
    uint64_t head;
    uint64_t number;
    uint64_t lost_entries;
    uint64_t lost_bytes;
};

static inline void md_capture_write(struct md_capture *capture, const void *from, size_t size) {
    uint64_t at = capture->head & capture->mask;
    uint64_t before_end = capture->mask + 1 - at;
    size_t first = size < before_end ? size : (size_t)before_end;
    memcpy(capture->data + at, from, first);
    memcpy(capture->data, (const char *)from + first, size - first);
    capture->head += size;
}

/* Go on where the feed before has ended, or begin. size: of the ring, as it was checked; all else
 * that stands in the header may be anything. */
static inline struct md_capture
md_capture_resume(struct md_capture_header *header, char *data, uint64_t size) {
    struct md_capture capture = {header,
                                 data,
                                 size - 1,
                                 header->head,
                                 header->number,
                                 header->lost_entries,
                                 header->lost_bytes};
    uint64_t number = 0; /* of what stands where the next entry goes */
    for (size_t i = 0; i < sizeof number; i++) {
        uint64_t at = capture.head + offsetof(struct md_capture_entry, number) + i;
        memcpy((char *)&number + i, &data[at & capture.mask], 1);
    }
    if (number != 0 && number == capture.number) {
        capture.number--; /* killed before N3: nothing came of that entry, and it is no loss */
    }
    return capture;
}

/* Copy one entry. False: there was no room, and that is counted. */
static inline bool md_capture_put(struct md_capture *capture,
                                  enum md_capture_kind kind,
                                  const void *payload,
                                  size_t size,
                                  int64_t ts_recv,
                                  uint32_t connection,
                                  uint32_t socket) {
    static const char zeros[8];
    struct md_capture_entry entry = {
        (uint32_t)size, kind, ++capture->number, ts_recv, connection, socket};
    size_t padding = (0 - size) & 7;
    uint64_t used = capture->head - md_load_acquire_u64(&capture->header->tail); /* N1 */
    if (used > capture->mask + 1 || sizeof entry + size + padding > capture->mask + 1 - used) {
        md_store_relaxed_u64(&capture->header->number, capture->number);
        md_store_relaxed_u64(&capture->header->lost_entries, ++capture->lost_entries);
        md_store_relaxed_u64(&capture->header->lost_bytes, capture->lost_bytes += size);
        return false;
    }
    md_capture_write(capture, &entry, sizeof entry); /* N2 */
    md_capture_write(capture, payload, size);
    md_capture_write(capture, zeros, padding);
    md_store_relaxed_u64(&capture->header->number, capture->number);
    md_store_release_u64(&capture->header->head, capture->head); /* N3 */
    return true;
}

#endif
