"""Which code this is: the package's version and a hash of the engine's sources, as each record names it."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_ENGINE = Path(__file__).parent
_SOURCES = (".py", ".lark")
_DIGITS = 16


@cache
def build() -> str:
    """Such as `0.1.0+3fa9c1d2e4b5a6f7`: the version, then the first digits of a SHA-256 over the paths and contents of
    all sources of the engine, which stays the same wherever they are installed.

    The version is `source` where Arbiter runs without being installed. Reads the sources once a process.
    """
    try:
        number = version("arbiter")
    except PackageNotFoundError:
        number = "source"
    return f"{number}+{hash_of(_ENGINE)[:_DIGITS]}"


def hash_of(folder: Path) -> str:
    """SHA-256 over `path NUL contents' SHA-256 LF` of each source below a folder, in the order of paths; hex."""
    whole = sha256()
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.suffix in _SOURCES}
    for name in sorted(found):
        whole.update(f"{name}\0{sha256(found[name].read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()
