"""Compiles a libFuzzer harness of native/fuzz with sanitizers, and runs it for a moment."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.native import (
    FEED_SOURCES,
    INCLUDE,
    POSIX,
    REPOSITORY,
    SOURCES,
    compile_program,
    run_program,
)

FUZZ = REPOSITORY / "native" / "fuzz"


def fuzz(
    name: str,
    folder: Path,
    corpus: Mapping[str, bytes],
    *,
    runs: int,
    linked: Sequence[str] = (),
    words: Path | None = None,
) -> None:
    """Run a harness from some inputs on; it must find nothing.

    Args:
        name: Of the harness.
        folder: An empty one; finds are left there.
        corpus: Inputs to begin with, by name.
        runs: How many.
        linked: Sources beside those of the feed.
        words: A dictionary of libFuzzer's.
    """
    program = _compiled(name, folder, linked)
    inputs = folder / "corpus"
    inputs.mkdir()
    for each, data in corpus.items():
        (inputs / each).write_bytes(data)
    options = [f"-runs={runs}", "-max_len=1500", "-seed=1", f"-artifact_prefix={folder}/"]
    options += [f"-dict={words}"] if words else []
    result = run_program(program, *options, str(inputs))
    assert result.returncode == 0, result.stderr[-4000:]
    assert f"Done {runs} runs" in result.stderr


def _compiled(name: str, folder: Path, linked: Sequence[str]) -> Path:
    """Compile the harness, or skip."""
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    program = folder / name
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    shared = [
        compile_program(
            Path(each),
            cc="clang",
            flags=("-O1", POSIX, "-fsanitize=fuzzer-no-link", *sanitizers),
            link=False,
        )
        for each in FEED_SOURCES
    ]
    command = [
        *("clang", "-std=c17", "-g", "-O1", "-Wall", "-Wextra", "-Werror", POSIX),
        *("-fsanitize=fuzzer", *sanitizers),
        *(f"-I{INCLUDE}", f"-I{SOURCES}", str(FUZZ / f"{name}.c")),
        *(str(SOURCES / each) for each in linked),
        *("-x", "none", *map(str, shared), "-o", str(program)),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "libclang_rt" in result.stderr:
        pytest.skip("clang's run-time (libclang-rt-*-dev) is not installed")
    assert result.returncode == 0, result.stderr
    return program
