/* The last-value cache's seqlock, on a machine that reorders: is there a run in which a reader
 * takes a torn cell?
 *
 * Models native/include/mdsys/cache.h: md_cell_store (C1..C4) against md_cell_load (D1..D4), with
 * the labels that stand there. Stores are reordered as in stores.inc. Loads of words (D2) are
 * issued, and take place whenever they like, but after the acquire load before them (D1) and before
 * the acquire fence behind them (D3).
 *
 * One cell of a version and two words, each of which holds the update's number; LAST updates, as
 * many looks as it takes. The reader keeps no more than one try: what it does after a failed one it
 * does anew.
 *
 * Forbidden: torn_cell, of two updates or of another than its version says. Found without the odd
 * version (NO_C1) or who heeds it (NO_ODD), without a fence (NO_C2, NO_D3) or the recheck (NO_D4),
 * with a release that is a plain store (NO_C4), and likewise D1 (NO_D1).
 */
#ifndef LAST
#define LAST 3 /* updates */
#endif

#define VERSION 0
#define WORD(i) (1 + (i))
#define PLACES 3
#include "stores.inc"

active proctype writer() {
    byte update;
    do
    :: update < LAST ->
#ifndef NO_C1
       store(VERSION, 2 * update + 1, true); /* C1 */
#endif
#ifndef NO_C2
       stores == 0; /* C2 */
#endif
       store(WORD(0), update + 1, false); /* C3 */
       store(WORD(1), update + 1, false);
       update++;
#ifdef NO_C4
       store(VERSION, 2 * update, false)
#else
       store(VERSION, 2 * update, true) /* C4 */
#endif
    :: else -> break
    od
}

/* The reader's loads of words: issued, and not yet done. */
bool issued[2];
byte got[2];

#define ALL_DONE (!issued[0] && !issued[1])

active proctype loads() {
end:
    do
    :: d_step { issued[0] -> issued[0] = false; got[0] = memory[WORD(0)] }
    :: d_step { issued[1] -> issued[1] = false; got[1] = memory[WORD(1)] }
    od
}

inline issue() {
    d_step { issued[0] = true; issued[1] = true } /* D2 */
}

active proctype reader() {
    byte version;
    bool accepted, torn_cell;
end:
    do
    ::
#ifdef NO_D1
       issue();
       version = memory[VERSION];
#else
       version = memory[VERSION]; /* D1 */
       issue();
#endif
#ifndef NO_D3
       ALL_DONE; /* D3 */
#endif
#ifdef NO_D4
       accepted = true;
#else
       accepted = memory[VERSION] == version; /* D4 */
#endif
       ALL_DONE;
       d_step {
#ifndef NO_ODD
           accepted = accepted && version % 2 == 0;
#endif
           torn_cell = accepted && (got[0] != version / 2 || got[1] != version / 2)
       }
       assert(!torn_cell);
       d_step { accepted = false; version = 0; got[0] = 0; got[1] = 0 }
    od
}
