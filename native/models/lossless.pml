/* Lossless readers: is there a run in which the writer overwrites what it has promised to keep, or
 * waits for longer than it has promised the others?
 *
 * Models native/src/audience.c (grant, update_limit, wait_for_readers, in_the_way, charge, eject,
 * md_audience_flush) and native/include/mdsys/ring.h (md_ring_claim, md_ring_release) against two
 * lossless readers of one ring: an honest one, native/include/mdsys/poll.h:md_source_take, which
 * reads a record and then says so (A0), at its own pace or never; and a liar, in whose page the
 * writer finds another number whenever it looks. Frames are published or abandoned, and claimed
 * one by one or (CLAIM_BATCH, md_ring_claim_batch) at once. Time is a tick, one stretch of the
 * waiting loop; each reader has BUDGET ticks a pass. DIES: the writer is killed once, between two
 * frames, and its successor publishes one record before it knows of any reader.
 * Memory is sequentially consistent here: what orders A0 and A1 is in docs/memory-model.md. All
 * numbers are bytes, so that they overflow as 64 bits do, only sooner.
 *
 * Forbidden, and found where
 *   overwritten_unread, of the honest reader's, from the sequence it was granted until it was
 *       ejected: the claims ahead have no margin (NO_AHEAD_MARGIN), or the successor has none
 *       (NO_SLACK, with DIES), a reader says so first and reads then (A0_EARLY, with NO_SLACK: the
 *       slack hides one record), a grant forgets what an abandoned frame has claimed
 *       (GRANT_BY_NEXT), only the first record of a frame asks (ASK_ONCE);
 *   passed_over, by a reader that was lapped, of what is promised to it: a grant that comes during
 *       the lap promises more (PROMISE_NEXT) than what lies behind where the reader goes on;
 *   beyond_belief, the writer takes for read what cannot be: the clamp has no lower or no upper end
 *       (NO_LOWER, NO_UPPER);
 *   waited_too_long, more than each reader's budget in a pass: nobody is ejected (NO_EJECT), or who
 *       moves in time is not charged for the wait until then (CHARGE_WHO_STAYS);
 *   ejected_unheard, the honest reader, which was not itself waited for: the budget is for all
 *       together (SHARED_BUDGET);
 *   ejected_unseen, for where it was before the wait: nobody looks between (EJECT_BLIND).
 */
#define DEPTH 8
#ifndef LAST
#define LAST 8 /* records, the last frame aside */
#endif
#define FRAME 4 /* more than the margin, as DEPTH / 4 is in a real ring */
#define AHEAD 1
#define BUDGET 2
#define READERS 2
#define HONEST 0
#define LIAR 1

#ifdef NO_AHEAD_MARGIN
#define MARGIN 0
#elif defined(NO_SLACK)
#define MARGIN AHEAD
#else
#define MARGIN (AHEAD + 1) /* DEPTH / 16, rounded up: the successor's record */
#endif

#define LIMIT_OF(n) ((n + DEPTH - MARGIN) % 256)
#define NO_LIMIT 255

byte slot[DEPTH]; /* the record that stands there; 0: none, or claimed */
byte page;        /* the honest reader's `next`; 0: it has not begun */

/* The writer's: */
byte next = 1;
byte limit = NO_LIMIT;
byte believed[2]; /* 0: not granted */
bool ejected[2];
byte waited[2]; /* for each, in this pass */
bool waited_for[2];

/* The honest reader's: */
byte at;   /* it has read what is below */
byte from; /* it was promised what is from here on; 0: nothing */

/* The clock's: ticks in this pass, those of them in which the honest reader was in the way, and
 * whether one has passed since the writer looked. */
byte held, heard;
bool passed;

bool overwritten_unread, waited_too_long, beyond_belief, ejected_unheard, ejected_unseen;
bool passed_over;

inline overwrite(seq) {
    overwritten_unread = overwritten_unread ||
                         (seq > DEPTH && from != 0 && seq - DEPTH >= from && seq - DEPTH >= at);
    slot[(seq) % DEPTH] = 0;
    assert(!overwritten_unread)
}

#ifdef NO_LOWER
#define NOT_BELOW(who) true
#else
#define NOT_BELOW(who) (said > believed[who])
#endif
#ifdef NO_UPPER
#define NOT_ABOVE(who) true
#else
#define NOT_ABOVE(who) (said <= next)
#endif

/* What stands in a reader's page now. */
inline load_next(who) {
    if
    :: who == HONEST -> said = page
    :: who == LIAR -> said = 0
    :: who == LIAR -> said = 1
    :: who == LIAR -> said = 254
    :: who == LIAR -> said = next
    :: who == LIAR -> said = next + 1
    :: who == LIAR -> said = believed[LIAR] + 1
    :: who == LIAR && next > DEPTH / 2 -> said = next - DEPTH / 2
    fi
}

inline look_at(who) {
    if
    :: believed[who] != 0 ->
       load_next(who);
       if
       :: NOT_BELOW(who) && NOT_ABOVE(who) ->
          beyond_belief = beyond_belief || said < believed[who] || said > next;
          believed[who] = said
       :: else
       fi;
       if
       :: LIMIT_OF(believed[who]) < limit -> limit = LIMIT_OF(believed[who])
       :: else
       fi
    :: else
    fi
}

inline update_limit() {
    atomic {
        limit = NO_LIMIT;
        look_at(HONEST);
        look_at(LIAR);
        said = 0;
        passed = false
    }
    assert(!beyond_belief)
}

#define IN_THE_WAY(who, seq) (believed[who] != 0 && seq >= LIMIT_OF(believed[who]))

#ifdef NO_EJECT
#define SPENT(who) false
#elif defined(SHARED_BUDGET)
#define SPENT(who) (waited[HONEST] + waited[LIAR] >= BUDGET)
#else
#define SPENT(who) (waited[who] >= BUDGET)
#endif

inline eject(who) {
    ejected_unheard = ejected_unheard || (who == HONEST && heard < BUDGET);
    ejected_unseen = ejected_unseen || passed;
    believed[who] = 0;
    ejected[who] = true;
    from = (who == HONEST -> 0 : from)
}

inline in_the_way(who) {
    waited_for[who] = IN_THE_WAY(who, seq);
    if
    :: waited_for[who] && SPENT(who) -> eject(who); waited_for[who] = false
    :: else
    fi
}

inline charge(who) {
    waited[who] = waited[who] + waited_for[who];
    waited_for[who] = false
}

inline tick() {
    held++;
    heard = heard + waited_for[HONEST];
    passed = true;
    waited_too_long = held > READERS * BUDGET
}

#ifdef SHARED_BUDGET
#define CHARGE d_step { waited[LIAR]++; waited_for[HONEST] = false; waited_for[LIAR] = false }
#else
#define CHARGE d_step { charge(HONEST); charge(LIAR) }
#endif

inline wait_for_readers() {
    update_limit();
    do
    :: d_step { true -> in_the_way(HONEST); in_the_way(LIAR) }
       assert(!ejected_unheard);
       assert(!ejected_unseen);
       if
       :: !waited_for[HONEST] && !waited_for[LIAR] -> break
       :: else -> d_step { tick() }
       fi;
       assert(!waited_too_long);
#ifdef CHARGE_WHO_STAYS
       update_limit();
       d_step {
           waited_for[HONEST] = waited_for[HONEST] && IN_THE_WAY(HONEST, seq);
           waited_for[LIAR] = waited_for[LIAR] && IN_THE_WAY(LIAR, seq)
       }
#endif
       CHARGE;
#ifndef EJECT_BLIND
       update_limit()
#endif
    od;
    update_limit()
}

inline claim() {
    if
#ifdef ASK_ONCE
    :: seq == next && seq >= limit -> wait_for_readers()
#elif defined(CLAIM_BATCH)
    :: false
#else
    :: seq >= limit -> wait_for_readers()
#endif
    :: else
    fi;
    if
    :: seq - next >= AHEAD -> overwrite(seq)
    :: else
    fi
}

/* Handed out, and as many claimed behind. */
inline release() {
    atomic {
        do
        :: next < seq -> slot[next % DEPTH] = next; next++
        :: else -> break
        od;
        overwrite(next)
    }
}

#ifdef PROMISE_NEXT
#define BEHIND_A_LAP 0
#else
#define BEHIND_A_LAP (DEPTH / 2)
#endif
#ifdef GRANT_BY_NEXT
#define CLAIMED_MAX next
#else
#define CLAIMED_MAX (next + FRAME - 1) /* by a frame that was abandoned */
#endif

inline grant(who) {
    atomic {
        if
        :: believed[who] == 0 && !ejected[who] ->
           load_next(who);
           if
           :: said != 0 ->
              believed[who] = (said <= next && CLAIMED_MAX < LIMIT_OF(said) -> said : next);
              if
              :: who == HONEST ->
                 from = (believed[HONEST] == said -> said : next + BEHIND_A_LAP);
                 said = (from > at -> from : at);
                 overwritten_unread = said < next && slot[said % DEPTH] != said
              :: else
              fi
           :: else
           fi
        :: else
        fi;
        said = 0
    }
    assert(!overwritten_unread)
}

inline flush() {
    d_step { waited[HONEST] = 0; waited[LIAR] = 0; held = 0; heard = 0 }
    grant(HONEST);
    grant(LIAR);
    update_limit()
}

/* The feed is killed; the next one claims, says that it begins, and is told of the readers then.
 * What was promised before stands in no grant any more, but is kept all the same. */
inline die() {
    died = true;
    d_step {
        believed[HONEST] = 0;
        believed[LIAR] = 0;
        limit = NO_LIMIT
    }
    overwrite(next);
    seq = next + 1;
    release();
    flush()
}

active proctype writer() {
    byte seq, end_of_frame, said;
    bool died;
    do
    :: next <= LAST ->
       seq = next;
       end_of_frame = next + 1;
       if
       :: end_of_frame = next + FRAME
       :: true
       fi;
#ifdef CLAIM_BATCH
       if
       :: end_of_frame > limit ->
          seq = end_of_frame - 1;
          wait_for_readers();
          seq = next
       :: else
       fi;
#endif
       do
       :: seq < end_of_frame -> claim(); seq++
       :: else -> break
       od;
       if
       :: release()
       :: true /* abandoned */
       fi
    :: next > 1 -> flush()
#ifdef DIES
    :: !died && next > 1 -> die()
#endif
    :: next > LAST -> break
    od
}

active proctype honest() {
    atomic {
        next > 1; /* attaches when there is something already, at the head */
        at = next;
        page = at
    }
end:
    do
    :: slot[at % DEPTH] == at ->
#ifdef A0_EARLY
       page = at + 1;
       at++
#else
       at++;
       page = at /* A0 */
#endif
    :: slot[at % DEPTH] > at -> /* lapped: ejected, or not granted when it was there */
       atomic {
           at = next - DEPTH / 2; /* md_reader_resync */
           passed_over = from != 0 && at > from;
           assert(!passed_over)
       }
       page = at
    :: ejected[HONEST] -> break
    od
}
