"""The errors and their exit codes."""

from __future__ import annotations

import inspect

import pytest

from mdsys import errors
from mdsys.errors import (
    ConfigError,
    ExitCode,
    FeedError,
    HostError,
    InstanceInUse,
    LayoutError,
    MdsysError,
    NoPermission,
    NotRunning,
    ProtocolError,
    RingError,
    UsageError,
    WriterGone,
)


def test_every_error_is_an_mdsys_error() -> None:
    classes = [each for _, each in inspect.getmembers(errors, inspect.isclass)]
    raised = [each for each in classes if issubclass(each, BaseException)]
    assert len(raised) == 13
    assert all(issubclass(each, MdsysError) for each in raised)


@pytest.mark.parametrize(
    ("error", "group"),
    [
        (ProtocolError, FeedError),
        (WriterGone, RingError),
        (NoPermission, HostError),
        (InstanceInUse, HostError),
    ],
)
def test_errors_are_grouped_by_what_the_caller_does_next(
    error: type[MdsysError], group: type[MdsysError]
) -> None:
    assert issubclass(error, group)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MdsysError, 1),
        (HostError, 1),
        (LayoutError, 1),
        (FeedError, 1),
        (RingError, 1),
        (UsageError, 64),
        (NotRunning, 69),
        (WriterGone, 69),
        (InstanceInUse, 75),
        (NoPermission, 77),
        (ConfigError, 78),
    ],
)
def test_exit_codes_are_those_that_scripts_rely_on(error: type[MdsysError], code: int) -> None:
    assert error.exit_code == code
    assert isinstance(error.exit_code, ExitCode)


def test_a_config_error_keeps_its_problems_apart_and_shows_one_a_line() -> None:
    error = ConfigError("a: missing", "b: unknown key")
    assert error.problems == ("a: missing", "b: unknown key")
    assert str(error) == "a: missing\nb: unknown key"
