"""The shipped headers under fire. Forbidden outcome, everywhere: torn record delivered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.native import (
    COMPILERS,
    INCLUDE,
    PROGRAMS,
    compile_program,
    patched_include,
    run_program,
    sanitizer_flags,
)

pytestmark = pytest.mark.stress

GNU = ("-D_GNU_SOURCE",)
FAMILIES = sorted({family for family, _ in COMPILERS})
OVERRUNS, PUBLISHED_MAX = 20_000, 30_000_000
LOADS = 200_000


def check(program: Path, *args: str | int) -> str:
    result = run_program(program, *args)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("cc", FAMILIES)
@pytest.mark.parametrize("depth", [64, 1024])
@pytest.mark.parametrize("mode", ["processes", "threads"])
def test_no_torn_record_is_delivered_and_none_goes_uncounted(
    mode: str, depth: int, cc: str
) -> None:
    # For more: ring_stress processes 64 100000000 1000000000000
    program = compile_program(PROGRAMS / "ring_stress.c", cc=cc, flags=GNU)
    overruns = OVERRUNS if depth == 64 else OVERRUNS // 50
    lines = check(program, mode, depth, overruns, PUBLISHED_MAX).splitlines()
    assert any(not line.endswith("overruns 0") for line in lines[:-1]), "nobody was overrun"


@pytest.mark.parametrize("cc", FAMILIES)
@pytest.mark.parametrize("mode", ["processes", "threads"])
def test_no_torn_cell_is_delivered(mode: str, cc: str) -> None:
    check(compile_program(PROGRAMS / "cache_stress.c", cc=cc, flags=GNU), mode, LOADS)


@pytest.mark.parametrize("cc", FAMILIES)
def test_no_frame_nor_death_after_any_store_lets_a_reader_accept_what_is_not_whole(cc: str) -> None:
    check(compile_program(PROGRAMS / "ring_model.c", cc=cc, flags=GNU))


@pytest.mark.parametrize("cc", FAMILIES)
def test_thread_sanitizer_finds_no_race_in_the_ring(cc: str) -> None:
    flags = (*GNU, *sanitizer_flags(cc, "thread"))
    program = compile_program(PROGRAMS / "ring_stress.c", cc=cc, flags=flags)
    check(program, "threads", 64, OVERRUNS // 20, PUBLISHED_MAX // 30)


@pytest.mark.parametrize("cc", FAMILIES)
def test_thread_sanitizer_finds_no_race_in_the_cache(cc: str) -> None:
    flags = (*GNU, *sanitizer_flags(cc, "thread"))
    program = compile_program(PROGRAMS / "cache_stress.c", cc=cc, flags=flags)
    check(program, "threads", LOADS // 20)


# What each line is good for: without it the same programs deliver torn records.
W1 = "md_store_relaxed_u64(&slot->seq, seq - 1);"
W1_OF_SEQ = "md_ring_mark(writer, seq);"
W4 = "md_store_release_u64(&slots[seq & mask].seq, seq);"
CLAIMED_AHEAD = "md_ring_mark(writer, next + MD_CLAIM_AHEAD - i)"
RING_MUTATIONS = {
    "without the recheck (R4)": {"if (__builtin_expect(*seq != first, 0))": "if (0)"},
    "without the claim (W1)": {W1: "(void)slot, (void)seq;"},
    "released before it is filled (W4 before W3)": {W1: W1.replace("seq - 1", "seq")},
    "claimed ahead, but after it is filled (W1 after W3)": {
        f"{CLAIMED_AHEAD};": ";",
        W4: f"if (seq - first < MD_CLAIM_AHEAD) {{ {W1_OF_SEQ} }}\n{W4}",
    },
    "claimed only ahead, not in a longer frame (W1)": {"md_slot_mark(slot, seq);": ";"},
    "claimed only ahead, not in a batch (W1)": {
        "md_slot_mark(&slots[seq & mask], seq);": "(void)slots, (void)mask;"
    },
    "claimed one ahead of a longer frame, not two (W1)": {
        "count < MD_CLAIM_AHEAD ? count : MD_CLAIM_AHEAD": "count != 0"
    },
}
CACHE_MUTATIONS = {
    "without the recheck (D4)": {
        "return md_load_relaxed_u64(&cell->version) == version;": (
            "return (int)(version | 1) | cell->writing | 1;"
        )
    },
    "without the odd version (C1)": {
        "md_store_release_u64(&cell->version, version + 1); /* C1": "(void)version; /* C1",
        "md_store_release_u64(&cell->version, version + 1); /* C4": (
            "md_store_release_u64(&cell->version, version + 2); /* C4"
        ),
    },
}

needs_two_cores = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="tearing on purpose needs two cores"
)


@needs_two_cores
@pytest.mark.parametrize("mutation", RING_MUTATIONS)
def test_ring_broken_on_purpose_delivers_torn_records(mutation: str) -> None:
    include = patched_include("ring.h", RING_MUTATIONS[mutation])
    program = compile_program(PROGRAMS / "ring_stress.c", flags=GNU, include=include)
    result = run_program(program, "threads", 64, 10**9, 20 * PUBLISHED_MAX)
    assert (result.returncode, "torn record delivered" in result.stdout) == (1, True)


@pytest.mark.parametrize("mutation", [name for name in RING_MUTATIONS if "(W" in name])
def test_ring_whose_writer_is_broken_on_purpose_fails_its_model(mutation: str) -> None:
    include = patched_include("ring.h", RING_MUTATIONS[mutation])
    result = run_program(compile_program(PROGRAMS / "ring_model.c", flags=GNU, include=include))
    assert (result.returncode, "torn record delivered" in result.stdout) == (1, True)


@needs_two_cores
@pytest.mark.parametrize("mutation", CACHE_MUTATIONS)
def test_cache_broken_on_purpose_delivers_torn_records(mutation: str) -> None:
    include = patched_include("cache.h", CACHE_MUTATIONS[mutation])
    program = compile_program(PROGRAMS / "cache_stress.c", flags=GNU, include=include)
    result = run_program(program, "threads", 10**9)
    assert (result.returncode, "torn record delivered" in result.stdout) == (1, True)


@pytest.mark.parametrize("cc", FAMILIES)
def test_thread_sanitizer_would_find_a_race(cc: str) -> None:
    plain = {
        "md_store_relaxed_u64(uint64_t *to, uint64_t value) {\n    __atomic_store_n(to, value,": (
            "md_store_relaxed_u64(uint64_t *to, uint64_t value) {\n    *to = value; (void)(0,"
        )
    }
    flags = (*GNU, *sanitizer_flags(cc, "thread"), "-Wno-unused-value")
    program = compile_program(
        PROGRAMS / "ring_stress.c",
        cc=cc,
        flags=flags,
        include=patched_include("atomic.h", plain),
    )
    result = run_program(program, "threads", 64, 1000, PUBLISHED_MAX // 100)
    assert "WARNING: ThreadSanitizer: data race" in result.stderr


def test_patching_what_is_not_there_fails() -> None:
    with pytest.raises(AssertionError, match="0 times"):
        patched_include("ring.h", {"no such line": ""})
    assert "no such line" not in (INCLUDE / "mdsys" / "ring.h").read_text()
