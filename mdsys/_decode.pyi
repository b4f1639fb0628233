from collections.abc import Collection, Mapping, Sequence

from mdsys.feed.frame import FrameResult, SymbolInfo
from mdsys.record.record import Ticks

DECODERS: tuple[str, ...]

class Decoder:
    def __init__(
        self,
        name: str,
        symbols: Mapping[str, SymbolInfo] | Mapping[bytes, SymbolInfo],
        depth: int = 32768,
        *,
        channels: Collection[str] | None = None,
        books_by_rest: bool = False,
    ) -> None: ...
    @property
    def depth(self) -> int: ...
    @property
    def counts(self) -> dict[str, int]: ...
    def decode(
        self, frame: bytes, ts_recv: int = 0, connection: int = 0
    ) -> tuple[FrameResult, Ticks]: ...
    def hang_up(self, connection: int = 0, ts_recv: int = 0) -> Ticks: ...
    def expect_book(self, name: str | bytes, connection: int = 0) -> None: ...
    def take_wishes(self) -> list[bytes]: ...
    def snapshot(
        self,
        name: str | bytes,
        body: bytes,
        asked: int = 0,
        ts_recv: int = 0,
        connection: int = 0,
    ) -> tuple[FrameResult, Ticks]: ...
    def book(
        self, name: str | bytes
    ) -> tuple[bool, list[tuple[int, int]], list[tuple[int, int]]]: ...
    def bench(self, frames: Sequence[bytes], repeat: int = 1) -> tuple[int, int, int]: ...

def decimal_parse(text: bytes, scale: int) -> tuple[int, int | None]: ...
def decimal_scan(
    frame: bytes, scale: int, at: int = 0, decimals: int | None = None
) -> tuple[int, int] | None: ...
def decimal_format(value: int, scale: int) -> str: ...
