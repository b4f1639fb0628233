/* The ring: one writer, any number of readers that it never looks at.
 *
 * A slot is a record, and the record's own sequence is its flag, so a message costs one cache
 * line transfer. Record s lives in slot s & mask, from s = 1.
 *
 *   writer, publish s                       reader, read s
 *   W1 seq = s-1      relaxed  (claim)      R1 q = seq        acquire
 *   W2 fence          release               R2 payload        relaxed
 *   W3 payload words  relaxed               R3 fence          acquire
 *   W4 seq = s        release  (release)    R4 seq == s?      relaxed
 *
 * W1 comes early, right after W4 of the record MD_CLAIM_AHEAD before, or in a longer frame just
 * before W2; what counts is that it comes before W2.
 * W4 pairs with R1: a reader that sees s sees the whole payload of s. W2 pairs with R3: a reader
 * that saw any word of a later record sees that record's claim at R4, and throws its copy away.
 * Claims ascend, so for a batch s..s+n-1 it is enough to recheck slot s: whoever wrote into slot
 * s+k had claimed slot s before (W1 of s, then W2, then W3 of s+k).
 *
 * q < s: not there yet (a claim of s shows as s-1). q > s: the reader was lapped.
 *
 * A writer may have lossless readers, which it waits for (native/src/audience.h): then it claims
 * nothing from `limit` on before it has asked. Without any it never looks.
 */
#ifndef MDSYS_RING_H
#define MDSYS_RING_H

#include "mdsys/atomic.h"
#include "mdsys/record.h"
#include "mdsys/segment.h"

#ifndef __cplusplus
#include <stdalign.h>
#endif

#define MD_RING_DEPTH_MIN 64u
#define MD_READ_TRIES 16u
/* How many slots behind the newest are claimed already. So the line that is written next is the
 * writer's before a reader spins on it, and the claim is off a record's way: at 64K slots the
 * median from core to core falls from 1.2 to 0.8 of a ping-pong (bench/README.md). 4 or 8 gain no
 * more than 2. */
#define MD_CLAIM_AHEAD 2u
#define MD_SLOT_WORDS 7u /* payload words, after the sequence */
/* How a reader keeps its distance (md_reader_pace), in records and pauses: bench/README.md. */
#define MD_STREAK_MIN 64u    /* so many at a stretch are a stream */
#define MD_STREAK_EMPTY 128u /* so many reads for nothing end it */
#define MD_AHEAD_MIN 4u
#define MD_AHEAD_MAX 1024u
#define MD_AHEAD_PAUSES 4u /* for a record */
#define MD_GRANT_COUNT 16u /* lossless readers of one ring */
#define MD_NO_LIMIT UINT64_MAX

/* Written by the feed only. Same bytes as struct md_record, seen as what is stored atomically. */
struct md_slot {
    alignas(64) uint64_t seq;
    uint64_t word[MD_SLOT_WORDS]; /* a torn copy is detected, never undefined */
};

static_assert(sizeof(struct md_slot) == sizeof(struct md_record), "a slot is a record");
static_assert(offsetof(struct md_slot, word) == offsetof(struct md_record, ts_event), "layout");
static_assert(MD_CLAIM_AHEAD <= MD_RING_DEPTH_MIN / 4, "no more than a frame may claim");
static_assert(MD_RECORD_SIZE == 4 * 16, "a record is four pairs of words");

/* What the writer has promised one lossless reader. Written by the feed only, reader_id last. */
struct md_ring_grant {
    alignas(64) uint64_t reader_id; /* 0: this place is free */
    uint64_t from;                  /* from this sequence on nothing is overwritten unread */
    uint64_t ejected;               /* and from this one on no more; 0: the promise stands */
    uint64_t reserved[5];
};

/* The geometry is read at attach; cursor and bell have lines of their own, since the writer
 * stores to them while others read what stands beside. */
struct md_ring_header {
    struct md_segment_header segment;
    uint64_t depth; /* slots, a power of 2, in [64, 2^32] */
    uint64_t slots_offset;
    uint32_t slot_stride; /* bytes from slot to slot, >= record_size: room for a side lane */
    uint32_t record_size;
    uint32_t feed; /* index of the feed process that writes here */
    uint32_t reserved0;
    uint64_t reserved1[4];
    alignas(64) uint64_t cursor; /* at least this sequence is published; at most depth/2 behind */
    int64_t watermark_ns;        /* what was received before this is published */
    uint64_t reserved2[6];
    alignas(64) uint32_t bell; /* futex word for readers that sleep (bell.h) */
    uint32_t reserved3;
    int64_t rung_ns; /* when it was rung last */
    uint64_t reserved4[6];
    struct md_ring_grant grants[MD_GRANT_COUNT];
};

static_assert(sizeof(struct md_ring_grant) == 64, "one cache line");
static_assert(sizeof(struct md_ring_header) == 320 + 64 * MD_GRANT_COUNT, "whole cache lines");
static_assert(offsetof(struct md_ring_header, depth) == 128, "layout");
static_assert(offsetof(struct md_ring_header, cursor) == 192, "layout");
static_assert(offsetof(struct md_ring_header, bell) == 256, "layout");
static_assert(offsetof(struct md_ring_header, grants) == 320, "layout");
static_assert(sizeof(struct md_ring_header) <= MD_PAGE_HEADER_SIZE, "slots follow the header page");

/* Of the layout in words: a change of a struct above or of the protocol changes its number. */
#define MD_SCHEMA_RING UINT64_C(0x0002000000400540)

static inline enum md_segment_result md_ring_verify(const struct md_ring_header *header,
                                                    uint64_t mapped_size) {
    enum md_segment_result result =
        md_segment_verify(&header->segment, mapped_size, MD_SEGMENT_RING, MD_SCHEMA_RING);
    if (result != MD_SEGMENT_OK) {
        return result;
    }
    if (header->depth < MD_RING_DEPTH_MIN || (header->depth & (header->depth - 1)) != 0 ||
        header->slot_stride != sizeof(struct md_slot) || header->record_size != MD_RECORD_SIZE ||
        !md_segment_fits(
            &header->segment, header->slots_offset, sizeof(struct md_slot), header->depth)) {
        return MD_SEGMENT_BAD_GEOMETRY;
    }
    return MD_SEGMENT_OK;
}

/* ---- writer ------------------------------------------------------------------------------- */

struct md_ring_writer {
    struct md_slot *slots;
    uint64_t mask;  /* depth - 1 */
    uint64_t next;  /* the next sequence to publish */
    uint64_t limit; /* the first that `wait` must be asked for; MD_NO_LIMIT: none */
    struct md_ring_header *header;
    /* Returns when seq may be claimed: lossless readers have read, or are waited for no more. */
    void (*wait)(struct md_ring_writer *writer, uint64_t seq);
    void *audience; /* whose `wait` is */
};

static inline const struct md_slot *md_ring_slots(const struct md_ring_header *header) {
    const char *base = (const char *)header;
    return (const struct md_slot *)(const void *)(base + header->slots_offset);
}

/* A writer of a ring that is this process's to write, next to publish: next. */
static inline struct md_ring_writer md_writer_init(struct md_ring_header *header, uint64_t next) {
    struct md_ring_writer writer;
    writer.slots = (struct md_slot *)(void *)((char *)header + header->slots_offset);
    writer.mask = header->depth - 1;
    writer.next = next;
    writer.limit = MD_NO_LIMIT;
    writer.header = header;
    writer.wait = NULL;
    writer.audience = NULL;
    return writer;
}

static inline struct md_slot *md_ring_slot(const struct md_ring_writer *writer, uint64_t seq) {
    return &writer->slots[seq & writer->mask];
}

static inline void md_slot_mark(struct md_slot *slot, uint64_t seq) {
    md_store_relaxed_u64(&slot->seq, seq - 1); /* W1 */
}

static inline void md_ring_mark(struct md_ring_writer *writer, uint64_t seq) {
    md_slot_mark(md_ring_slot(writer, seq), seq);
}

/* Make slot seq ours, if it is not yet: no reader accepts what stands in it. Ascending in a frame.
 * The first slots of a frame were claimed by the release before it, or by md_ring_take_over.
 * seq: in [writer->next, writer->next + depth/4). Claiming again after an error is harmless. */
static inline struct md_slot *md_ring_claim(struct md_ring_writer *writer, uint64_t seq) {
    if (__builtin_expect(seq >= writer->limit, 0)) {
        writer->wait(writer, seq);
    }
    struct md_slot *slot = md_ring_slot(writer, seq);
    if (seq - writer->next >= MD_CLAIM_AHEAD) {
        md_slot_mark(slot, seq);
    }
    md_fence_release(); /* W2: pairs with R3 */
    return slot;
}

/* md_ring_claim of the next count slots at once, which md_ring_slot then names: for a frame whose
 * length is known. Each claim asks for its line, and claims alone stand closer in the store buffer
 * than whole records, so more lines are under way at a time: between far cores a batch of 64 is 1.5
 * times as quick. count: in [0, depth/4]. */
static inline void md_ring_claim_batch(struct md_ring_writer *writer, uint64_t count) {
    struct md_slot *slots = writer->slots;
    uint64_t mask = writer->mask;
    uint64_t end = writer->next + count;
    if (__builtin_expect(end > writer->limit, 0)) {
        writer->wait(writer, end - 1);
    }
    for (uint64_t seq = writer->next + MD_CLAIM_AHEAD; seq < end; seq++) {
        md_slot_mark(&slots[seq & mask], seq);
    }
    md_fence_release(); /* W2: pairs with R3 */
}

/* index: in [0, MD_SLOT_WORDS): 0 ts_event, 1 ts_recv, 2 tag (md_record_tag), 3..6 body. */
static inline void md_slot_put(struct md_slot *slot, unsigned index, uint64_t value) {
    md_store_relaxed_u64(&slot->word[index], value); /* W3 */
}

static inline void md_slot_fill(struct md_slot *slot,
                                int64_t ts_event,
                                int64_t ts_recv,
                                uint64_t tag,
                                int64_t body0,
                                int64_t body1,
                                int64_t body2,
                                int64_t body3) {
    md_slot_put(slot, 0, (uint64_t)ts_event);
    md_slot_put(slot, 1, (uint64_t)ts_recv);
    md_slot_put(slot, 2, tag);
    md_slot_put(slot, 3, (uint64_t)body0);
    md_slot_put(slot, 4, (uint64_t)body1);
    md_slot_put(slot, 5, (uint64_t)body2);
    md_slot_put(slot, 6, (uint64_t)body3);
}

/* Hand slots next..next+count-1, all claimed and filled, to the readers, and claim as many behind
 * them. The cursor is stored four times a turn, flushed or not: md_ring_head finds its way only
 * while cursor + 1 still stands in the ring, and a successor that could not would number its
 * records anew. */
static inline void md_ring_release(struct md_ring_writer *writer, uint64_t count) {
    struct md_slot *slots = writer->slots; /* in registers: no store can change them */
    uint64_t mask = writer->mask;
    uint64_t first = writer->next;
    uint64_t next = first + count;
    for (uint64_t seq = first; seq != next; seq++) {
        md_store_release_u64(&slots[seq & mask].seq, seq); /* W4: pairs with R1 */
    }
    for (uint64_t i = count < MD_CLAIM_AHEAD ? count : MD_CLAIM_AHEAD; i != 0; i--) {
        md_ring_mark(writer, next + MD_CLAIM_AHEAD - i);
    }
    writer->next = next;
    if (__builtin_expect(((first ^ next) & ~(mask / 4)) != 0, 0)) {
        md_store_release_u64(&writer->header->cursor, next - 1);
    }
}

/* Fill a claimed slot with a record that lies elsewhere, its seq ignored. On x86-64 most words go
 * in pairs, which may tear: as well as if a word were missing. What counts is that they are stored
 * after W2 and before W4, and x86-64 keeps the order of all stores (Intel SDM 3A 9.2.3.2). */
static inline void md_slot_store(struct md_slot *slot, const struct md_record *record) {
    md_slot_put(slot, 0, (uint64_t)record->ts_event);
    md_pair_store(&slot->word[1], &record->ts_recv); /* W3; and symbol_id, kind, flags, scales */
    md_pair_store(&slot->word[3], &record->body.word[0]);
    md_pair_store(&slot->word[5], &record->body.word[2]);
}

/* Publish count records that lie elsewhere, their seq ignored, as one frame: readers get them all
 * or, after a crash, a prefix that a writer_restarted status closes. count: in [0, depth/4]. */
static inline void md_ring_publish_batch(struct md_ring_writer *writer,
                                         const struct md_record *records,
                                         uint64_t count) {
    md_ring_claim_batch(writer, count);
    for (uint64_t i = 0; i < count; i++) {
        md_slot_store(md_ring_slot(writer, writer->next + i), &records[i]);
    }
    md_ring_release(writer, count);
}

/* Publish one record that lies elsewhere. Encoding in place is quicker. */
static inline void md_ring_publish(struct md_ring_writer *writer, const struct md_record *record) {
    md_ring_publish_batch(writer, record, 1);
}

/* Say how far we are: once per socket read, and when idle. A reader needs this only to attach, to
 * resynchronise and to know that silence means silence. */
static inline void md_ring_flush(struct md_ring_writer *writer, int64_t now_ns) {
    struct md_ring_header *header = writer->header;
    md_store_release_u64(&header->cursor, writer->next - 1);
    md_store_release_i64(&header->watermark_ns, now_ns);
}

/* ---- reader ------------------------------------------------------------------------------- */

struct md_ring_reader {
    const struct md_slot *slots;
    uint64_t mask;
    uint64_t next;    /* the next sequence to read */
    uint64_t lost;    /* records that were overwritten before we read them, exactly */
    uint64_t dropped; /* records that we skipped, to catch up */
    /* [missed, resumed) was not read: at first all before the attach, then what a lap cost; two
     * laps, and what was read in between, are one stretch. Set missed = resumed after a refresh
     * from the cache. */
    uint64_t missed;
    uint64_t resumed;
    const struct md_ring_header *header;
};

/* The last sequence known to be published: the header's cursor, walked forward over what was
 * released since its last flush. Bounded by one turn of the ring. */
static inline uint64_t
md_ring_head(const struct md_ring_header *header, const struct md_slot *slots, uint64_t mask) {
    uint64_t head = md_load_acquire_u64(&header->cursor);
    for (uint64_t steps = 0; steps <= mask; steps++) {
        if (md_load_acquire_u64(&slots[(head + 1) & mask].seq) != head + 1) {
            break;
        }
        head++;
    }
    return head;
}

/* A reader of a verified ring, from the record after the newest on. */
static inline struct md_ring_reader md_reader_init(const struct md_ring_header *header) {
    struct md_ring_reader reader;
    reader.slots = md_ring_slots(header);
    reader.mask = header->depth - 1;
    reader.lost = 0;
    reader.dropped = 0;
    reader.header = header;
    reader.next = md_ring_head(header, reader.slots, reader.mask) + 1;
    reader.missed = 0;
    reader.resumed = reader.next;
    return reader;
}

/* Go on at next without what lies between. Returns how many records that is. */
static inline uint64_t md_reader_jump(struct md_ring_reader *reader, uint64_t next) {
    if (next <= reader->next) {
        return 0;
    }
    if (reader->missed == reader->resumed) {
        reader->missed = reader->next;
    }
    uint64_t count = next - reader->next;
    reader->next = next;
    reader->resumed = next;
    return count;
}

/* Where a lapped reader goes on: half a ring behind the newest, so that it is not lapped again at
 * once. Counts what lies between as lost. */
static inline void md_reader_resync(struct md_ring_reader *reader) {
    uint64_t depth = reader->mask + 1;
    uint64_t head = md_ring_head(reader->header, reader->slots, reader->mask);
    reader->lost += md_reader_jump(reader, head + 1 > depth / 2 ? head + 1 - depth / 2 : 1);
}

/* Copy slot's payload and name it seq, which R1 found there. Straight to where it belongs: by way
 * of a local array, gcc reloads it 16 bytes wide, and each such load waits for two stores to
 * retire.
 *
 * On x86-64 by four plain loads of 16 bytes. What is asked of R2 is that each word is loaded whole,
 * after R1 and before R4. The processor keeps the order of all loads and splits none of these
 * inside a word (Intel SDM 3A 9.1.1, 9.2.3.2; AMD APM 2 7.2, 7.3.2), and no compiler moves a
 * volatile access over R1's acquire or the fence R3. There seq is loaded once more. Should that be
 * another one, then it is a claim, and claims ascend: R4 finds the first slot's, which is older.
 * Elsewhere only the fences order claims, so seq must be R1's. */
static inline void md_slot_copy(struct md_record *out, const struct md_slot *slot, uint64_t seq) {
#if MD_PAIRS
    (void)seq;
    md_pair_copy(&out->seq, &slot->seq); /* R2 */
#else
    out->seq = seq;
    md_word_copy(&out->ts_event, &slot->word[0]); /* R2 */
#endif
    md_pair_copy(&out->ts_recv, &slot->word[1]); /* and symbol_id, kind, flags and scales */
    md_pair_copy(&out->body.word[0], &slot->word[3]);
    md_pair_copy(&out->body.word[2], &slot->word[5]);
}

/* Copy up to count records into out, count >= 1. Returns how many; when that is 0: *seq < next:
 * nothing new, else lapped, before we came or while we copied. */
static inline uint64_t
md_reader_try(struct md_ring_reader *reader, struct md_record *out, uint64_t count, uint64_t *seq) {
    const struct md_slot *slots = reader->slots;
    uint64_t mask = reader->mask;
    uint64_t first = reader->next;
    const struct md_slot *oldest = &slots[first & mask];
    const struct md_slot *slot = oldest;
    uint64_t n = 0;
    do {
        *seq = md_load_acquire_u64(&slot->seq); /* R1: pairs with W4 */
        if (*seq != first + n) {
            break;
        }
        md_slot_copy(&out[n], slot, first + n);
        n++;
        slot = &slots[(first + n) & mask];
    } while (n != count);
    if (n != 0) {
        md_fence_acquire();                       /* R3: pairs with W2 */
        *seq = md_load_relaxed_u64(&oldest->seq); /* R4 */
        if (__builtin_expect(*seq != first, 0)) {
            return 0;
        }
        reader->next = first + n;
    }
    return n;
}

/* md_reader_read for one that was lapped: out of line, so that the others' path is short. Each try
 * that was overrun asks for less, so that a large batch cannot starve behind a fast writer. */
__attribute__((noinline, cold, unused)) static uint64_t
md_reader_read_lapped(struct md_ring_reader *reader, struct md_record *out, uint64_t count) {
    for (unsigned tries = 1; tries < MD_READ_TRIES; tries++) {
        md_reader_resync(reader);
        count = count / 4 + 1;
        uint64_t seq;
        uint64_t n = md_reader_try(reader, out, count, &seq);
        if (n != 0 || seq < reader->next) {
            return n;
        }
    }
    md_reader_resync(reader);
    return 0;
}

/* Copy up to count records into out.
 *
 * Returns how many, in [0, count]; 0: nothing new, or (reader->lost grew) lapped over and over. A
 * lapped reader resynchronises by itself: received + lost == published since attach, always. */
static inline uint64_t
md_reader_read(struct md_ring_reader *reader, struct md_record *out, uint64_t count) {
    if (count == 0) {
        return 0;
    }
    uint64_t seq;
    uint64_t n = md_reader_try(reader, out, count, &seq);
    if (__builtin_expect(n == 0 && seq >= reader->next, 0)) {
        return md_reader_read_lapped(reader, out, count);
    }
    return n;
}

/* How a reader that spins keeps its distance from a writer at full rate. Zeroed at first. */
struct md_pace {
    uint64_t streak; /* records of a stream so far */
    uint64_t empty;  /* reads in a row that brought nothing */
};

/* To be told what each read of one ring brought.
 *
 * A reader at the heels of a writer at full rate takes each line from it while it is being filled,
 * and both wait for lines more than they work; a thousand records behind, they do not meet. So when
 * a stream has been read to its end, wait for a few more records, then for twice as many, and so on
 * while they come. Where none comes that is some 16 pauses (0.3 us), at most once in MD_STREAK_MIN
 * records, and never at rates that leave MD_STREAK_EMPTY reads empty between records. A flush ends
 * it: what came in one socket read is there, and nobody waits over it for more. */
static inline void
md_reader_pace(const struct md_ring_reader *reader, struct md_pace *pace, uint64_t count) {
    if (count != 0) {
        pace->streak += count;
        pace->empty = 0;
        return;
    }
    if (++pace->empty == MD_STREAK_EMPTY) {
        pace->streak = 0;
    }
    if (pace->streak < MD_STREAK_MIN) {
        return;
    }
    pace->streak = 0;
    for (uint64_t ahead = MD_AHEAD_MIN; ahead <= MD_AHEAD_MAX && ahead <= reader->mask / 2;
         ahead *= 2) {
        uint64_t seq = reader->next + ahead;
        const struct md_slot *slot = &reader->slots[seq & reader->mask];
        for (uint64_t pauses = ahead * MD_AHEAD_PAUSES; md_load_relaxed_u64(&slot->seq) < seq;
             pauses--) {
            if (pauses == 0 || md_load_relaxed_u64(&reader->header->cursor) >= reader->next) {
                return; /* none comes, or the writer has flushed: its pass is over */
            }
            md_pause();
        }
    }
}

#endif
