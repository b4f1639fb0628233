"""``--instance``, as every command that looks for a running instance takes it."""

from __future__ import annotations

import argparse

from mdsys.config_checks import instance_name
from mdsys.errors import ConfigError

DEFAULT = "default"


def add_instance_argument(parser: argparse.ArgumentParser) -> None:
    """Declare ``--instance``; a name that could be part of no file name is a usage error."""
    parser.add_argument(
        "--instance",
        metavar="I",
        type=_checked,
        default=DEFAULT,
        help="its name in the daemon's configuration (%(default)s)",
    )


def _checked(text: str) -> str:
    try:
        return instance_name(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
