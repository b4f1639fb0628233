"""Compiles the C programs of native/tests, with every warning an error."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
INCLUDE = REPOSITORY / "native" / "include"
SOURCES = REPOSITORY / "native" / "src"
PROGRAMS = REPOSITORY / "native" / "tests"
FEED_SOURCES = tuple(str(SOURCES / f"{name}.c") for name in ("book", "feed", "publish"))
"""What a program needs that calls a decoder."""

WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
POSIX = "-D_POSIX_C_SOURCE=200809L"
"""What mdsys/attach.h wants of a compiler that is told to be strict."""
LANGUAGES = {"c": "-std=c17", "c++": "-std=c++17"}
COMPILERS = {("gcc", "c"): "gcc", ("gcc", "c++"): "g++", ("clang", "c"): "clang"}
COMPILERS[("clang", "c++")] = "clang++"


SCRATCH = "MDSYS_TEST_SCRATCH"
"""Names the folder of the programs that all workers of a run share (tests/conftest.py)."""


@functools.cache
def _own_scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="mdsys-native-")  # gone with the interpreter


def _scratch() -> Path:
    return Path(os.environ.get(SCRATCH) or _own_scratch().name)


@functools.cache
def compile_program(
    source: Path,
    *,
    cc: str = "gcc",
    language: str = "c",
    flags: tuple[str, ...] = (POSIX,),
    include: Path = INCLUDE,
    link: bool = True,
) -> Path:
    """Compile one file; once a run for the same arguments, whichever worker asks first.

    Args:
        source: A .c file.
        cc: The family, "gcc" or "clang"; the test is skipped where it is not installed.
        language: "c" or "c++", whatever the file is called.
        flags: Come last, so they win.
        include: Where the headers are; `patched_include` makes another.
        link: Whether to make a program rather than an object.

    Returns:
        The path of what was made.
    """
    program = COMPILERS[cc, language]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    command = [
        program,
        f"-x{language}",
        LANGUAGES[language],
        "-O2",
        "-g",
        *WARNINGS,
        f"-I{include}",
        f"-I{SOURCES}",
        *flags,
        *(["-pthread"] if link else ["-c"]),
        str(source),
    ]
    folder = _scratch() / hashlib.sha256(repr(command).encode()).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    out = folder / source.stem
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists():
            made = folder / "made"
            command += ["-o", str(made)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            assert result.returncode == 0, f"{' '.join(command)}\n{result.stderr}"
            made.rename(out)
    return out


def patched_include(header: str, replacements: Mapping[str, str]) -> Path:
    """Return a copy of the headers with ``header`` broken on purpose.

    Every text to be replaced must stand there exactly once, so that a test which shows what a line
    is good for fails when that line moves, instead of testing nothing.
    """
    copy = Path(tempfile.mkdtemp(dir=_scratch())) / "include"
    shutil.copytree(INCLUDE, copy)
    path = copy / "mdsys" / header
    text = path.read_text()
    for old, new in replacements.items():
        assert text.count(old) == 1, f"{header} has {old!r} {text.count(old)} times"
        text = text.replace(old, new)
    path.write_text(text)
    return copy


def sanitizer_flags(cc: str, sanitizer: str) -> tuple[str, ...]:
    """Return what compiles with a sanitizer, or skip the test where it cannot link and run."""
    flags = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    if sanitizer == "thread" and cc == "gcc":
        flags.append("-Wno-tsan")  # gcc's TSan does not know fences, and says so as a warning
    if not _sanitizer_works(cc, tuple(flags)):
        pytest.skip(f"{cc} has no working -fsanitize={sanitizer} here")
    return tuple(flags)


@functools.cache
def _sanitizer_works(cc: str, flags: tuple[str, ...]) -> bool:
    if shutil.which(cc) is None:
        return False
    out = Path(tempfile.mkdtemp(dir=_scratch())) / "probe"
    compiled = subprocess.run(
        [cc, *flags, "-x", "c", "-o", str(out), "-"],
        input="int main(void) { return 0; }",
        text=True,
        capture_output=True,
        check=False,
    )
    return compiled.returncode == 0 and run_program(out).returncode == 0


def run_program(
    program: Path, *args: str | int, seconds: float = 100
) -> subprocess.CompletedProcess[str]:
    """Run a compiled program, at fixed addresses: old sanitizers need that on new kernels."""
    fixed: Sequence[str] = ["setarch", "-R"] if shutil.which("setarch") else []
    return subprocess.run(
        [*fixed, str(program), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
