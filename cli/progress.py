"""How a command gets through a table, on standard error: how far it is, and which rows it refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from cli.group import counted
from cli.language import said_field, say, term
from cli.tables import Bad
from engine.errors import RequestRefused

SHOWN = 5
"""Refused rows that are told; `arbiter score` writes all of them to a file."""


@contextmanager
def progress(size: int, label: str) -> Iterator[Callable[[int], Any]]:
    """A bar on a terminal: what is given takes how many more rows are done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    steps = max(1, size // 500)
    with click.progressbar(length=size, label=term(label), file=sys.stderr, update_min_steps=steps) as bar:
        yield bar.update


@dataclass
class Refusals:
    """Rows that are no events: the first are told, all are counted."""

    rows: int = 0

    def __call__(self, bad: Bad) -> None:
        self.rows += 1
        if self.rows <= SHOWN:
            say(f"row {bad[0]}: {'; '.join(map(said_field, bad[1]))}", err=True)

    def check(self, events: int) -> None:
        """Raises RequestRefused where there was no event beside them."""
        if not events:
            raise RequestRefused(f"{counted(self.rows, 'row')} and no event among them: look at the mapping file")
