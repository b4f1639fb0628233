"""C, NumPy and golden bytes agree on every struct that crosses a process border."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from mdsys import ABSENT, KIND_DTYPE, TICK, Kind, _native, attach
from mdsys.record.record import BODY, HEADER, RECORD_SIZE
from tests.instances import running, trades, writer
from tests.native import COMPILERS, INCLUDE, POSIX, PROGRAMS, compile_program, run_program

HERE = Path(__file__).parent
TOOLCHAINS = sorted(COMPILERS)
HEADERS = sorted(path.name for path in (INCLUDE / "mdsys").glob("*.h"))


def output(program: str, *args: str, cc: str, language: str) -> list[str]:
    result = run_program(compile_program(PROGRAMS / program, cc=cc, language=language), *args)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize(("cc", "language"), TOOLCHAINS)
def test_c_and_cpp_lay_the_structs_out_as_checked_in(cc: str, language: str) -> None:
    # A change of offsets.txt is a change of the ABI: it bumps MD_ABI_VERSION.
    expected = (HERE / "offsets.txt").read_text().splitlines()
    assert output("layout.c", "offsets", cc=cc, language=language) == expected


@pytest.mark.parametrize(("cc", "language"), TOOLCHAINS)
def test_c_and_cpp_write_the_golden_records(cc: str, language: str) -> None:
    expected = (HERE / "golden.txt").read_text().splitlines()
    assert output("layout.c", "golden", cc=cc, language=language) == expected


def c_fields() -> dict[str, tuple[int, int]]:
    fields = {}
    for line in (HERE / "offsets.txt").read_text().splitlines():
        match line.split():
            case [name, offset, size] if name.startswith("md_record.") and offset != "=":
                fields[name.removeprefix("md_record.")] = (int(offset), int(size))
    return fields


@pytest.mark.parametrize("kind", Kind)
def test_dtype_of_a_kind_has_the_offsets_of_c(kind: Kind) -> None:
    dtype, in_c = KIND_DTYPE[kind], c_fields()
    assert dtype.itemsize == RECORD_SIZE
    assert list(dtype.names or ()) == [*HEADER, *BODY[kind]]
    for name in dtype.names or ():
        member = name if name in HEADER else f"body.{kind.name.lower()}.{name}"
        field, offset = dtype.fields[name][:2]  # type: ignore[index]
        assert (offset, field.itemsize) == in_c[member]


def test_tick_has_every_field_of_every_kind_where_the_kind_has_it() -> None:
    assert TICK.itemsize == RECORD_SIZE
    names = {name for kind in Kind for name in (*HEADER, *BODY[kind])}
    assert set(TICK.names or ()) == names - {"volume"}  # the one that has two places
    for kind, name in itertools.product(Kind, TICK.names or ()):
        if name in (KIND_DTYPE[kind].names or ()):
            assert TICK.fields[name] == KIND_DTYPE[kind].fields[name]  # type: ignore[index]


def test_every_c_field_of_a_record_is_in_a_dtype() -> None:
    ours = set(HEADER) | {f"body.{k.name.lower()}.{name}" for k in Kind for name in BODY[k]}
    assert set(c_fields()) - {"body"} == ours


def test_numpy_writes_the_golden_records() -> None:
    lines = []
    for kind in Kind:
        record = np.zeros(1, KIND_DTYPE[kind])
        record["seq"] = 0x1122334455667700 + kind
        record["ts_event"], record["ts_recv"] = 1_700_000_000_123_456_789, ABSENT
        record["symbol_id"], record["kind"], record["flags"] = 0x01020304, kind, 10
        record["price_scale"], record["size_scale"] = 8, 18
        body = (999_999_999_700_000_000, -1, ABSENT, 0x0807060504030201)
        for name, value in zip(BODY[kind], body, strict=True):
            record[name] = value
        lines.append(record.tobytes().hex())
    assert lines == (HERE / "golden.txt").read_text().splitlines()


BLOCKS = {
    "md_counter_block": ("feeds", "feed_histograms"),
    "md_supervisor_block": ("system", "subscriptions", "system_histograms"),
    "md_life_block": ("lives",),
}


@pytest.mark.parametrize("block", BLOCKS)
def test_the_schema_names_what_stands_in_a_block(block: str) -> None:
    lines = output("layout.c", "counters", cc="gcc", language="c")
    fields = [line.split() for line in lines if line.startswith(f"{block}.")]
    histogram_size = 8 * (4 + 2 * _native.histogram_buckets())
    rows = [row for name in BLOCKS[block] for row in _native.schema()[name]]
    sizes = [histogram_size if row[1] == "HISTOGRAM" else 8 for row in rows]
    starts = itertools.accumulate(sizes, initial=0)
    expected = [
        [f"{block}.{row[0]}", str(offset), str(size)]
        for row, offset, size in zip(rows, starts, sizes, strict=False)
    ]
    assert [each for each in fields if "reserved" not in each[0]] == expected


def test_the_schema_names_what_stands_in_a_readers_page_and_of_a_connection() -> None:
    lines = output("layout.c", "offsets", cc="gcc", language="c")
    page = [line.split()[0].partition(".")[2] for line in lines if "md_reader_page." in line]
    first = page.index("received")
    names = [row[0] for name in ("readers", "reader_histograms") for row in _native.schema()[name]]
    assert page[first : first + len(names)] == names
    assert page[first + len(names)] == "ring"
    connection = {line.split()[0].partition(".")[2] for line in lines if "md_connection_b" in line}
    assert connection - {row[0] for row in _native.schema()["connections"]} == {
        *("number", "state", "venue", "version", "reserved0", ""),
    }


@pytest.mark.parametrize(("cc", "language"), TOOLCHAINS)
def test_each_header_compiles_by_itself(tmp_path: Path, cc: str, language: str) -> None:
    # Twice: a header without its guard would define everything again.
    for header in HEADERS:
        source = tmp_path / f"{Path(header).stem}.c"
        source.write_text(f'#include "mdsys/{header}"\n' * 2)
        compile_program(source, cc=cc, language=language, link=False)


def test_attach_says_what_a_strict_compiler_lacks(tmp_path: Path) -> None:
    source = tmp_path / "strict.c"
    source.write_text('#include "mdsys/attach.h"\n')
    with pytest.raises(AssertionError, match=POSIX):
        compile_program(source, flags=(), link=False)


@pytest.mark.parametrize(("cc", "language"), TOOLCHAINS)
def test_a_c_program_reads_what_python_wrote(cc: str, language: str) -> None:
    with running(symbols=2) as instance, attach(instance.name) as md:
        ring = writer(instance)
        reader = md.reader()
        ring.publish_records(trades(16))
        ring.publish_records(trades(3, symbol_id=2, first=16))
        args = (instance.name, "BINANCE:S2", "X:Y")
        lines = output("read_instance.c", *args, cc=cc, language=language)
        expected = ["symbols 2 rings 1"]
        for tick in reader.poll():
            fields = [*HEADER, *BODY[Kind.TRADE]]
            expected.append(" ".join(["ring", *(str(tick[name]) for name in fields)]))
        assert len(expected) == 20
        assert lines == [*expected, "next 20 lost 0", "BINANCE:S2 2 0 8 8", "X:Y absent"]
