/* Every number that mdsys tells of itself: what it is called, here and elsewhere, and what it
 * means.
 *
 * A row is X(field, type, family, labels, help). field names it in C and in Python; one that counts
 * or measures time ends in _ns and is nanoseconds. type is COUNTER, GAUGE or HISTOGRAM. family is
 * what Prometheus calls it, without `mdsys_` and without the `_total` that a COUNTER gets, in
 * seconds and bytes. labels tells the rows of one family apart, whose helps then begin alike, up to
 * a colon. An empty family is not exported: other rows say the same better.
 *
 * From these lists come the structs (counters.h, reader_page.h), `_native.schema()`, and of that
 * mdsys.counters.schema: `mdsys stat`, the exporter, docs/counters.md, the dashboards. Lists that
 * are laid out in memory are append-only within an ABI version; what their segments' headers, or
 * the living daemon, tell beside has rows in lists that end in _DERIVED.
 */
#ifndef MDSYS_SCHEMA_H
#define MDSYS_SCHEMA_H

#include <assert.h>

/* ---- feed: struct md_counter_block, written by the feed ----------------------------------------
 */

#define MD_COUNTERS(X)                                                                             \
    X(bytes, COUNTER, "feed_received_bytes", "", "payload bytes received")                         \
    X(frames, COUNTER, "feed_frames", "", "data frames received")                                  \
    X(frames_control,                                                                              \
      COUNTER,                                                                                     \
      "feed_control_frames",                                                                       \
      "",                                                                                          \
      "answers to our requests and other messages that are no market data")                        \
    X(frames_malformed,                                                                            \
      COUNTER,                                                                                     \
      "feed_refused_frames",                                                                       \
      "reason=\"malformed\"",                                                                      \
      "frames refused: not the venue's JSON")                                                      \
    X(frames_unknown_event,                                                                        \
      COUNTER,                                                                                     \
      "feed_refused_frames",                                                                       \
      "reason=\"unknown_event\"",                                                                  \
      "frames refused: an event this version does not know")                                       \
    X(frames_unknown_symbol,                                                                       \
      COUNTER,                                                                                     \
      "feed_refused_frames",                                                                       \
      "reason=\"unknown_symbol\"",                                                                 \
      "frames refused: a symbol nobody subscribed")                                                \
    X(frames_value_refused,                                                                        \
      COUNTER,                                                                                     \
      "feed_refused_frames",                                                                       \
      "reason=\"value\"",                                                                          \
      "frames refused: a value does not fit or would have to be rounded")                          \
    X(frames_too_long,                                                                             \
      COUNTER,                                                                                     \
      "feed_refused_frames",                                                                       \
      "reason=\"too_long\"",                                                                       \
      "frames refused: over the size bound")                                                       \
    X(frames_binary,                                                                               \
      COUNTER,                                                                                     \
      "feed_refused_frames",                                                                       \
      "reason=\"binary\"",                                                                         \
      "frames refused: binary where text is due")                                                  \
    X(frames_protocol,                                                                             \
      COUNTER,                                                                                     \
      "feed_protocol_closes",                                                                      \
      "",                                                                                          \
      "connections closed by us for breaking RFC 6455")                                            \
    X(records, COUNTER, "feed_records", "", "records published, statuses included")                \
    X(trades, COUNTER, "feed_published", "kind=\"trade\"", "published: trade records")             \
    X(quotes, COUNTER, "feed_published", "kind=\"quote\"", "published: quote records")             \
    X(levels, COUNTER, "feed_published", "kind=\"level\"", "published: level records")             \
    X(statuses, COUNTER, "feed_published", "kind=\"status\"", "published: status records")         \
    X(tickers, COUNTER, "feed_published", "kind=\"ticker\"", "published: ticker records")          \
    X(bars, COUNTER, "feed_published", "kind=\"bar\"", "published: bars, two records each")        \
    X(book_snapshots,                                                                              \
      COUNTER,                                                                                     \
      "feed_book_snapshots",                                                                       \
      "",                                                                                          \
      "whole books that came, by stream or by REST")                                               \
    X(book_resyncs,                                                                                \
      COUNTER,                                                                                     \
      "feed_book_resyncs",                                                                         \
      "",                                                                                          \
      "books that fell out of step and wait for a snapshot")                                       \
    X(book_checksums,                                                                              \
      COUNTER,                                                                                     \
      "feed_book_checksums",                                                                       \
      "",                                                                                          \
      "books whose checksum was held against the venue's")                                         \
    X(book_mismatches,                                                                             \
      COUNTER,                                                                                     \
      "feed_book_mismatches",                                                                      \
      "",                                                                                          \
      "books whose checksum was not the venue's")                                                  \
    X(capture_frames, COUNTER, "feed_capture_frames", "", "frames copied for the recorder")        \
    X(capture_lost_frames,                                                                         \
      COUNTER,                                                                                     \
      "feed_capture_lost_frames",                                                                  \
      "",                                                                                          \
      "frames that the recorder's ring had no room for")                                           \
    X(capture_lost_bytes,                                                                          \
      COUNTER,                                                                                     \
      "feed_capture_lost_bytes",                                                                   \
      "",                                                                                          \
      "bytes of the frames that the recorder's ring had no room for")                              \
    X(gaps,                                                                                        \
      COUNTER,                                                                                     \
      "feed_gaps",                                                                                 \
      "",                                                                                          \
      "holes in a venue's sequence, each announced by a gap status")                               \
    X(gap_ids, COUNTER, "feed_gap_ids", "", "venue ids that the holes held")                       \
    X(reordered,                                                                                   \
      COUNTER,                                                                                     \
      "feed_reordered_records",                                                                    \
      "",                                                                                          \
      "records that came late: their venue id fills a hole, or lies below the last")               \
    X(duplicates,                                                                                  \
      COUNTER,                                                                                     \
      "feed_duplicate_records",                                                                    \
      "",                                                                                          \
      "records dropped because their venue id was published already")                              \
    X(pings, COUNTER, "feed_pings", "", "pings answered")                                          \
    X(connects, COUNTER, "feed_connects", "", "connections established")                           \
    X(connect_failures, COUNTER, "feed_connect_failures", "", "attempts to connect that failed")   \
    X(disconnects, COUNTER, "feed_disconnects", "", "connections lost or closed")                  \
    X(connections, GAUGE, "feed_connections", "", "connections up now")                            \
    X(subscriptions_confirmed,                                                                     \
      GAUGE,                                                                                       \
      "feed_confirmed_streams",                                                                    \
      "",                                                                                          \
      "streams the venue confirmed on the connections that are up")                                \
    X(subscriptions_refused, COUNTER, "feed_refused_streams", "", "streams the venue refused")     \
    X(subscriptions_requested,                                                                     \
      GAUGE,                                                                                       \
      "feed_requested_streams",                                                                    \
      "",                                                                                          \
      "streams asked for on the connections that are up")                                          \
    X(log_suppressed,                                                                              \
      COUNTER,                                                                                     \
      "feed_suppressed_log_lines",                                                                 \
      "",                                                                                          \
      "log lines not written because there were too many")                                         \
    X(bells, COUNTER, "feed_bells", "", "times a sleeping reader was woken")                       \
    X(lossless_waits,                                                                              \
      COUNTER,                                                                                     \
      "feed_lossless_waits",                                                                       \
      "",                                                                                          \
      "times the writer waited for a lossless reader")                                             \
    X(lossless_wait_ns,                                                                            \
      COUNTER,                                                                                     \
      "feed_lossless_wait_seconds",                                                                \
      "",                                                                                          \
      "time that the writer waited for lossless readers")                                          \
    X(readers_ejected,                                                                             \
      COUNTER,                                                                                     \
      "feed_ejected_readers",                                                                      \
      "",                                                                                          \
      "lossless readers the writer waits for no more")                                             \
    X(messages_waiting,                                                                            \
      GAUGE,                                                                                       \
      "feed_waiting_messages",                                                                     \
      "",                                                                                          \
      "messages to venues (subscriptions above all) that wait for their turn under the limits")    \
    X(reports_waiting,                                                                             \
      GAUGE,                                                                                       \
      "feed_waiting_reports",                                                                      \
      "",                                                                                          \
      "events told to the supervisor that it has not taken yet")                                   \
    X(capture_size,                                                                                \
      GAUGE,                                                                                       \
      "feed_capture_ring_bytes",                                                                   \
      "",                                                                                          \
      "size of the recorder's ring; 0: nobody records")                                            \
    X(capture_used,                                                                                \
      GAUGE,                                                                                       \
      "feed_capture_waiting_bytes",                                                                \
      "",                                                                                          \
      "bytes in the recorder's ring that it has not taken yet")

/* One frame (of ring_to_flush: one socket read) in so many is timed, since three more looks at the
 * clock would cost more than many a frame. A prime: what comes in batches of a power of two is met
 * at every place. */
#define MD_HOP_EVERY 61u

/* Signed nanoseconds, each a struct md_histogram. */
#define MD_HISTOGRAMS(X)                                                                           \
    X(recv_to_ring,                                                                                \
      HISTOGRAM,                                                                                   \
      "feed_recv_to_ring_seconds",                                                                 \
      "",                                                                                          \
      "socket read to the release of the buffer's last record, once per record")                   \
    X(event_to_recv,                                                                               \
      HISTOGRAM,                                                                                   \
      "feed_event_to_recv_seconds",                                                                \
      "",                                                                                          \
      "venue's event time to our socket read, negative when its clock is ahead; of each read's "   \
      "last record that is no status, bar or snapshot")                                            \
    X(recv_to_decode,                                                                              \
      HISTOGRAM,                                                                                   \
      "feed_recv_to_decode_seconds",                                                               \
      "",                                                                                          \
      "socket read to the decoder beginning with a frame; of one frame in 61")                     \
    X(decode_to_ring,                                                                              \
      HISTOGRAM,                                                                                   \
      "feed_decode_to_ring_seconds",                                                               \
      "",                                                                                          \
      "decoder beginning with a frame to the release of its last record; of one frame in 61")      \
    X(ring_to_flush,                                                                               \
      HISTOGRAM,                                                                                   \
      "feed_ring_to_flush_seconds",                                                                \
      "",                                                                                          \
      "release of a read's last record to the cursors stored and the bells rung; of one read in "  \
      "61")

/* ---- feed: struct md_life_block, written by the supervisor -------------------------------------
 */

#define MD_LIFE_NUMBERS(X)                                                                         \
    X(restarts, COUNTER, "feed_restarts", "", "times the supervisor started the feed anew")        \
    X(hangs, COUNTER, "feed_hangs", "", "times the feed was killed because it did not beat")       \
    X(started_ns,                                                                                  \
      GAUGE,                                                                                       \
      "feed_start_time_seconds",                                                                   \
      "",                                                                                          \
      "when the feed's process was started, since the epoch")                                      \
    X(orders_waiting,                                                                              \
      GAUGE,                                                                                       \
      "feed_waiting_orders",                                                                       \
      "",                                                                                          \
      "orders of the supervisor that the feed has not taken yet")

#define MD_FEED_DERIVED(X)                                                                         \
    X(up, GAUGE, "feed_up", "", "1 while the feed's process lives, else 0")                        \
    X(beat_age_ns, GAUGE, "feed_beat_age_seconds", "", "since the feed last beat, every 50 ms")

/* ---- connection: struct md_connection_block, written by its feed -------------------------------
 */

/* What is no number of its own (number, state) stands in the struct alone. */
#define MD_CONNECTION_NUMBERS(X)                                                                   \
    X(since_ns, GAUGE, "", "", "when it came into its state, since the epoch")                     \
    X(last_frame_ns, GAUGE, "", "", "when anything last came, since the epoch; 0: never")          \
    X(last_data_ns, GAUGE, "", "", "when records last came, since the epoch; 0: never")            \
    X(frames, COUNTER, "connection_frames", "", "data frames received")                            \
    X(bytes, COUNTER, "connection_received_bytes", "", "payload bytes received")                   \
    X(records, COUNTER, "connection_records", "", "records published")                             \
    X(opens, COUNTER, "connection_opens", "", "sockets that came up, successors among them")       \
    X(offset_ns,                                                                                   \
      GAUGE,                                                                                       \
      "connection_clock_offset_seconds",                                                           \
      "",                                                                                          \
      "event time less our socket read, of the newest record that is no status, bar or snapshot: " \
      "how far the venue's clock is ahead, less the way")

#define MD_CONNECTION_DERIVED(X)                                                                   \
    X(state_connecting,                                                                            \
      GAUGE,                                                                                       \
      "connection_state",                                                                          \
      "state=\"connecting\"",                                                                      \
      "1 in the one state that it is in, else 0: being dialled")                                   \
    X(state_open,                                                                                  \
      GAUGE,                                                                                       \
      "connection_state",                                                                          \
      "state=\"open\"",                                                                            \
      "1 in the one state that it is in, else 0: the handshake is done")                           \
    X(state_ready,                                                                                 \
      GAUGE,                                                                                       \
      "connection_state",                                                                          \
      "state=\"ready\"",                                                                           \
      "1 in the one state that it is in, else 0: all that was asked for is answered")              \
    X(state_waiting,                                                                               \
      GAUGE,                                                                                       \
      "connection_state",                                                                          \
      "state=\"waiting\"",                                                                         \
      "1 in the one state that it is in, else 0: lost, to be dialled again")                       \
    X(state_denied,                                                                                \
      GAUGE,                                                                                       \
      "connection_state",                                                                          \
      "state=\"denied\"",                                                                          \
      "1 in the one state that it is in, else 0: the venue refuses us, an operator must act")      \
    X(state_age_ns, GAUGE, "connection_state_age_seconds", "", "since it came into its state")     \
    X(last_frame_age_ns,                                                                           \
      GAUGE,                                                                                       \
      "connection_last_frame_age_seconds",                                                         \
      "",                                                                                          \
      "since anything last came, pings too")                                                       \
    X(silence_limit_ns,                                                                            \
      GAUGE,                                                                                       \
      "connection_silence_limit_seconds",                                                          \
      "",                                                                                          \
      "silent for longer it is taken for mute and dialled anew; none where the venue promises "    \
      "nothing")                                                                                   \
    X(last_data_age_ns, GAUGE, "connection_last_data_age_seconds", "", "since records last came")  \
    X(reconnects, COUNTER, "connection_reconnects", "", "sockets that came up after the first")

/* ---- reader: struct md_reader_page, written by the reader --------------------------------------
 */

/* received + filtered + conflated + dropped + lost == published, since it began. */
#define MD_READER_COUNTERS(X)                                                                      \
    X(received,                                                                                    \
      COUNTER,                                                                                     \
      "reader_records",                                                                            \
      "outcome=\"received\"",                                                                      \
      "published records by what became of them: handed out")                                      \
    X(filtered,                                                                                    \
      COUNTER,                                                                                     \
      "reader_records",                                                                            \
      "outcome=\"filtered\"",                                                                      \
      "published records by what became of them: not of the wanted symbols")                       \
    X(conflated,                                                                                   \
      COUNTER,                                                                                     \
      "reader_records",                                                                            \
      "outcome=\"conflated\"",                                                                     \
      "published records by what became of them: merged into another that was handed out")         \
    X(dropped,                                                                                     \
      COUNTER,                                                                                     \
      "reader_records",                                                                            \
      "outcome=\"dropped\"",                                                                       \
      "published records by what became of them: skipped on purpose, by the drop_oldest policy")   \
    X(lost,                                                                                        \
      COUNTER,                                                                                     \
      "reader_records",                                                                            \
      "outcome=\"lost\"",                                                                          \
      "published records by what became of them: overwritten before they were read")               \
    X(refreshed,                                                                                   \
      COUNTER,                                                                                     \
      "reader_refreshed_records",                                                                  \
      "",                                                                                          \
      "records taken from the last-value cache after a loss")                                      \
    X(jumps, COUNTER, "reader_jumps", "", "times the drop_oldest policy skipped")                  \
    X(laps, COUNTER, "reader_laps", "", "times the writer overran this reader")                    \
    X(pressed, COUNTER, "reader_pressed", "", "times the lag went past the threshold")             \
    X(handler_errors, COUNTER, "reader_handler_errors", "", "records at which a handler failed")   \
    X(parks, COUNTER, "reader_parks", "", "times it went to sleep")                                \
    X(wakes, COUNTER, "reader_wakes", "", "times the doorbell woke it")

/* One read, and one batch for handlers, in so many is timed; a prime, as MD_HOP_EVERY. */
#define MD_READ_EVERY 127u
#define MD_HANDLER_EVERY 31u

#define MD_READER_HISTOGRAMS(X)                                                                    \
    X(recv_to_handler,                                                                             \
      HISTOGRAM,                                                                                   \
      "reader_recv_to_handler_seconds",                                                            \
      "",                                                                                          \
      "socket read to the call of the handlers, once per record")                                  \
    X(event_to_handler,                                                                            \
      HISTOGRAM,                                                                                   \
      "reader_event_to_handler_seconds",                                                           \
      "",                                                                                          \
      "venue's event time to the call of the handlers, once per record that is no status, bar or " \
      "snapshot")                                                                                  \
    X(wake_up,                                                                                     \
      HISTOGRAM,                                                                                   \
      "reader_wake_up_seconds",                                                                    \
      "",                                                                                          \
      "doorbell rung to the parked reader running again")                                          \
    X(recv_to_read,                                                                                \
      HISTOGRAM,                                                                                   \
      "reader_recv_to_read_seconds",                                                               \
      "",                                                                                          \
      "socket read to the record being read from the ring; of the last record of one read in 127") \
    X(handler,                                                                                     \
      HISTOGRAM,                                                                                   \
      "reader_handler_seconds",                                                                    \
      "",                                                                                          \
      "call of the handlers to their return, all together; of one batch in 31")

#define MD_READER_DERIVED(X)                                                                       \
    X(polls, COUNTER, "reader_polls", "", "looks for records: whoever lives moves it")             \
    X(lag,                                                                                         \
      GAUGE,                                                                                       \
      "reader_lag_records",                                                                        \
      "",                                                                                          \
      "records published and not read yet, over all its rings")                                    \
    X(batch, GAUGE, "reader_batch_records", "", "records that it asks for at a time now")          \
    X(idle_ns, GAUGE, "reader_idle_seconds", "", "since it last looked for records")               \
    X(rings_read, GAUGE, "reader_rings", "", "rings that it reads")                                \
    X(rings_ejected,                                                                               \
      GAUGE,                                                                                       \
      "reader_ejected_rings",                                                                      \
      "",                                                                                          \
      "rings whose writer waits for this lossless reader no more")

static_assert(MD_HOP_EVERY == 61 && MD_READ_EVERY == 127 && MD_HANDLER_EVERY == 31,
              "the helps say so");

/* ---- ring: struct md_ring_header, written by its feed ------------------------------------------
 */

#define MD_RING_DERIVED(X)                                                                         \
    X(head, COUNTER, "ring_records", "", "records published, by all its writers")                  \
    X(depth, GAUGE, "ring_slots", "", "records that it holds")                                     \
    X(epoch, COUNTER, "ring_writers", "", "writers that have taken it over")                       \
    X(symbols, GAUGE, "ring_symbols", "", "symbols whose records go there")                        \
    X(unread,                                                                                      \
      GAUGE,                                                                                       \
      "ring_unread_records",                                                                       \
      "",                                                                                          \
      "largest lag of a registered reader: of the slots, those that somebody still wants")         \
    X(readers, GAUGE, "ring_readers", "", "registered readers")                                    \
    X(watermark_age_ns,                                                                            \
      GAUGE,                                                                                       \
      "ring_watermark_age_seconds",                                                                \
      "",                                                                                          \
      "since the feed last said that all it had received is published")

/* ---- limiter: told by the daemon ---------------------------------------------------------------
 */

#define MD_LIMITER_DERIVED(X)                                                                      \
    X(used, GAUGE, "limiter_used", "", "counted in the window now, or places taken")               \
    X(count, GAUGE, "limiter_allowed", "", "most that the window allows, or places there are")     \
    X(fill, GAUGE, "limiter_fill_ratio", "", "used of what is allowed")                            \
    X(waiting, GAUGE, "limiter_waiting", "", "asks that this limit holds up, or behind those")

/* ---- subscriptions: struct md_supervisor_block, written by the supervisor ----------------------
 */

#define MD_SUBSCRIPTION_NUMBERS(X)                                                                 \
    X(desired,                                                                                     \
      GAUGE,                                                                                       \
      "streams",                                                                                   \
      "state=\"desired\"",                                                                         \
      "streams (a channel of a symbol) by state: wanted and not asked for yet")                    \
    X(requested,                                                                                   \
      GAUGE,                                                                                       \
      "streams",                                                                                   \
      "state=\"requested\"",                                                                       \
      "streams (a channel of a symbol) by state: asked for")                                       \
    X(confirmed,                                                                                   \
      GAUGE,                                                                                       \
      "streams",                                                                                   \
      "state=\"confirmed\"",                                                                       \
      "streams (a channel of a symbol) by state: granted, and nothing has come yet")               \
    X(ticking,                                                                                     \
      GAUGE,                                                                                       \
      "streams",                                                                                   \
      "state=\"ticking\"",                                                                         \
      "streams (a channel of a symbol) by state: they tick")                                       \
    X(refused,                                                                                     \
      GAUGE,                                                                                       \
      "streams",                                                                                   \
      "state=\"refused\"",                                                                         \
      "streams (a channel of a symbol) by state: the venue does not send them")                    \
    X(stale, GAUGE, "stale_streams", "", "streams silent far beyond their habit, each by itself")  \
    X(symbols, GAUGE, "symbols", "", "symbols that are wanted")

/* ---- system: struct md_supervisor_block, written by the supervisor -----------------------------
 */

#define MD_SYSTEM_NUMBERS(X)                                                                       \
    X(started_ns, GAUGE, "start_time_seconds", "", "when the daemon was started, since the epoch") \
    X(records_rate, GAUGE, "records_per_second", "", "records published in the last second")       \
    X(records_rate_max,                                                                            \
      GAUGE,                                                                                       \
      "records_per_second_max",                                                                    \
      "",                                                                                          \
      "most records published in a second of the daemon's life")                                   \
    X(readers, GAUGE, "readers", "", "readers that are registered")                                \
    X(readers_registered, COUNTER, "registered_readers", "", "readers that have registered")       \
    X(limiter_grants, COUNTER, "limiter_grants", "", "asks that were granted")                     \
    X(limiter_held, COUNTER, "limiter_held", "", "asks that had to wait for a limit")              \
    X(reconnects_held,                                                                             \
      COUNTER,                                                                                     \
      "limiter_held_reconnects",                                                                   \
      "",                                                                                          \
      "reconnects that had to wait, of a storm above all")                                         \
    X(limiter_waiting, GAUGE, "limiter_waiting_asks", "", "asks that wait for a limit now")        \
    X(rest_requests, COUNTER, "rest_requests", "", "requests sent to venues by REST")              \
    X(rest_failures,                                                                               \
      COUNTER,                                                                                     \
      "rest_failures",                                                                             \
      "",                                                                                          \
      "requests by REST that brought nothing, after all tries")                                    \
    X(rest_refusals,                                                                               \
      COUNTER,                                                                                     \
      "rest_refusals",                                                                             \
      "",                                                                                          \
      "times a venue told us to wait with REST (418, 429)")                                        \
    X(snapshots_waiting, GAUGE, "waiting_snapshots", "", "books that wait for a snapshot by REST") \
    X(reloads, COUNTER, "reloads", "result=\"done\"", "reloads: carried out")                      \
    X(reloads_refused, COUNTER, "reloads", "result=\"refused\"", "reloads: nothing has changed")   \
    X(control_connections, GAUGE, "control_connections", "", "clients of the control socket")      \
    X(control_waiting,                                                                             \
      GAUGE,                                                                                       \
      "control_waiting_requests",                                                                  \
      "",                                                                                          \
      "requests at the control socket whose answer is in the making, or not taken yet")            \
    X(control_requests, COUNTER, "control_requests", "", "requests at the control socket")         \
    X(control_refused,                                                                             \
      COUNTER,                                                                                     \
      "control_refused_requests",                                                                  \
      "",                                                                                          \
      "requests at the control socket that got an error")                                          \
    X(control_dropped,                                                                             \
      COUNTER,                                                                                     \
      "control_dropped_connections",                                                               \
      "",                                                                                          \
      "clients of the control socket that were dropped for what they did")                         \
    X(watchdog_pings, COUNTER, "watchdog_pings", "", "WATCHDOG=1 sent to systemd")                 \
    X(log_suppressed,                                                                              \
      COUNTER,                                                                                     \
      "suppressed_log_lines",                                                                      \
      "",                                                                                          \
      "log lines of the supervisor not written")

#define MD_SYSTEM_HISTOGRAMS(X)                                                                    \
    X(loop_lag,                                                                                    \
      HISTOGRAM,                                                                                   \
      "loop_lag_seconds",                                                                          \
      "",                                                                                          \
      "how late the supervisor's loop wakes, looked at ten times a second")

#define MD_SYSTEM_DERIVED(X)                                                                       \
    X(up, GAUGE, "up", "", "1 while the supervisor lives, else 0")                                 \
    X(beat_age_ns, GAUGE, "beat_age_seconds", "", "since the supervisor last beat, every second")

#endif
