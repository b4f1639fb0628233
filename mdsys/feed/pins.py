"""The exact versions that the listener is compiled for and whose edges have been looked at."""

from __future__ import annotations

from importlib.metadata import version

from mdsys.errors import HostError

PINS = {"picows": "2.3.1", "aiofastnet": "1.2.0"}


def check_pins() -> None:
    """Refuse to run on other versions of picows and aiofastnet.

    Raises:
        HostError: Another version is installed.
    """
    for package, wanted in PINS.items():
        found = version(package)
        if found != wanted:
            raise HostError(
                f"{package} {found} is installed, mdsys needs exactly {wanted}: "
                f"pip install {package}=={wanted}"
            )
