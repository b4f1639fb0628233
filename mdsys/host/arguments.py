"""``--config``, and for tests ``--root``, as doctor and tune take them."""

from __future__ import annotations

import argparse
from pathlib import Path

from mdsys.config_file import load
from mdsys.host.host import Host
from mdsys.host.needs import default_needs, needs_of


def add_host_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="the daemon's TOML file: its cores, memory and group; without it nothing is said "
        "of cores",
    )
    # Another machine's tree of /proc, /sys and /etc: for tests, and for looking at one's remains.
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)


def host_of(arguments: argparse.Namespace) -> Host:
    """Return the host that the arguments mean.

    Raises:
        ConfigError: The configuration is wrong.
    """
    if arguments.config is None:
        return Host(arguments.root, default_needs())
    # What is to be mounted yet is for doctor to say, with the command that does it.
    loaded = load(arguments.config, symbols_later=True, memory_later=True)
    return Host(arguments.root, needs_of(loaded))
