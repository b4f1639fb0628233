/* The ring, on a machine that reorders: is there a run in which a reader accepts a torn record?
 *
 * Models native/include/mdsys/ring.h: md_ring_claim, md_slot_fill and md_ring_release (W1..W4)
 * against md_reader_try (R1..R4), with the labels that stand there. Stores are reordered as in
 * stores.inc. Loads of payload words (R2) are issued, and take place whenever they like, but after
 * the acquire load before them (R1) and before the acquire fence behind them (R3).
 *
 * DEPTH slots of a sequence and two words, each of which holds the record's number; a fill that is
 * abandoned leaves another. Frames of up to FRAME records, claimed AHEAD, rewind after an error;
 * batches of up to BATCH records with one recheck; after a lap the reader goes on anywhere.
 * CLAIM_BATCH: a frame is claimed at once, as by md_ring_claim_batch.
 *
 * Forbidden: torn_record_delivered. Found without the claim or its fence (NO_W1, NO_W2), with a
 * release that is a plain store (NO_W4), likewise R1 (NO_R1), without the fence or the recheck
 * (NO_R3, NO_R4), and where another slot than the batch's first is rechecked (RECHECK_LAST).
 */
#ifndef DEPTH
#define DEPTH 4 /* a power of 2 */
#endif
#ifndef AHEAD
#define AHEAD 1
#endif
#ifndef FRAME
#define FRAME 2
#endif
#ifndef BATCH
#define BATCH 2
#endif
#ifndef LAST
#define LAST 6 /* records */
#endif
#define ABANDONED 64 /* in a word: more than any sequence */
#define SEQ(s) (3 * ((s) % DEPTH))
#define WORD(s, i) (3 * ((s) % DEPTH) + 1 + (i))

#define PLACES (3 * DEPTH)
#ifdef CLAIM_BATCH
#define STORES 7
#endif
#include "stores.inc"

inline mark(s) {
#ifndef NO_W1
    store(SEQ(s), (s) - 1, false) /* W1 */
#else
    skip
#endif
}

#ifdef NO_W4
#define W4_IS_RELEASE false
#else
#define W4_IS_RELEASE true
#endif

inline claim(s) {
    if
    :: s - first >= AHEAD -> mark(s)
    :: else
    fi
}

inline fence() {
#ifndef NO_W2
    stores == 0 /* W2 */
#else
    skip
#endif
}

inline fill(s, salt) {
    store(WORD(s, 0), s + salt, false); /* W3 */
    store(WORD(s, 1), s + salt, false)
}

active proctype writer() {
    byte first = 1, count, s, salt;
    do
    :: first <= LAST ->
       count = 1;
       do
       :: count < FRAME && first + count <= LAST -> count++
       :: break
       od;
       if
       :: salt = 0
       :: salt = ABANDONED
       fi;
       s = first;
#ifdef CLAIM_BATCH
       do
       :: s < first + count -> claim(s); s++
       :: else -> break
       od;
       s = first;
       fence();
       do
       :: s < first + count -> fill(s, salt); s++
       :: else -> break
       od;
#else
       do
       :: s < first + count -> claim(s); fence(); fill(s, salt); s++
       :: else -> break
       od;
#endif
       if
       :: salt == 0 ->
          do
          :: first < s -> store(SEQ(first), first, W4_IS_RELEASE); first++ /* W4 */
          :: else -> break
          od;
          count = (count < AHEAD -> count : AHEAD);
          do
          :: count > 0 -> mark(first + AHEAD - count); count--
          :: else -> break
          od
       :: else -> salt = 0
       fi;
       count = 0
    :: else -> break
    od
}

/* The reader's loads of payload words: issued, and not yet done. */
bool issued[2 * BATCH];
byte got[2 * BATCH];
byte next = 1, n;

#define DONE(k) (!issued[2 * (k)] && !issued[2 * (k) + 1])
#if BATCH == 1
#define ALL_DONE DONE(0)
#elif BATCH == 2
#define ALL_DONE (DONE(0) && DONE(1))
#else
#define ALL_DONE (DONE(0) && DONE(1) && DONE(2))
#endif

#define LOAD(k, i)                                                                                 \
    d_step {                                                                                       \
        issued[2 * (k) + i] ->                                                                     \
        issued[2 * (k) + i] = false;                                                               \
        got[2 * (k) + i] = memory[WORD(next + k, i)]                                               \
    }

active proctype loads() {
end:
    do
    :: LOAD(0, 0)
    :: LOAD(0, 1)
#if BATCH > 1
    :: LOAD(1, 0)
    :: LOAD(1, 1)
#endif
#if BATCH > 2
    :: LOAD(2, 0)
    :: LOAD(2, 1)
#endif
    od
}

inline issue() {
    d_step {
        issued[2 * n] = true; /* R2 */
        issued[2 * n + 1] = true
    }
}

#ifdef RECHECK_LAST
#define RECHECKED (next + n - 1)
#else
#define RECHECKED next
#endif

/* md_reader_resync goes on half a ring behind the head; here anywhere behind what was read. */
inline lapped() {
    next++;
    do
    :: next <= LAST -> next++
    :: break
    od
}

/* What is over and forgotten makes no new states. */
inline clean() {
    d_step {
        k = 0;
        do
        :: k < 2 * BATCH -> got[k] = 0; k++
        :: else -> break
        od;
        k = 0;
        q = 0;
        n = 0;
        accepted = false
    }
}

active proctype reader() {
    byte q, k;
    bool accepted, torn_record_delivered;
    do
    :: next <= LAST ->
       n = 0;
       do
       :: n < BATCH ->
#ifdef NO_R1
          issue();
          q = memory[SEQ(next + n)];
          if
          :: q != next + n -> ALL_DONE; break
          :: else -> n++
          fi
#else
          q = memory[SEQ(next + n)]; /* R1 */
          if
          :: q != next + n -> break
          :: else -> issue(); n++
          fi
#endif
       :: n > 0 -> break /* a smaller batch */
       :: n == BATCH -> break
       od;
       if
       :: n == 0 && q < next -> memory[SEQ(next)] >= next /* nothing yet */
       :: n == 0 && q > next -> lapped()
       :: n > 0 ->
#ifndef NO_R3
          ALL_DONE; /* R3 */
#endif
#ifdef NO_R4
          accepted = true;
#else
          accepted = memory[SEQ(RECHECKED)] == RECHECKED; /* R4 */
#endif
          ALL_DONE;
          if
          :: accepted ->
             d_step {
                 k = 0;
                 do
                 :: k < n ->
                    torn_record_delivered = torn_record_delivered || got[2 * k] != next + k ||
                                            got[2 * k + 1] != next + k;
                    k++
                 :: else -> break
                 od;
                 k = 0
             }
             assert(!torn_record_delivered);
             next = next + n
          :: else -> lapped()
          fi
       fi;
       clean()
    :: else -> break
    od
}
