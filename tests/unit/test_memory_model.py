"""docs/memory-model.md names every atomic access of the headers and of the writers' C files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.native import INCLUDE, REPOSITORY, SOURCES

DOCUMENT = REPOSITORY / "docs" / "memory-model.md"
SHARED = sorted(
    path
    for path in [*(INCLUDE / "mdsys").glob("*.h"), *SOURCES.glob("*.[ch]")]
    if path.name != "atomic.h"  # where the accesses are made of builtins
)

ACCESS = re.compile(
    r"\b(?:md_(?:load|store)_[a-z_]+_[iu]\d+|md_fence_[a-z_]+|md_word_copy|md_pair_\w+|__atomic_\w+)\("
)
DEFINITION = re.compile(r"^(?:[a-z][\w* ]* \*?)?(md_\w+|[a-z_]+)\((?!.*;\s*$)", re.MULTILINE)
LABEL = re.compile(r"\b[A-DGNOPRSW]\d\b")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def labels_of(text: str) -> set[str]:
    """Return the labels in C comments."""
    return {label for comment in COMMENT.findall(text) for label in LABEL.findall(comment)}


def accessing_functions(path: Path) -> set[str]:
    """Return FILE:FUNCTION of each function in which shared memory is accessed atomically."""
    text = COMMENT.sub("", path.read_text())
    return {
        f"{path.name}:{definition.group(1)}"
        for definition, body in _bodies(text)
        if ACCESS.search(body)
    }


def _bodies(text: str) -> list[tuple[re.Match[str], str]]:
    """Split at what begins a definition at the start of a line."""
    found = list(DEFINITION.finditer(text))
    if not found:
        return []
    ends = [match.start() for match in found[1:]] + [len(text)]
    return [(match, text[match.end() : end]) for match, end in zip(found, ends, strict=True)]


def in_document(pattern: str) -> set[str]:
    return set(re.findall(pattern, DOCUMENT.read_text()))


def test_every_label_of_an_atomic_access_is_in_the_document_and_none_besides() -> None:
    in_code = set().union(*(labels_of(path.read_text()) for path in SHARED))
    assert {"W1", "R4", "D4", "B2", "P3", "A1", "G4"} <= in_code
    assert in_document(LABEL.pattern) == in_code


def test_every_function_that_accesses_shared_memory_is_in_the_document_and_none_besides() -> None:
    in_code = set().union(*map(accessing_functions, SHARED))
    assert {"ring.h:md_ring_claim", "cache.h:md_cell_load", "audience.c:ring_bell"} <= in_code
    assert in_document(r"`(\w+\.[ch]:\w+)`") == in_code


TWO_LINES = """static inline uint64_t
md_f(const struct md_x *x,
     int y) {
    return md_load_acquire_u64(&x->y);
}
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("void md_f(int a) {\n    md_fence_release();\n}\n", {"x.h:md_f"}),
        (TWO_LINES, {"x.h:md_f"}),
        ("static void f(void) {\n    md_word_copy(a, b);\n}\n", {"x.h:f"}),
        ("static void f(void) {\n    md_pair_store(a, b);\n}\n", {"x.h:f"}),
        ("void md_f(int a) {\n    /* md_fence_release(); */\n    md_load8(a, b);\n}\n", set()),
        ("void md_f(int a);\nvoid md_g(void) {\n    md_fence_acquire();\n}\n", {"x.h:md_g"}),
    ],
)
def test_an_access_is_found_in_its_function(text: str, found: set[str], tmp_path: Path) -> None:
    path = tmp_path / "x.h"
    path.write_text(text)
    assert accessing_functions(path) == found
