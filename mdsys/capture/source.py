"""Where captured entries come from: a directory of files, a file, or what others have recorded.

A capture has a stream for each feed that was recorded; a stream is a row of files, of which each
begins where the one before it ends, unless nobody recorded in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mdsys._capture import ENTRY_SIZE, entry_at, stories_in
from mdsys.capture.format import SUFFIX, CaptureError, Kind, blocks, head_of
from mdsys.errors import LayoutError

CONTINUES = "goes on in the next file"
"""What an END says where the next file leaves no gap."""


@dataclass(slots=True)
class Life:
    """What the streams' consumer learns at each BEGIN."""

    left: Mapping[int, int]
    """Ring -> how many records it got from here on, until its feed was gone; none: not known."""
    same: bool
    """Whether the process is the one that was before, and nothing is missing in between."""


class Stream(Protocol):
    """One feed's entries, in order."""

    def blocks(self, start_ns: int) -> Iterator[bytes]:
        """Give whole entries, from where on a decoder knows everything at ``start_ns``."""

    def begin(self, told: Mapping[str, Any]) -> Life:
        """Return what there is to know of the BEGIN that was just given."""


class Source(Protocol):
    """A capture."""

    @property
    def streams(self) -> Sequence[Stream]:
        """Of each feed."""

    def stories(self) -> Iterator[tuple[Any, ...]]:
        """Give what all entries tell of rings, venues and symbols; see ``stories_in``."""


@dataclass(slots=True)
class _File:
    path: Path
    began_ns: int
    begin: Mapping[str, Any] | None


@dataclass(slots=True)
class FeedStream:
    """One feed's files."""

    feed: int
    files: list[_File] = field(default_factory=list)
    _at: int = -1
    """The file in hand."""
    _process: object = None
    _ended: str | None = None
    """What the END before said."""

    def blocks(self, start_ns: int) -> Iterator[bytes]:
        """See ``Stream``."""
        first = 0
        while first + 1 < len(self.files) and self.files[first + 1].began_ns <= start_ns:
            first += 1
        self._process = None
        self._ended = None
        for at in range(first, len(self.files)):
            self._at = at
            tail = b""
            for block in blocks(self.files[at].path):
                tail = block
                yield block
            self._ended = _end_of(tail)

    def begin(self, told: Mapping[str, Any]) -> Life:
        """See ``Stream``."""
        same = self._ended == CONTINUES and self._process == told["process"]
        self._process = told["process"]
        self._ended = CONTINUES  # within a file
        return Life(self._left(told), same)

    def __str__(self) -> str:
        """Return the file in hand."""
        return str(self.files[self._at].path)

    @property
    def is_joined(self) -> bool:
        """Whether the file in hand goes on where the one before it ended."""
        return self._ended == CONTINUES

    def _left(self, told: Mapping[str, Any]) -> dict[int, int]:
        """Return how far the process came in each ring, by what the next one that tells has found.

        That one tells of all from its ``first`` on. Either nobody was in between, or those who were
        did not come to tell the recorder, who had been ``told`` of one before them.
        """
        own = {each["ring"]: each for each in told["rings"]}
        for file in self.files[self._at + 1 :]:
            if file.begin is None or file.begin["process"] == told["process"]:
                continue
            return {
                each["ring"]: each["first"] - own[each["ring"]]["next"]
                for each in file.begin["rings"]
                if each["ring"] in own
                and (each.get("told") or each["epoch"] == own[each["ring"]]["epoch"] + 1)
                and each["first"] >= own[each["ring"]]["next"]
            }
        return {}


@dataclass(slots=True)
class OwnSource:
    """What ``mdsys record`` has written."""

    streams: Sequence[FeedStream]

    def stories(self) -> Iterator[tuple[Any, ...]]:
        """See ``Source``."""
        for stream in self.streams:
            for file in stream.files:
                for block in blocks(file.path):
                    yield from stories_in(block)


def own_source(paths: Sequence[Path]) -> OwnSource:
    """Open files of ours.

    Raises:
        CaptureError: One is none, or they are of several instances.
    """
    streams: dict[int, FeedStream] = {}
    instances: dict[str, Path] = {}
    for path in paths:
        head, block = head_of(path)
        instances.setdefault(head["instance"], path)
        stream = streams.setdefault(head["feed"], FeedStream(head["feed"]))
        begin = next((story[1] for story in _stories(path, block) if story[0] == "begin"), None)
        stream.files.append(_File(path, head["began_ns"], begin))
    if len(instances) > 1:
        raise CaptureError(
            f"{paths[0].parent}: captures of the instances {', '.join(sorted(instances))}: "
            "give the files of one"
        )
    for stream in streams.values():
        stream.files.sort(key=lambda file: file.began_ns)
    return OwnSource([streams[feed] for feed in sorted(streams)])


def open_source(path: Path, venue: str | None = None) -> Source:
    """Open a capture: a directory of our files, one of them, or a recording of others'.

    Args:
        path: Which.
        venue: Whose frames those are, where their content does not tell; ours know it.

    Raises:
        CaptureError: There is none.
    """
    from mdsys.capture.foreign import foreign_source

    if path.is_dir():
        if own := sorted(path.glob(f"*{SUFFIX}")):
            return own_source(own)
        raise CaptureError(f"{path}: no *{SUFFIX} in it; of other recordings, name the file")
    if not path.is_file():
        raise CaptureError(f"{path}: there is no such file")
    if path.name.endswith(SUFFIX):
        return own_source([path])
    return foreign_source(path, venue)


def _stories(path: Path, block: bytes) -> list[tuple[Any, ...]]:
    try:
        return stories_in(block)
    except (LayoutError, ValueError) as error:
        raise CaptureError(f"{path}: damaged: {error}") from None


def _end_of(block: bytes) -> str | None:
    """Return what the END at the end of a file says; None: there is none."""
    at = 0
    said: str | None = None
    while at < len(block):
        kind, _, _, _, _, size = entry_at(block, at)
        if kind == Kind.END:
            said = json.loads(block[at + ENTRY_SIZE : at + ENTRY_SIZE + size])["why"]
        at += ENTRY_SIZE + (size + 7 & ~7)
    return said
