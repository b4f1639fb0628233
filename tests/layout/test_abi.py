"""docs/abi.md says what the compilers do: every field of every struct, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from mdsys.record.record import BODY, Kind, Status
from tests.native import PROGRAMS, REPOSITORY, compile_program, run_program

OFFSETS = (Path(__file__).parent / "offsets.txt").read_text().splitlines()
SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i64": 8, "char": 1}

Fields = dict[str, tuple[int, int]]
"""Name -> (offset, size)."""


def measured(lines: list[str]) -> tuple[dict[str, Fields], dict[str, int], dict[str, int]]:
    """Return structs, their sizes and constants, as native/tests/layout.c prints them."""
    structs: dict[str, Fields] = {}
    sizes: dict[str, int] = {}
    constants: dict[str, int] = {}
    for line in lines:
        match line.split():
            case [name, "=", value]:
                constants[name] = int(value)
            case [name, "-", size]:
                sizes[name] = int(size)
            case [name, offset, size]:
                struct, _, field = name.partition(".")
                structs.setdefault(struct, {})[field] = (int(offset), int(size))
    return structs, sizes, constants


@pytest.fixture(scope="module")
def compiled() -> tuple[dict[str, Fields], dict[str, int], dict[str, int]]:
    done = run_program(compile_program(PROGRAMS / "layout.c"), "counters")
    structs, sizes, constants = measured(OFFSETS + done.stdout.splitlines())
    members = structs["md_record"]
    structs["md_record"] = {name: at for name, at in members.items() if "." not in name}
    return structs, sizes, constants


class Page:
    """The document: its tables by the heading above them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tables: dict[str, list[list[str]]] = {}
        heading = ""
        for line in text.splitlines():
            if line.startswith("#"):
                heading = line.lstrip("# ")
            elif line.startswith("|"):
                cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
                self.tables.setdefault(heading, []).append(cells)

    def rows(self, heading: str) -> list[list[str]]:
        return [row for row in self.tables[heading] if set(row[0]) != {"-"}][1:]

    def structs(self) -> Mapping[str, tuple[int, list[list[str]]]]:
        found = {}
        for heading in self.tables:
            if match := re.fullmatch(r"`(md_\w+)`: (\d+) bytes", heading):
                found[match[1]] = (int(match[2]), self.rows(heading))
        return found


@pytest.fixture(scope="module")
def page() -> Page:
    return Page((REPOSITORY / "docs" / "abi.md").read_text())


def test_every_field_stands_in_the_page_where_it_is(
    page: Page, compiled: tuple[dict[str, Fields], dict[str, int], dict[str, int]]
) -> None:
    structs, sizes, _ = compiled
    assert page.structs().keys() == structs.keys()
    for name, (size, rows) in page.structs().items():
        assert size == sizes[name]
        assert {row[3]: (int(row[0]), int(row[1])) for row in rows} == structs[name], name
        assert [row[3] for row in rows] == list(structs[name]), "in their order"


def test_every_type_is_as_large_as_its_field(
    page: Page, compiled: tuple[dict[str, Fields], dict[str, int], dict[str, int]]
) -> None:
    sizes = SIZES | compiled[1]
    for name, (_, rows) in page.structs().items():
        for row in rows:
            match = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", row[2])
            assert match, (name, row)
            assert sizes[match[1]] * int(match[2] or 1) == int(row[1]), (name, row)


def test_no_struct_has_padding_without_a_name(
    compiled: tuple[dict[str, Fields], dict[str, int], dict[str, int]],
) -> None:
    structs, sizes, _ = compiled
    for name, fields in structs.items():
        end = 0
        for field, (offset, size) in fields.items():
            assert offset == end, f"{name}: something without a name before {field}"
            end += size
        assert end == sizes[name], f"{name}: something without a name at the end"


def test_constants_and_version_are_those_of_the_headers(
    page: Page, compiled: tuple[dict[str, Fields], dict[str, int], dict[str, int]]
) -> None:
    constants = compiled[2]
    assert {name: int(value, 0) for name, value in page.rows("Constants")} == constants
    version = constants["MD_ABI_VERSION"]
    assert f"This is ABI version {version}." in page.text
    assert page.rows("Versions")[-1][0] == str(version)


def test_kinds_and_statuses_are_those_of_the_vocabulary(page: Page) -> None:
    kinds = {int(row[0]): (row[1], tuple(row[2:])) for row in page.rows("Kinds")}
    assert kinds == {int(kind): (kind.name.lower(), tuple(BODY[kind])) for kind in Kind}
    told: dict[int, str] = {}
    for numbers, text in page.rows("Statuses"):
        told |= {int(number): text.partition(":")[0] for number in numbers.split(",")}
    assert told.keys() == {int(status) for status in Status}
    for number, text in told.items():
        assert text in (Status(number).name.lower(), "reserved")


def test_the_rust_example_has_the_numbers_of_the_page(
    compiled: tuple[dict[str, Fields], dict[str, int], dict[str, int]],
) -> None:
    # Where there is no rustc, this still tells when a version was forgotten there.
    text = (REPOSITORY / "native" / "examples" / "reader.rs").read_text()
    ours = dict(re.findall(r"const (\w+): u\d\d = (\w+);", text))
    for name, value in ours.items():
        constant = {"HEADER_SIZE": "MD_PAGE_HEADER_SIZE"}.get(name, f"MD_{name}")
        assert int(value, 0) == compiled[2][constant], name
    assert len(ours) == 5
