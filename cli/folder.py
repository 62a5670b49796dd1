"""A new folder for this user alone, which is there as a whole or not at all: for what holds personal data."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from engine.errors import RequestRefused


@contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """Make it before anything is opened or recorded for it, and take it away again when that fails."""
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise RequestRefused(f"{path} exists already; what stands there is never overwritten") from None
    with ExitStack() as failed:
        failed.callback(shutil.rmtree, path, ignore_errors=True)
        yield
        failed.pop_all()


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    """New files for this user alone, whatever the umask."""
    for name, content in files.items():
        handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
