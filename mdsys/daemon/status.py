"""What ``mdsys ctl status`` tells: of everything, and of one symbol why it is silent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from mdsys import _native
from mdsys.daemon.connections import Connection, age_s
from mdsys.daemon.credentials import Credentials
from mdsys.daemon.feeds import Feeds
from mdsys.daemon.limiter import Limiter
from mdsys.daemon.look_ups import VenueDesk
from mdsys.daemon.roster import Roster
from mdsys.daemon.subscriptions import State
from mdsys.daemon.watch import Watch
from mdsys.feed.venue import CHANNELS

UNVERIFIED = "CERTIFICATE_VERIFY_FAILED"
"""OpenSSL's word for it."""


class Status:
    """Answers questions about an instance.

    Args:
        instance: Its name.
        roster: What is wanted.
        watch: What is seen of it.
        cache: Where the last ticks stand.
        feeds: The processes.
        limiter: The venues' limits.
        credentials: For remedies.
        book_refusal: The words with which a venue has refused a symbol's book by REST, if it has.
    """

    def __init__(
        self,
        instance: str,
        roster: Roster,
        watch: Watch,
        cache: _native.Cache,
        feeds: Feeds,
        limiter: Limiter,
        credentials: Credentials,
        book_refusal: Callable[[str, str], str | None],
    ) -> None:
        self._instance = instance
        self._roster = roster
        self._watch = watch
        self._cache = cache
        self._feeds = feeds
        self._limiter = limiter
        self._credentials = credentials
        self._book_refusal = book_refusal

    def all(self, now_ns: int) -> dict[str, Any]:
        """Return the state of everything."""
        subscriptions = self._roster.subscriptions
        subscriptions.look(self._cache.heard)
        return {
            "ok": True,
            "instance": self._instance,
            "subscriptions": subscriptions.funnel(),
            "symbols": subscriptions.symbol_funnel(),
            "settled": subscriptions.answered(self._roster.denied()),
            "stale": self._watch.health.stale_count(),
            "connections": self._roster.connections.picture(
                subscriptions.connection_funnels(), self._watch.marks(), now_ns
            ),
            "feeds": self._feeds.picture(now_ns),
            "lists": {
                venue: {"denied": desk.denied, **self._unplaced(desk)}
                for venue, desk in self._roster.desks.items()
                if desk.trouble is not None
            },
            "limits": [asdict(usage) for usage in self._limiter.usage()],
            "sessions": {
                venue: {"open": session.open, "since_s": age_s(session.since_ns, now_ns)}
                for venue in self._roster.desks
                if (session := self._watch.session(venue, now_ns)) is not None
            },
        }

    def symbol(self, name: str, now_ns: int) -> dict[str, Any]:
        """Return the state of one symbol.

        Raises:
            UsageError: It is no name, or no venue's of this configuration.
            ConfigError: The venue does not write it so.
        """
        desk, symbol, row = self._roster.find(name)
        full = desk.config.full_name(symbol)
        session = self._watch.session(desk.config.name, now_ns)
        answer: dict[str, Any] = {
            "ok": True,
            "symbol": full,
            "state": "not wanted",
            "streams": [],
            "connection": None,
            "last_frame_s": None,
            "last_tick_s": None,
            "session": "none" if session is None else "open" if session.open else "closed",
            "words": None,
        }
        if row is None:
            return answer | {
                "why": "nobody has asked for it",
                "remedy": f"mdsys ctl subscribe {full} --instance {self._instance}",
            }
        subscriptions = self._roster.subscriptions
        heard = subscriptions.look(self._cache.heard)[row]
        stale = self._watch.health.is_stale(row)
        limits_s = self._watch.health.limits_s(row)
        book_refusal = self._book_refusal(desk.config.name, symbol)
        streams = []
        for stream in subscriptions.streams(row):
            column = CHANNELS.index(stream["channel"])
            last_ns = int(heard[column])
            streams.append(
                {
                    "channel": stream["channel"],
                    "state": stream["state"],
                    "since_s": age_s(stream["since_ns"], now_ns),
                    "last_tick_s": age_s(last_ns, now_ns) if last_ns else None,
                    "stale": stale[column],
                    "silence_max_s": limits_s[column],
                    "words": stream["words"]
                    or (book_refusal if stream["channel"] == "book" else None),
                }
            )
        answer["streams"] = streams
        answer["state"] = subscriptions.worst(row).name.lower()
        answer["words"] = next((each["words"] for each in streams if each["words"]), None)
        if heard.any():
            answer["last_tick_s"] = age_s(int(np.max(heard)), now_ns)
        number = int(subscriptions.connection[row])
        if number:
            shown = self._roster.connections.picture(
                subscriptions.connection_funnels(), self._watch.marks(), now_ns, [number]
            )[0]
            answer["connection"] = shown
            answer["last_frame_s"] = shown["last_frame_s"]
        return answer | self._explained(desk, number, answer)

    def _explained(
        self, desk: VenueDesk, number: int, answer: Mapping[str, Any]
    ) -> dict[str, str | None]:
        """Return ``why`` and ``remedy``: the first thing on the tick's way that is amiss."""
        venue, state = desk.config.name, answer["state"]
        if state == State.REFUSED.name.lower():
            by = f"{venue} refused it" if number else "it was refused"
            return {
                "why": f"{by}: {answer['words']}",
                "remedy": f"mdsys ctl unsubscribe {answer['symbol']}, or mend the cause and "
                "subscribe it again",
            }
        if not number:
            return self._unplaced(desk)
        feed = self._feeds.all[answer["connection"]["feed"]]
        if feed.state != "running":
            return {
                "why": f"feed {feed.number}, which carries it, is {feed.state}",
                "remedy": "it is started again by itself; the log says why it ended",
            }
        connection = self._roster.connections.all[number]
        if not connection.up:
            return self._down(connection)
        if answer["session"] == "closed":
            return {
                "why": f"the market is closed (calendar {desk.config.calendar})",
                "remedy": None,
            }
        return self._silent(desk, answer)

    def _unplaced(self, desk: VenueDesk) -> dict[str, str | None]:
        venue = desk.config.name
        if desk.trouble is None:
            return {"why": f"{venue}'s list of symbols is being asked for it", "remedy": None}
        key = next(iter(desk.config.credentials), None)
        return {
            "why": f"{venue}'s list of symbols cannot be had: {desk.trouble}",
            "remedy": self._credentials.where(key, self._instance)
            if desk.denied and key is not None
            else "it is asked for again by itself",
        }

    def _down(self, connection: Connection) -> dict[str, str | None]:
        number, words = connection.placed.number, connection.words
        said = f": {words}" if words else ""
        if connection.state == "denied":
            key = connection.placed.key
            return {
                "why": f"the venue does not let connection {number} in{said}",
                "remedy": f"mdsys ctl reload --instance {self._instance}, to have it dialled again"
                if key is None
                else self._credentials.where(key, self._instance),
            }
        return {
            "why": f"connection {number} is {connection.state}{said}",
            "remedy": "it is dialled again by itself"
            if UNVERIFIED not in said
            else "the host's clock, or its authorities: SSL_CERT_FILE in the daemon's environment "
            "names another; the venue's certificate, if both are right",
        }

    def _silent(self, desk: VenueDesk, answer: Mapping[str, Any]) -> dict[str, str | None]:
        venue, state = desk.config.name, answer["state"]
        if answer["words"]:  # of a stream that is not refused: its book by REST is
            return {
                "why": f"its book cannot be had: {answer['words']}",
                "remedy": f"mdsys ctl unsubscribe {answer['symbol']}, or mend the cause and "
                "subscribe it again",
            }
        if repeated := self._repeated(desk, answer):
            return {
                "why": repeated,
                "remedy": "it is heard again by itself once its ids have caught up; to have that "
                f"at once, stop the daemon, run mdsys clean --instance {self._instance}, and "
                "start it",
            }
        if stale := [each for each in answer["streams"] if each["stale"]]:
            worst = max(stale, key=lambda each: each["last_tick_s"] or 0.0)
            return {
                "why": f"{worst['channel']} has been silent for {worst['last_tick_s']:.0f} s, far "
                f"beyond its habit ({worst['silence_max_s']:.0f} s)",
                "remedy": "it is subscribed anew by itself; ask the venue whether it trades",
            }
        match State[state.upper()]:
            case State.DESIRED:
                why = "its turn to be asked for has not come: the venue's limits set the pace"
            case State.REQUESTED if desk.venue.acknowledges:
                why = f"{venue} has been asked and has not answered yet"
            case State.REQUESTED:
                why = f"{venue} has been asked; it confirms nothing, so the first tick is the proof"
            case State.CONFIRMED:
                quiet = [e["channel"] for e in answer["streams"] if e["state"] == "confirmed"]
                why = f"{venue} has confirmed it and has sent no {' and no '.join(quiet)} yet"
            case _:
                last = max(answer["streams"], key=lambda each: each["last_tick_s"] or 0.0)
                why = f"it ticks: the last {last['channel']} {last['last_tick_s'] or 0.0:.0f} s ago"
                if last["silence_max_s"] is None:
                    why += ", after too few for its habit to be known"
        return {"why": why, "remedy": None}

    def _repeated(self, desk: VenueDesk, answer: Mapping[str, Any]) -> str | None:
        """Return in words that the venue sends and the ids are old, if that explains a silence."""
        answered = ["confirmed"] if desk.venue.acknowledges else ["confirmed", "requested"]
        silent = [
            each
            for each in answer["streams"]
            if (each["stale"] or each["state"] in answered) and each["last_tick_s"] is not None
        ]
        if not silent:
            return None
        worst = max(silent, key=lambda each: each["last_tick_s"])
        feed, silent_s = answer["connection"]["feed"], worst["last_tick_s"]
        words = self._watch.repeats.words(feed, silent_s)
        return words and f"{worst['channel']} has been silent for {silent_s:.0f} s; {words}"
