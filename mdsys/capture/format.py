"""What a capture's file holds: entries as the feed wrote them, compressed; docs/capture.md.

Each file is one zstd stream and stands by itself: it begins with a HEAD in JSON, then come the
feed's entries (native/src/capture.h), the first of which is a BEGIN. The stream is flushed as it
grows, so a file is whole up to where its writer was killed, or the disk was full.
"""

from __future__ import annotations

import calendar
import json
import os
import re
import struct
import time
from collections.abc import Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import zstandard

from mdsys._capture import ENTRY_SIZE, check_entries
from mdsys.errors import MdsysError

FORMAT: Final = "mdsys capture"
VERSION: Final = 1
SUFFIX: Final = ".mdsys.zst"
LEVEL: Final = 3
"""Of compression: 5 or 6 times smaller at some 300 MB/s of a core."""
BLOCK_SIZE: Final = 1 << 20
ENTRY_SIZE_MAX: Final = 256 << 20
"""More than any entry: a book's REST answer has at most 64 MiB."""
_ENTRY: Final = struct.Struct("<IIQqII")
assert _ENTRY.size == ENTRY_SIZE
_NAME: Final = re.compile(r"(.+)\.feed\d+\.(\d{8}T\d{6})\.(\d{9})" + re.escape(SUFFIX))
_STAMP: Final = "%Y%m%dT%H%M%S"


class CaptureError(MdsysError):
    """A capture cannot be read; the message names the file and what is wrong with it."""


class Kind(IntEnum):
    """Of an entry: enum md_capture_kind, and from 100 on what only files have."""

    TEXT = 1
    BINARY = 2
    RECORD = 3
    SNAPSHOT = 4
    SOCKET = 5
    BEGIN = 6
    VENUE = 7
    SYMBOL = 8
    BOOK = 9
    LINK = 10
    OVERLAP = 11
    EXPECT = 12
    HEAD = 100
    """JSON: which instance and feed, by what mdsys."""
    LOSS = 101
    """JSON: entries and bytes that are missing here."""
    END = 102
    """JSON: why the file ends. One without was cut."""


def entry(
    kind: Kind, payload: bytes, ts_recv: int = 0, connection: int = 0, socket: int = 0
) -> bytes:
    """Return one entry as a file holds it."""
    head = _ENTRY.pack(len(payload), kind, 0, ts_recv, connection, socket)
    return head + payload + bytes(-len(payload) % 8)


def file_name(instance: str, feed: int, began_ns: int) -> str:
    """Return what a file is called; those of a feed sort by it."""
    stamp = time.strftime(_STAMP, time.gmtime(began_ns // 10**9))
    return f"{instance}.feed{feed}.{stamp}.{began_ns % 10**9:09d}{SUFFIX}"


def newest_ns(folder: Path, instance: str) -> int:
    """Return when the newest of an instance's files in a folder began, by its name; 0: none."""
    found = [_NAME.fullmatch(path.name) for path in folder.iterdir()]
    return max(
        (
            calendar.timegm(time.strptime(each[2], _STAMP)) * 10**9 + int(each[3])
            for each in found
            if each is not None and each[1] == instance
        ),
        default=0,
    )


def json_entry(kind: Kind, fields: Mapping[str, Any], ts_recv: int = 0, **to: int) -> bytes:
    """Return one entry of JSON."""
    return entry(kind, json.dumps(fields, separators=(",", ":")).encode(), ts_recv, **to)


class FileWriter:
    """One file being written.

    Args:
        path: Not there yet.
        head: What its HEAD tells, beside format and version; ``began_ns`` is its time.

    Raises:
        OSError: It cannot be made, or the disk is full; so do the methods.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self.path = path
        self.size = 0
        """Bytes on the disk."""
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._stream = zstandard.ZstdCompressor(level=LEVEL).compressobj()
        told = {"format": FORMAT, "version": VERSION, **head}
        self.write(json_entry(Kind.HEAD, told, head["began_ns"]))  # from here on it is replayed
        self.flush()

    def write(self, data: bytes) -> None:
        """Append whole entries."""
        self._put(self._stream.compress(data))

    def flush(self) -> None:
        """Make all that was written readable, whatever becomes of us."""
        self._put(self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))

    def close(self, why: str) -> None:
        """End the file."""
        try:
            self.write(json_entry(Kind.END, {"why": why}, time.time_ns()))
            self._put(self._stream.flush())
        finally:
            os.close(self._fd)
            self._fd = -1

    def abandon(self) -> None:
        """Leave it as it stands: the disk is full."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self.size += written
            view = view[written:]


def blocks(path: Path) -> Iterator[bytes]:
    """Give a file's entries in pieces of some MiB, each of whole entries, the HEAD in the first.

    Raises:
        CaptureError: It is no capture, or damaged, which is told only behind what is whole.
    """
    whole = b""
    first = True
    for piece in _pieces(path):
        whole += piece
        try:
            size = check_entries(whole)
        except MdsysError as error:
            raise CaptureError(f"{path}: {error}: this is no capture of ours") from None
        if len(whole) - size > ENTRY_SIZE_MAX:
            raise CaptureError(f"{path}: an entry of more than {ENTRY_SIZE_MAX >> 20} MiB")
        if size:
            if first:
                _check_head(path, whole)
                first = False
            yield whole[:size]
            whole = whole[size:]
    if first:
        raise CaptureError(f"{path}: it holds no entry: this is no capture of ours")


def head_of(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return a file's HEAD, and its first block."""
    block = next(blocks(path))
    return _check_head(path, block), block


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        stream = zstandard.ZstdDecompressor().decompressobj()
        while data := file.read(BLOCK_SIZE >> 2):
            try:
                piece = stream.decompress(data)
            except zstandard.ZstdError as error:
                raise CaptureError(f"{path}: damaged before byte {file.tell()}: {error}") from None
            if piece:
                yield piece
            if stream.eof:
                return


def _check_head(path: Path, block: bytes) -> dict[str, Any]:
    size, kind, *_ = _ENTRY.unpack_from(block)
    try:
        head = json.loads(block[ENTRY_SIZE : ENTRY_SIZE + size]) if kind == Kind.HEAD else None
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise CaptureError(f"{path}: it does not begin as a capture of ours")
    if head.get("version") != VERSION:
        raise CaptureError(
            f"{path}: format {head.get('version')}, this mdsys reads {VERSION}: use another mdsys"
        )
    return head
