"""What tests of the control socket stand on; modules with another need bring their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mdsys.ring.segment import Instance
from tests.control import Server, serving
from tests.instances import geometry, running


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(rings=2)) as each:
        yield each


@pytest.fixture
def server(instance: Instance) -> Iterator[Server]:
    with serving(instance) as each:
        yield each
