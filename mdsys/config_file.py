"""The daemon's configuration, read: a TOML file in, one `Config` out, or every error at once.

Every key is asked for exactly once, below, with its check and its default.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from mdsys import config_checks as checks
from mdsys.config import (
    PROFILES,
    Config,
    Consumer,
    Examined,
    Feeds,
    Memory,
    Metrics,
    Profile,
    Rings,
    SymbolsFile,
    VenueConfig,
)
from mdsys.config_table import Table
from mdsys.errors import ConfigError
from mdsys.feed.venue import Limits
from mdsys.feed.venue import venues as installed_venues
from mdsys.wording import plural

SYMBOLS_MAX = 100_000
"""Of one connection, where nothing else bounds it."""

PROCESSES_MAX = 64
RINGS_MAX = 256


class VenueFacts(Protocol):
    """What the checks here need to know of a venue; mdsys.feed.venue has the rest."""

    @property
    def channels(self) -> Collection[str]:
        """Of checks.CHANNELS, those it has."""

    @property
    def channels_default(self) -> Collection[str]:
        """Those that are meant where none is named; if it has none of them: all it has."""

    @property
    def limits(self) -> Limits:
        """What it allows."""

    @property
    def credential_fields(self) -> tuple[str, ...]:
        """Fields of a credential without which it cannot be dialled; empty: it needs none."""

    def spelled(self, symbol: str) -> str:
        """Return how the venue itself writes ``symbol``."""


def load(
    path: Path,
    *,
    venues: Mapping[str, VenueFacts] | None = None,
    symbols_later: bool = False,
    memory_later: bool = False,
) -> Config:
    """Read and check a configuration file.

    Args:
        path: The file; a symbols_file is sought beside it.
        venues: What a venue's name may be; None: every venue that is installed.
        symbols_later: Whether a venue may name none: they will be subscribed.
        memory_later: Whether [memory] dir may be missing: it will be mounted.

    Raises:
        ConfigError: With one line for each thing that is wrong.
        NoPermission: The file may not be read.
    """
    return examine(
        path, venues=venues, symbols_later=symbols_later, memory_later=memory_later
    ).sound()


def examine(
    path: Path,
    *,
    venues: Mapping[str, VenueFacts] | None = None,
    symbols_later: bool = False,
    memory_later: bool = False,
) -> Examined:
    """Do as ``load``, and return what is wrong.

    Raises:
        ConfigError: It cannot be read, or is no TOML.
        NoPermission: It may not be read.
    """
    text = checks.read_text(path)
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and what it lets through
        raise ConfigError(f"{path}: {error}") from None
    return _examine(
        values,
        str(path),
        path.parent,
        venues,
        symbols_later=symbols_later,
        memory_later=memory_later,
    )


def parse(
    values: Mapping[str, Any],
    *,
    source: str = "config",
    folder: Path | None = None,
    venues: Mapping[str, VenueFacts] | None = None,
    symbols_later: bool = False,
) -> Config:
    """Check a configuration that is already in memory, as ``load`` does.

    Args:
        values: Tables and keys, as tomllib returns them.
        source: What error messages begin with.
        folder: Where relative file names start; None: the current directory.
        venues: What a venue's name may be; None: every venue that is installed.
        symbols_later: Whether a venue may name none: they will be subscribed.

    Raises:
        ConfigError: With one line for each thing that is wrong.
    """
    return _examine(values, source, folder, venues, symbols_later=symbols_later).sound()


def _examine(
    values: Mapping[str, Any],
    source: str,
    folder: Path | None,
    venues: Mapping[str, VenueFacts] | None,
    *,
    symbols_later: bool,
    memory_later: bool = False,
) -> Examined:
    if venues is None:
        venues = installed_venues()
        len(venues)  # raises where a package's venue has a built-in one's name
    problems: list[str] = []
    refused: set[str] = set()
    capped: list[str] = []
    root = Table(problems, refused, source, "", values)
    instance = root.take("instance", checks.instance_name, "default")
    group = root.take("group", checks.group_name, None)
    profile_name = root.take("profile", checks.one_of(PROFILES), "latency")
    profile = PROFILES[profile_name]

    table = root.table("rings")
    rings = Rings(
        table.take("num_buffers", checks.integer(1, RINGS_MAX), profile.num_buffers),
        table.take("buffer_size", checks.ring_size, profile.buffer_size),
        table.take("max_symbols", checks.integer(1, 1 << 24), 65_536),
    )
    rings_sound = table.finish()

    table = root.table("memory")
    dir_check = checks.folder if memory_later else checks.existing_folder
    memory = Memory(table.take("dir", dir_check, None))
    table.finish()

    table = root.table("feeds")
    given = table.take("num_processes", checks.integer(1, PROCESSES_MAX), None)
    cores = table.take("cores", checks.cores, ())
    feeds_sound = table.finish()
    if given is None:
        given, note = _fitting_processes(profile, rings.num_buffers, cores)
        if note:
            capped.append(f"feeds.num_processes: {note}")
    feeds = Feeds(given, cores)
    if feeds_sound and feeds.cores and len(feeds.cores) < feeds.num_processes:
        table.refuse(
            "cores",
            f"{len(feeds.cores)} for {plural(feeds.num_processes, 'feed')}: name one core for each",
        )
    if feeds_sound and rings_sound and rings.num_buffers < feeds.num_processes:
        root.refuse(
            "rings.num_buffers",
            f"{plural(rings.num_buffers, 'ring')} for {plural(feeds.num_processes, 'feed')}: "
            "each feed needs one",
        )

    table = root.table("consumer")
    consumer = Consumer(
        table.take("consumer_batch_size", checks.integer(1, 65_536), profile.consumer_batch_size),
        table.take("adaptive_batching", checks.boolean, True),  # noqa: FBT003 - a default, not a switch
        table.take("backpressure_threshold", checks.share, profile.backpressure_threshold),
        table.take("max_queue_size", checks.integer(1, 1 << 24), profile.max_queue_size),
        table.take("cores", checks.cores_by_name, {}),
        table.take("lossless_wait_us", checks.integer(0, 1_000_000), 1_000),
    )
    if table.finish() and consumer.max_queue_size < consumer.consumer_batch_size:
        table.refuse(
            "max_queue_size",
            f"{consumer.max_queue_size} is less than one batch ({consumer.consumer_batch_size})",
        )

    table = root.table("metrics")
    metrics = Metrics(table.take("listen", checks.host_port, None))
    table.finish()

    tables = root.tables("venue")
    found = tuple(
        _venue(table, profile, folder or Path(), venues, capped, symbols_later=symbols_later)
        for table in tables
    )
    names = [venue.name for venue in found]
    for index, name in enumerate(names):
        if name and (first := names.index(name)) < index:
            tables[index].refuse(
                "name", f"{checks.shown(name)} is venue[{first}] already; give each venue one table"
            )
    count = sum(len(venue.symbols) for venue in found)
    if rings_sound and count > rings.max_symbols:
        root.refuse(
            "rings.max_symbols", f"{rings.max_symbols} is too few for {plural(count, 'symbol')}"
        )
    root.finish()
    config = Config(
        instance,
        group,
        profile_name,
        rings,
        memory,
        feeds,
        consumer,
        metrics,
        found,
        tuple(capped),
    )
    return Examined(config, tuple(problems), frozenset(refused))


def _fitting_processes(
    profile: Profile, ring_count: int, cores: Collection[int]
) -> tuple[int, str]:
    """Return how many feeds a profile comes to on this host; if they are fewer, words on that.

    A profile's figure gives way to the host; one that stands in the file is meant.
    """
    allowed = len(os.sched_getaffinity(0))
    if cores:
        host = len(cores), f"feeds.cores names {plural(len(cores), 'core')}"
    else:
        host = allowed, f"this process may run on {plural(allowed, 'core')}"
    bounds = [
        (profile.num_processes, ""),
        host,
        (ring_count, f"rings.num_buffers is {ring_count}"),
    ]
    count, why = min(bounds, key=lambda bound: bound[0])
    return count, f"{count}, not the profile's {profile.num_processes}: {why}" if why else ""


def _venue(
    table: Table,
    profile: Profile,
    folder: Path,
    venues: Mapping[str, VenueFacts],
    capped: list[str],
    *,
    symbols_later: bool,
) -> VenueConfig:
    name = table.take("name", checks.one_of(venues), "", required=True)
    try:
        facts = venues.get(name)
    except ConfigError as error:  # it is there, but cannot be imported
        table.refuse("name", str(error))
        facts = None
    has = facts.channels if facts else checks.CHANNELS
    usual = facts.channels_default if facts else has
    channels = table.take(
        "channels",
        checks.list_of(checks.channel(name, has), least=1),
        tuple(each for each in usual if each in has) or tuple(has),
    )
    symbol = checks.symbol_of(name, facts.spelled if facts else str)
    listed = table.take("symbols", checks.list_of(symbol), ())
    in_file = table.take("symbols_file", checks.symbols_file(folder, symbol), None)
    limits = _limits(table, facts.limits if facts else Limits(), len(channels))
    asked = table.take("max_symbols_per_connection", checks.integer(1, SYMBOLS_MAX), None)
    url = table.take("url", checks.url("ws", "wss"), None)
    credentials = table.take("credentials", checks.list_of(checks.credential_name), ())
    size, note = _connection_size(limits, asked, profile, len(channels), len(credentials))
    if note:
        capped.append(f"{table.place('max_symbols_per_connection')}: {note}")
    file_name, file_symbols = in_file or ("", ())
    venue = VenueConfig(
        name=name if facts else "",
        symbols=tuple(dict.fromkeys(listed + file_symbols)),
        symbols_file=(SymbolsFile(file_name, len(file_symbols), len(listed)) if in_file else None),
        channels=channels,
        url=url,
        rest_url=table.take("rest_url", checks.url("http", "https"), checks.local_rest(url)),
        credentials=credentials,
        calendar=table.take("calendar", checks.calendar_name, None),
        max_symbols_per_connection=size,
        batch_size=table.take("batch_size", checks.integer(1, 1_000), 50),
        limits=limits,
    )
    if table.finish() and not venue.symbols and not symbols_later:
        table.refuse("symbols", "none: give symbols, or symbols_file")
    if facts and facts.credential_fields and not venue.credentials:
        table.refuse(
            "credentials",
            f"none: {name} needs one with {', '.join(facts.credential_fields)}; give the name of "
            'its file, as credentials = ["key_a"] (docs/credentials.md)',
        )
    return venue


def _connection_size(
    limits: Limits, asked: int | None, profile: Profile, channel_count: int, key_count: int
) -> tuple[int, str]:
    """Return how many symbols one connection carries; if it is not what was said, words on that.

    Args:
        limits: Those in force.
        asked: What the file says; None: nothing, so the profile's figure is meant.
        profile: Whose.
        channel_count: Of each symbol.
        key_count: Over which the connections are shared out.
    """
    said = size = profile.max_symbols_per_connection if asked is None else asked
    reasons: list[str] = []
    if limits.connections == 1 and key_count <= 1:  # whatever was asked for: there is no other
        size = SYMBOLS_MAX
        reasons = ["the one connection there may be carries everything"]
    elif asked is None and limits.connections is not None:
        # Where connections are few, a profile's figure would only leave them half empty.
        size = SYMBOLS_MAX
        reasons = [f"limits.connections is {limits.connections}: so few are filled"]
    if (most := limits.symbols_per_connection) is not None and most < size:
        size = most
        reasons.append(f"limits.symbols_per_connection is {most}")
    if (most := limits.streams_per_connection) is not None and most // channel_count < size:
        size = max(1, most // channel_count)
        reasons.append(
            f"limits.streams_per_connection is {most}, and each symbol has "
            f"{plural(channel_count, 'channel')}"
        )
    if size == said:
        return size, ""
    whose = f"the profile's {said}" if asked is None else f"the {said} asked for"
    return size, f"{size}, not {whose}: {'; '.join(reasons)}"


_any_count = checks.integer(1, (1 << 31) - 1)
LIMITS: Mapping[str, Callable[[object], Any]] = {
    "symbols_per_connection": _any_count,
    "streams_per_connection": _any_count,
    "streams_per_message": _any_count,
    "connections": checks.integer(1, 10_000),
    "messages": checks.windows,
    "address_messages": checks.windows,
    "connects": checks.windows,
    "key_connects": checks.windows,
    "rest_weight": checks.windows,
}
"""Keys of ``limits``, each a field of ``Limits``, and what they may be."""


def _limits(venue: Table, own: Limits, channel_count: int) -> Limits:
    """Return the venue's own limits, each replaced where the file gives it."""
    table = venue.table("limits")
    given: dict[str, Any] = {
        key: table.take(key, check, getattr(own, key)) for key, check in LIMITS.items()
    }
    limits = replace(own, **given)
    streams_max = limits.streams_per_connection
    if table.finish() and streams_max is not None and streams_max < channel_count:
        table.refuse(
            "streams_per_connection",
            f"{streams_max} is less than one symbol's {plural(channel_count, 'channel')}",
        )
    return limits
