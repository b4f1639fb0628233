/* The doorbell, on a machine with store buffers: is there a run in which a reader sleeps for ever
 * beside an unread record?
 *
 * Models native/include/mdsys/bell.h:md_park (P1..P6) and native/src/audience.c:md_audience_flush
 * (B1..B5), with the labels that stand there. Every store goes into its thread's own buffer, first
 * in, first out, and reaches memory whenever it likes (x86-TSO); a fence waits until the buffer is
 * empty. A system call empties it as well: the kernel's futex code takes a lock in it. The kernel
 * compares and queues each word of futex_waitv under that word's lock, one word after the other.
 * The one-second time-out of P5 is left out: here a lost wake-up lasts.
 *
 * READERS x RINGS, every reader reads all rings; each ring's writer publishes up to RECORDS, and
 * flushes after one or several; a flush with nothing new since it last looked does not look.
 * REGISTER: writers learn of the readers during the run. STOP: a thread of reader 0 stops it.
 *
 * Forbidden: lost_wake_up. Found without a fence (NO_P3, NO_B2), the recheck (NO_P4), the count or
 * the wake (NO_B4, NO_B5), with the bell read too late (P1_AFTER_P4), and with REGISTER where a new
 * reader's flag is not looked at at once (NO_ADD_RING). Forbidden with STOP: slept_through_stop.
 * Found when the stop word is not among what P5 waits for (NO_STOP_WORD).
 */
#ifndef READERS
#define READERS 2
#endif
#ifndef RINGS
#define RINGS 1
#endif
#ifndef RECORDS
#define RECORDS 2
#endif

#define AT(reader, ring) ((reader) * RINGS + (ring))

#if defined(STOP) && !defined(NO_STOP_WORD)
#define STOP_WOKE(reader) (reader == 0 && !queued_stop)
#else
#define STOP_WOKE(reader) false
#endif
#if RINGS > 1
#define some_word_woke(reader)                                                                     \
    (!queued[AT(reader, 0)] || !queued[AT(reader, 1)] || STOP_WOKE(reader))
#else
#define some_word_woke(reader) (!queued[AT(reader, 0)] || STOP_WOKE(reader))
#endif

mtype = { SLOT, BELL, ASLEEP };

/* Shared memory: */
byte slot[RINGS];   /* the newest record that is released */
byte bell[RINGS];
byte asleep[READERS * RINGS];
bool stop;
/* The kernel's: */
bool queued[READERS * RINGS]; /* waits on the bell */
bool queued_stop;
bool sleeps[READERS]; /* all its words are queued: runs again when one of them is not */
/* Each thread's own: */
byte next[READERS * RINGS]; /* the first record that the reader has not read */
bool known[READERS * RINGS]; /* the ring's writer looks at the reader */
chan writer_stores[RINGS] = [4] of { mtype, byte };
chan reader_stores[READERS] = [2 * RINGS] of { byte, byte };

bool lost_wake_up, slept_through_stop;

/* The store buffers drain. */
active proctype memory() {
    byte i, ring, value;
    mtype what;
end:
    do
    :: atomic {
           nempty(writer_stores[0]) -> writer_stores[0] ? what, value;
           if
           :: what == SLOT -> slot[0] = value
           :: what == BELL -> bell[0] = value
           fi;
           value = 0; what = 0
       }
#if RINGS > 1
    :: atomic {
           nempty(writer_stores[1]) -> writer_stores[1] ? what, value;
           if
           :: what == SLOT -> slot[1] = value
           :: what == BELL -> bell[1] = value
           fi;
           value = 0; what = 0
       }
#endif
    :: atomic {
           nempty(reader_stores[0]) -> reader_stores[0] ? ring, value;
           asleep[AT(0, ring)] = value;
           ring = 0; value = 0
       }
#if READERS > 1
    :: atomic {
           nempty(reader_stores[1]) -> reader_stores[1] ? ring, value;
           asleep[AT(1, ring)] = value;
           ring = 0; value = 0
       }
#endif
#if READERS > 2
    :: atomic {
           nempty(reader_stores[2]) -> reader_stores[2] ? ring, value;
           asleep[AT(2, ring)] = value;
           ring = 0; value = 0
       }
#endif
    od
}

/* From B2 to B5. count: the writer's own copy of its bell. */
inline fence_and_ring() {
    looked = seq;
#ifndef NO_B2
    empty(writer_stores[ring]); /* B2 */
#endif
    ringing = false;
    reader = 0;
    do
    :: reader < READERS ->
       if
       :: known[AT(reader, ring)] && asleep[AT(reader, ring)] == count + 1 -> /* B3 */
          ringing = true
       :: else
       fi;
       reader++
    :: else -> break
    od;
    reader = 0;
    if
    :: ringing ->
#ifndef NO_B4
       count++;
       writer_stores[ring] ! BELL, count; /* B4 */
#endif
       ringing = false;
       d_step {
           empty(writer_stores[ring]) -> /* the system call */
#ifndef NO_B5
           do
           :: reader < READERS -> queued[AT(reader, ring)] = false; reader++ /* B5 */
           :: else -> break
           od;
#endif
           reader = 0
       }
    :: else
    fi
}

proctype a_writer(byte ring) {
    byte seq, looked, count, reader;
    bool ringing;
    do
    :: seq < RECORDS ->
       seq++;
       writer_stores[ring] ! SLOT, seq /* B1 */
    :: looked != seq -> fence_and_ring()
#ifdef REGISTER
    :: d_step { !known[AT(0, ring)] -> known[AT(0, ring)] = true }
#ifndef NO_ADD_RING
       fence_and_ring()
#endif
#endif
    :: looked == seq -> break
    od
}

/* P5 compares one word and queues the reader for it, or finds it changed. */
inline wait_for_rings() {
    ring = 0;
    do
    :: ring < RINGS ->
       if
       :: d_step { bell[ring] == seen[ring] -> queued[AT(reader, ring)] = true } ring++
       :: bell[ring] != seen[ring] -> break
       fi
    :: else ->
#if defined(STOP) && !defined(NO_STOP_WORD)
       if
       :: d_step { reader == 0 && !stop -> queued_stop = true } sleeps[reader] = true
       :: reader == 0 && stop
       :: reader != 0 -> sleeps[reader] = true
       fi;
#else
       sleeps[reader] = true;
#endif
       break
    od;
end_asleep:
    atomic {
        !sleeps[reader] || some_word_woke(reader) ->
        sleeps[reader] = false;
        ring = 0;
        do
        :: ring < RINGS -> queued[AT(reader, ring)] = false; ring++
        :: else -> break
        od;
        ring = 0
    }
}

#define STORE_ASLEEP(value) reader_stores[reader] ! ring, value

/* P1 and P2 of every ring; P1_AFTER_P4 does this when it has looked already. */
inline note_bells() {
    ring = 0;
    do
    :: ring < RINGS ->
       seen[ring] = bell[ring];      /* P1 */
       STORE_ASLEEP(seen[ring] + 1); /* P2 */
       ring++
    :: else -> break
    od;
    ring = 0
}

proctype a_reader(byte reader) {
    byte ring;
    byte seen[RINGS];
    bool ready;
    do
    ::
#ifndef P1_AFTER_P4
       note_bells();
#endif
#ifndef NO_P3
       empty(reader_stores[reader]); /* P3 */
#endif
       ready = false;
       do
       :: ring < RINGS ->
#ifndef NO_P4
          ready = ready || slot[ring] >= next[AT(reader, ring)]; /* P4 */
#endif
          ring++
       :: else -> break
       od;
       ring = 0;
#ifdef STOP
       ready = ready || (reader == 0 && stop);
#endif
       if
       :: ready
       :: else ->
#ifdef P1_AFTER_P4
          note_bells();
#endif
          empty(reader_stores[reader]); /* the system call */
          wait_for_rings()
       fi;
       ready = false;
       ring = 0;
       do
       :: ring < RINGS ->
          seen[ring] = 0;
          STORE_ASLEEP(0); /* P6 */
          next[AT(reader, ring)] = slot[ring] + 1;
          ring++
       :: else -> break
       od;
       ring = 0;
#ifdef STOP
       if
       :: reader == 0 && stop -> break
       :: else
       fi
#endif
    od
}

#ifdef STOP
proctype stopper() {
    stop = true;
    queued_stop = false /* md_waiter_wake */
}
#endif

/* Runs when nothing else can: whoever sleeps now sleeps for ever. */
proctype last() {
    byte reader, ring;
end:
    timeout ->
    do
    :: reader < READERS ->
       ring = 0;
       do
       :: ring < RINGS ->
          lost_wake_up = lost_wake_up || (sleeps[reader] && known[AT(reader, ring)] &&
                                          slot[ring] >= next[AT(reader, ring)]);
          ring++
       :: else -> break
       od;
       reader++
    :: else -> break
    od;
    slept_through_stop = stop && sleeps[0];
    assert(!lost_wake_up);
    assert(!slept_through_stop)
}

init {
    byte i;
    atomic {
        do
        :: i < READERS * RINGS ->
           next[i] = 1;
#ifndef REGISTER
           known[i] = true;
#endif
           i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < RINGS -> run a_writer(i); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < READERS -> run a_reader(i); i++
        :: else -> break
        od;
#ifdef STOP
        run stopper();
#endif
        run last()
    }
}
