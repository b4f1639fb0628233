"""What a configuration of the daemon is, checked and with every default filled in.

`mdsys.config_file` reads one; what each key may be is in `mdsys.config_checks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mdsys.errors import ConfigError
from mdsys.feed.venue import Limits


@dataclass(frozen=True, slots=True)
class Profile:
    """What one word sets; each key can be given by itself."""

    num_buffers: int
    buffer_size: int
    consumer_batch_size: int
    max_queue_size: int
    backpressure_threshold: float
    num_processes: int
    max_symbols_per_connection: int


PROFILES: Mapping[str, Profile] = {
    "latency": Profile(4, 512 << 10, 10, 1_000, 0.5, 1, 1_000),
    "throughput": Profile(16, 4 << 20, 200, 20_000, 0.8, 8, 1_000),
    "symbols": Profile(12, 8 << 20, 50, 10_000, 0.8, 6, 2_000),
}


@dataclass(frozen=True, slots=True)
class Rings:
    """[rings]."""

    num_buffers: int
    """Rings in all, in [num_processes, 256]."""
    buffer_size: int
    """Bytes of each, a power of 2 in [4 KiB, 16 GiB]."""
    max_symbols: int
    """Capacity of the symbol directory, in [1, 2^24]."""


@dataclass(frozen=True, slots=True)
class Memory:
    """[memory]."""

    dir: Path | None
    """A mounted hugetlbfs or tmpfs; None: POSIX shared memory."""


@dataclass(frozen=True, slots=True)
class Feeds:
    """[feeds]."""

    num_processes: int
    """In [1, 64]."""
    cores: tuple[int, ...]
    """Feed i runs, spinning, on cores[i]; empty: not pinned, not spinning."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """[consumer]: defaults that readers fetch when they attach."""

    consumer_batch_size: int
    """Records, in [1, 65536]."""
    adaptive_batching: bool
    backpressure_threshold: float
    """Share of the queue, in (0, 1]."""
    max_queue_size: int
    """Records, in [consumer_batch_size, 2^24]."""
    cores: Mapping[str, int]
    """A reader's name -> the core it shall run on; the others are not told any."""
    lossless_wait_us: int
    """Most that a writer waits for a lossless reader between two flushes, in [0, 1000000]."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """[metrics]."""

    listen: str | None
    """HOST:PORT; None: off."""


@dataclass(frozen=True, slots=True)
class SymbolsFile:
    """A venue's symbols_file."""

    name: str
    """As the configuration gives it."""
    count: int
    """Symbols in it, each once."""
    listed_count: int
    """Of the venue's symbols, the first so many are those of the list."""


@dataclass(frozen=True, slots=True)
class VenueConfig:
    """One [[venue]]."""

    name: str
    symbols: tuple[str, ...]
    """The venue's own names, each once: the list's, then the file's."""
    symbols_file: SymbolsFile | None = field(compare=False)
    """Where some of them are from; what counts is ``symbols``."""
    channels: tuple[str, ...]
    url: str | None
    """ws:// or wss://; None: the venue's public address."""
    rest_url: str | None
    """http:// or https://; None: the venue's public address."""
    credentials: tuple[str, ...]
    """Names under which secrets are kept, never the secrets."""
    calendar: str | None
    max_symbols_per_connection: int
    """In [1, 100000], and no more than ``limits`` allow."""
    batch_size: int
    """Symbols per subscribe message, in [1, 1000]."""
    limits: Limits
    """Those in force: the venue's, each replaced where the file gives it."""

    def full_name(self, symbol: str) -> str:
        """Return VENUE:SYMBOL of one of the symbols."""
        return f"{self.name.upper()}:{symbol}"


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file, every default filled in."""

    instance: str
    group: str | None
    """May read the segments; None: mdsys where it can be had, else the daemon's own."""
    profile: str
    rings: Rings
    memory: Memory
    feeds: Feeds
    consumer: Consumer
    metrics: Metrics
    venues: tuple[VenueConfig, ...]
    capped: tuple[str, ...] = field(compare=False)
    """Where a figure is another than the profile or the file says, and why; one line each."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A configuration as far as it can be understood, and all that is wrong with it."""

    config: Config
    """What is refused has its default here; a venue that is none has the name ""."""
    problems: tuple[str, ...]
    refused: frozenset[str]
    """Tables, as ``feeds`` or ``venue[0]``, of which a value is refused: what stands in ``config``
    is not what they say."""

    def sound(self) -> Config:
        """Return the configuration.

        Raises:
            ConfigError: With one line for each thing that is wrong.
        """
        if self.problems:
            raise ConfigError(*self.problems)
        return self.config
