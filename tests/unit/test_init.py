"""The public names of the package: each is there, typed, and imported when it is asked for."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

import mdsys


def python(code: str) -> str:
    """Return what a program of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def typed() -> Iterator[tuple[str, str]]:
    """Give what type checkers are told to be where: module, name."""
    tree = ast.parse(Path(mdsys.__file__).read_text())
    (block,) = (
        each
        for each in tree.body
        if isinstance(each, ast.If) and ast.unparse(each.test) == "TYPE_CHECKING"
    )
    for each in block.body:
        if isinstance(each, ast.ImportFrom):
            for alias in each.names:
                yield each.module or "", alias.asname or alias.name


def test_a_name_is_where_type_checkers_are_told() -> None:
    told = {name: module for module, name in typed() if name in mdsys.__all__}
    assert told == mdsys._HOME
    assert {*told, "get_include", "open_capture"} == set(mdsys.__all__)
    assert len(mdsys.__all__) == len(set(mdsys.__all__))


@pytest.mark.parametrize("name", mdsys.__all__)
def test_a_public_name_can_be_had_and_is_no_modules(name: str) -> None:
    assert getattr(mdsys, name) is mdsys.__dict__[name], "found without a search from now on"
    assert find_spec(f"mdsys.{name}") is None, "an import of it would take the name's place"


def test_import_of_the_package_alone_imports_nothing_more() -> None:
    code = "import sys, mdsys; print(*(m for m in sys.modules if m.startswith(('mdsys', 'numpy'))))"
    assert python(code).split() == ["mdsys"]


def test_a_star_brings_all_of_it() -> None:
    code = "from mdsys import *; import mdsys; print(set(mdsys.__all__) - set(globals()))"
    assert python(code) == "set()\n"


def test_dir_has_all_of_it_before_any_is_asked_for() -> None:
    code = "import mdsys; print({*mdsys.__all__, '__version__', '__doc__'} - set(dir(mdsys)))"
    assert python(code) == "set()\n"


def test_version_is_the_packages() -> None:
    assert mdsys.__version__ == metadata.version("mdsys")


def test_a_name_that_is_not_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'mdsys' has no attribute 'atach'"):
        mdsys.atach  # type: ignore[attr-defined] # noqa: B018
