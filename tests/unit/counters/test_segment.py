"""The counters segment: who may map it, and rows that are whole (mdsys/counters.h)."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from tests.feeds import FeedMemory
from tests.native import INCLUDE, PROGRAMS, compile_program, patched_include, run_program

VERSION_OFFSET = 96
"""Of struct md_connection_block."""

# ---- connections ---------------------------------------------------------------------------------


def test_row_is_of_one_connection_in_one_state_wherever_its_reader_and_its_feed_are_stopped() -> (
    None
):
    result = run_program(compile_program(PROGRAMS / "connection_model.c"))
    assert result.returncode == 0, result.stdout


MUTANTS = {
    "no second look": {"if (md_load_relaxed_u64(&block->version) == version)": "if (1)"},
    "odd is taken": {"if (version & 1) {": "if (0) {"},
    "never odd": {
        "md_load_relaxed_u64(&block->version) | 1)": "md_load_relaxed_u64(&block->version))"
    },
    "odd or even by what a dead feed left": {
        "md_load_relaxed_u64(&block->version) | 1)": "md_load_relaxed_u64(&block->version) + 1)"
    },
    "versions come again": {
        "md_load_relaxed_u64(&block->version) + 1)": "md_load_relaxed_u64(&block->version) - 1)"
    },
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_without_any_part_of_the_protocol_a_row_of_two_is_accepted(mutant: dict[str, str]) -> None:
    include = patched_include("counters.h", mutant)
    result = run_program(compile_program(PROGRAMS / "connection_model.c", include=include))
    assert result.returncode == 1
    assert "a row of two" in result.stdout


def test_connection_whose_place_is_being_changed_is_left_out_and_its_successor_is_whole() -> None:
    memory = FeedMemory(["BTCUSDT"])
    memory.feed.connection_state(7, 3)
    (before,) = memory.counter_segment.connections(0)
    at = memory.counter_segment.connection_address(0) + VERSION_OFFSET
    version = ctypes.c_uint64.from_address(at)
    assert version.value % 2 == 0
    version.value += 1  # its feed is stopped, or was killed, inside a change
    assert memory.counter_segment.connections(0) == []
    memory.take_over()
    memory.feed.connection_state(8, 1)
    (after,) = memory.counter_segment.connections(0)
    assert (after["connection"], after["state"], after["opens"]) == (8, 1, 0)
    assert before["connection"] == 7


# ---- the schema's hash ---------------------------------------------------------------------------

CHANGES = {
    "a feed's counter has another name": {"X(frames_binary,": "X(frames_odd,"},
    "a feed's histogram has another name": {"X(ring_to_flush,": "X(ring_to_bell,"},
    "a number of the supervisor's has another name": {"X(reloads,": "X(loads,"},
    "a state of streams has another name": {"X(ticking,": "X(alive,"},
    "the supervisor's histogram has another name": {"X(loop_lag,": "X(loop_late,"},
    "a number of a feed's life has another name": {"X(hangs,": "X(stops,"},
    "two numbers change places": {
        "X(restarts,": "X(spare,",
        "X(hangs,": "X(restarts,",
        "X(spare,": "X(hangs,",
    },
    "a field of a connection has another name": {"X(uint64_t, opens)": "X(uint64_t, tries)"},
    "a field of a connection has another type": {"X(uint64_t, frames)": "X(int64_t, frames)"},
    "a connection's reserve is used": {"reserved0[3])": "more) X(uint64_t, reserved0[2])"},
    "histograms are longer": {"MD_HISTOGRAM_OCTAVE_MAX 40u": "MD_HISTOGRAM_OCTAVE_MAX 41u"},
}
IN_COUNTERS_H = ("a field of", "a connection", "histograms")
"""How the changes begin that are made there; the others are of the lists."""


def schema_hash(tmp_path: Path, include: Path = INCLUDE) -> int:
    source = tmp_path / "schema.c"
    source.write_text(
        '#include <stdio.h>\n#include "mdsys/counters.h"\n'
        'int main(void) { printf("%llu\\n", (unsigned long long)MD_SCHEMA_COUNTERS); return 0; }\n'
    )
    return int(run_program(compile_program(source, include=include)).stdout)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> int:
    return schema_hash(tmp_path_factory.mktemp("schema"))


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_of_what_a_reader_maps_changes_the_schema(
    tmp_path: Path, schema: int, change: str
) -> None:
    header = "counters.h" if change.startswith(IN_COUNTERS_H) else "schema.h"
    include = patched_include(header, CHANGES[change])
    assert schema_hash(tmp_path, include) != schema


def test_what_a_number_is_called_elsewhere_and_means_is_not_in_the_schema(
    tmp_path: Path, schema: int
) -> None:
    words = {'"feed_received_bytes", "", "payload bytes received"': '"feed_bytes", "", "bytes"'}
    assert schema_hash(tmp_path, patched_include("schema.h", words)) == schema
