"""Where the files that Arbiter ships lie: the packs, and the sample bodies."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped(name: str) -> Path:
    """The folder `rules`, `policies` or `docs/examples`: inside this package in a wheel, beside it in a checkout.

    FileNotFoundError when this installation has neither.
    """
    for folder in (_PACKAGE / "_packs" / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"this installation of Arbiter lacks the folder {name}")
