/* Everything a writer can do in two steps, examined after every one of its stores.
 *
 *     ring_model
 *
 * A step is a frame, of one record to depth/4, claimed slot by slot or at once, published or
 * abandoned when it is filled, or a take-over. After each store the writer may also die: then the
 * next one takes the ring over, dies in that after any store too, and the third publishes frames.
 * After every store must hold:
 *
 *   I1 a slot that bears a sequence which readers accept bears that record whole, and the record is
 *      released: what readers accept is never half new (W1 before W3, W3 before W4)
 *   I2 while record s is filled, nothing that stood a whole turn or more before s is accepted: so
 *      the recheck of a batch's first slot speaks for all of them (claims ascend)
 *   I3 what is not claimed stands: no reader is lapped by more than MD_CLAIM_AHEAD slots, or by the
 *      longest frame so far
 *
 * And after each step, readers at the edges receive exactly what stands, or lose exactly what does
 * not. It is a model in that stores take effect in program order; ring_stress has the real machine.
 */
#include <stdio.h>
#include <stdlib.h>

static void after_store(void);
#define MD_AFTER_STORE() after_store()

#include "mdsys/ring.h"

#include "../src/segment.c"

enum { DEPTH = 64, MASK = DEPTH - 1, QUARTER = DEPTH / 4, IMAGES_MAX = 1024, NOW = 7 };

struct world {
    union {
        struct md_ring_header header;
        char page[MD_PAGE_HEADER_SIZE];
    } head;
    struct md_slot slots[DEPTH];
    /* What should be: */
    struct md_record standing[DEPTH]; /* the last one released into each slot */
    struct md_record filled[DEPTH];   /* and the last one that was written into it */
    uint64_t released;                /* the last sequence that readers may have */
    uint64_t filling;                 /* the highest sequence of which a word was written */
    uint64_t claimed;                 /* the highest sequence that a frame claimed */
    uint64_t claiming;                /* and the highest that md_ring_claim_batch is to claim */
    uint64_t salt;                    /* no two fillings are alike */
    int releasing;
};

static struct world now;
static struct md_ring_writer writer;
static struct world *images; /* where the writer may have died */
static size_t image_count;
static unsigned long long stores;

static void fail(const char *what, uint64_t seq) {
    printf("%s: record %llu, %llu released\n",
           what,
           (unsigned long long)seq,
           (unsigned long long)now.released);
    exit(1);
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t highest_claim(void) {
    return larger(now.claimed, now.released + MD_CLAIM_AHEAD);
}

static void after_store(void) {
    stores++;
    if (now.releasing && now.slots[(now.released + 1) & MASK].seq == now.released + 1) {
        now.released++;
        now.standing[now.released & MASK] = now.filled[now.released & MASK];
    }
    for (uint64_t seq = highest_claim() + 1; seq <= now.claiming; seq++) {
        if (now.slots[seq & MASK].seq != seq - 1) {
            break;
        }
        now.claimed = seq;
    }
    for (uint64_t i = 0; i < DEPTH; i++) {
        uint64_t seq = now.slots[i].seq;
        if (seq == 0 || (seq & MASK) != i) {
            continue; /* claimed: no reader takes it */
        }
        if (seq > now.released) {
            fail("accepted before it is released", seq);
        }
        if (memcmp(&now.slots[i], &now.standing[i], sizeof now.slots[i]) != 0) {
            fail("torn record delivered", seq); /* I1 */
        }
        if (seq + DEPTH <= now.filling) {
            fail("accepted while one of its batch is overwritten", seq); /* I2 */
        }
    }
    for (uint64_t seq = larger(highest_claim(), DEPTH) - DEPTH + 1; seq <= now.released; seq++) {
        if (now.slots[seq & MASK].seq != seq) {
            fail("overwritten early", seq); /* I3 */
        }
    }
    if (images != NULL) {
        if (image_count == IMAGES_MAX) {
            fail("more stores than images", 0);
        }
        images[image_count++] = now;
    }
}

/* ---- steps -------------------------------------------------------------------------------- */

static void expect(uint64_t seq, uint64_t tag, const int64_t *word) {
    struct md_record *record = &now.filled[seq & MASK];
    record->seq = seq;
    record->ts_event = word[0];
    record->ts_recv = word[1];
    memcpy(&record->symbol_id, &tag, sizeof tag);
    memcpy(&record->body, &word[2], sizeof record->body);
}

static void frame(uint64_t count, int published, int at_once) {
    uint64_t first = writer.next;
    if (at_once) {
        now.claiming = first + count - 1;
        md_ring_claim_batch(&writer, count);
        now.claiming = 0;
    }
    for (uint64_t seq = first; seq < first + count; seq++) {
        now.claimed = larger(now.claimed, seq); /* at once: it is */
        struct md_slot *slot = at_once ? md_ring_slot(&writer, seq) : md_ring_claim(&writer, seq);
        int64_t word[6];
        for (int i = 0; i < 6; i++) {
            word[i] = (int64_t)++now.salt;
        }
        uint64_t tag = ++now.salt;
        expect(seq, tag, word);
        now.filling = larger(now.filling, seq);
        md_slot_fill(slot, word[0], word[1], tag, word[2], word[3], word[4], word[5]);
    }
    if (published) {
        now.releasing = 1;
        md_ring_release(&writer, count);
        now.releasing = 0;
    }
}

static void take_over(void) {
    uint64_t next = now.released + 1;
    if (now.head.header.segment.epoch != 0) {
        int64_t word[6] = {NOW, NOW, MD_STATUS_WRITER_RESTARTED, MD_ABSENT, MD_ABSENT, MD_ABSENT};
        expect(next, md_record_tag(0, MD_KIND_STATUS, MD_FLAG_LAST, 0, 0), word);
        next++;
    }
    now.releasing = 1;
    md_ring_take_over(&now.head.header, &writer, 1, 1, NOW);
    now.releasing = 0;
    if (writer.next != next || now.released != next - 1) {
        fail("the next writer goes on elsewhere", writer.next);
    }
}

static void read_from(uint64_t seq) {
    struct md_record out[DEPTH];
    struct md_ring_reader reader = md_reader_init(&now.head.header);
    if (reader.next != now.released + 1 || reader.missed != 0 || reader.resumed != reader.next) {
        fail("a new reader begins elsewhere", reader.next);
    }
    reader.next = seq;
    reader.missed = reader.resumed; /* has refreshed itself */
    uint64_t n = md_reader_read(&reader, out, DEPTH);
    uint64_t first = seq;
    if (seq + DEPTH <= highest_claim()) {
        first = now.released + 1 - DEPTH / 2;
        n = n == DEPTH / 4 + 1 ? n + md_reader_read(&reader, out + n, DEPTH - n) : 0;
    }
    if (reader.lost != first - seq || reader.resumed - reader.missed != reader.lost ||
        (reader.lost != 0 && reader.missed != seq)) {
        fail("lost is not what was overwritten", seq);
    }
    if (n != now.released + 1 - first || reader.next != now.released + 1) {
        fail("not all that stands is delivered", seq);
    }
    for (uint64_t i = 0; i < n; i++) {
        if (memcmp(&out[i], &now.standing[(first + i) & MASK], sizeof out[i]) != 0) {
            fail("torn record delivered", first + i);
        }
    }
}

static void read_all(void) {
    uint64_t next = now.released + 1;
    uint64_t oldest = highest_claim() - DEPTH + 1;
    const uint64_t edges[] = {oldest - 1, oldest, oldest + 1, next - DEPTH / 2, next - 1, next};
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        read_from(edges[i]);
    }
}

static const uint64_t sizes[] = {1, MD_CLAIM_AHEAD, MD_CLAIM_AHEAD + 1, 7, QUARTER};
enum { SIZES = sizeof sizes / sizeof sizes[0], STEPS = 2 * SIZES + 4 };

static void step(unsigned which) {
    switch (which - 2 * SIZES) {
    case 0:
        frame(MD_CLAIM_AHEAD + 1, 1, 1);
        break;
    case 1:
        frame(QUARTER, 0, 1);
        break;
    case 2:
        frame(QUARTER, 1, 1);
        break;
    case 3:
        take_over();
        break;
    default:
        frame(sizes[which / 2], which % 2, 0);
    }
    read_all();
}

/* ---- deaths ------------------------------------------------------------------------------- */

static void die_and_go_on(const struct world *dead, size_t count, int deaths) {
    static struct world again[IMAGES_MAX];
    for (size_t i = 0; i < count; i++) {
        now = dead[i];
        now.releasing = 0;
        now.claiming = 0;
        images = deaths > 1 ? again : NULL;
        image_count = 0;
        take_over();
        images = NULL;
        size_t again_count = image_count;
        read_all();
        frame(MD_CLAIM_AHEAD + 1, 1, 0);
        if (deaths > 1) {
            frame(QUARTER, 1, 1);
            read_all();
            die_and_go_on(again, again_count, deaths - 1);
        }
    }
}

int main(void) {
    static struct world begun;
    static struct world dead[IMAGES_MAX];
    md_ring_create(&now.head.header, md_ring_size(DEPTH), DEPTH, 0, 0);
    md_segment_publish(&now.head.header.segment, 1);
    take_over();
    while (now.released < 2 * DEPTH - 5) { /* something to overwrite, and the ring's end is near */
        frame(1, 1, 0);
    }
    read_all();
    begun = now;
    struct md_ring_writer begun_writer = writer;
    unsigned long deaths = 0;
    for (unsigned one = 0; one < STEPS; one++) {
        for (unsigned two = 0; two < STEPS; two++) {
            now = begun;
            writer = begun_writer;
            images = dead;
            image_count = 0;
            step(one);
            step(two);
            images = NULL;
            size_t count = image_count;
            deaths += count;
            for (unsigned three = 0; three < STEPS; three++) {
                struct world after = now;
                struct md_ring_writer after_writer = writer;
                step(three);
                now = after;
                writer = after_writer;
            }
            die_and_go_on(dead, count, 2);
        }
    }
    printf("steps %d deaths %lu stores %llu\n", STEPS * STEPS, deaths, stores);
    return 0;
}
