/* Lossless readers: is there a run in which the writer overwrites what it has promised to keep, or
 * waits for longer than it has promised the others?
 *
 * Models native/src/audience.c (grant, update_limit, wait_for_readers, eject, md_audience_flush)
 * and native/include/mdsys/ring.h (md_ring_claim, md_ring_release) against two lossless readers of
 * one ring: an honest one, native/include/mdsys/poll.h:md_source_read, which reads a record and
 * then says so (A0), at its own pace or never; and a liar, in whose page the writer finds another
 * number whenever it looks. Frames are published or abandoned. Time is a tick of the waiting loop;
 * BUDGET ticks a pass. DIES: the writer is killed once, between two frames, and its successor
 * publishes one record before it knows of any reader. Memory is sequentially consistent here: what
 * orders A0 and A1 is in docs/memory-model.md. All numbers are bytes, so that they overflow as 64
 * bits do, only sooner.
 *
 * Forbidden: overwritten_unread, of the honest reader's, from the sequence it was granted until it
 * was ejected; waited_too_long; beyond_belief: the writer takes for read what cannot be.
 * Found: overwritten_unread where the claims ahead have no margin (NO_AHEAD_MARGIN), where the
 * successor has none (NO_SLACK, with DIES), where a reader says so first and reads then (A0_EARLY,
 * with NO_SLACK: the slack hides one record), where a grant forgets what an abandoned frame has
 * claimed (GRANT_BY_NEXT), where only the first record of a frame asks (ASK_ONCE); waited_too_long
 * without ejection (NO_EJECT); beyond_belief without the clamp's lower or upper end (NO_LOWER,
 * NO_UPPER). FAIR asks for more than the code gives: that nobody is ejected before it was itself
 * waited for. It is not so (ejected_unheard): the budget is the pass's, so that two slow readers
 * cannot hold the writer twice as long.
 */
#define DEPTH 8
#ifndef LAST
#define LAST 9 /* records, the last frame aside */
#endif
#define FRAME 4 /* more than the margin, as DEPTH / 4 is in a real ring */
#define AHEAD 1
#define BUDGET 2
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
byte waited;

/* The honest reader's: */
byte at;   /* it has read what is below */
byte from; /* it was promised what is from here on; 0: nothing */

bool overwritten_unread, waited_too_long, beyond_belief;
#ifdef FAIR
byte waited_for_honest;
bool ejected_unheard;
#endif

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
        said = 0
    }
    assert(!beyond_belief)
}

#define IN_THE_WAY(who, seq) (believed[who] != 0 && seq >= LIMIT_OF(believed[who]))

inline eject(who) {
    if
    :: IN_THE_WAY(who, seq) ->
       believed[who] = 0;
       ejected[who] = true;
#ifdef FAIR
       ejected_unheard = who == HONEST && waited_for_honest < BUDGET;
#endif
       from = (who == HONEST -> 0 : from)
    :: else
    fi
}

inline wait_for_readers() {
    update_limit();
    do
    :: seq < limit -> break
    :: else ->
       if
#ifndef NO_EJECT
       :: waited >= BUDGET -> d_step { eject(LIAR); eject(HONEST) }
       :: waited < BUDGET ->
          waited++;
#ifdef FAIR
          waited_for_honest = waited_for_honest + IN_THE_WAY(HONEST, seq)
#endif
#else
       :: waited <= BUDGET -> waited++
#endif
       fi;
       waited_too_long = waited > BUDGET;
       assert(!waited_too_long);
#ifdef FAIR
       assert(!ejected_unheard);
#endif
       update_limit()
    od
}

inline claim() {
    if
#ifdef ASK_ONCE
    :: seq == next && seq >= limit -> wait_for_readers()
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
                 from = believed[HONEST];
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
    waited = 0;
#ifdef FAIR
    waited_for_honest = 0;
#endif
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
    :: slot[at % DEPTH] > at -> break /* lapped: ejected, or never granted */
    :: ejected[HONEST] -> break
    od
}
