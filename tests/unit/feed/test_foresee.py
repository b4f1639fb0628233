"""Foresight finds names where they are, and never looks beyond a frame (native/src/foresee.h)."""

from __future__ import annotations

import pytest

from tests.native import (
    FEED_SOURCES,
    PROGRAMS,
    compile_program,
    run_program,
    sanitizer_flags,
)


@pytest.mark.parametrize("sanitizer", ["address,undefined", None], ids=["sanitized", "plain"])
def test_foresight_finds_the_symbols_of_frames_cut_anywhere(sanitizer: str | None) -> None:
    flags = () if sanitizer is None else sanitizer_flags("gcc", sanitizer)
    program = compile_program(
        PROGRAMS / "foresee_looks.c", flags=("-D_GNU_SOURCE", *flags, *FEED_SOURCES)
    )
    result = run_program(program)
    assert (result.returncode, result.stdout) == (0, "ok\n"), result.stderr
