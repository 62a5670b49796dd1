"""Seeds of long comparisons of random inputs with an oracle: some for every run, some for `make test`, the rest for
`make test-slow`."""

from __future__ import annotations

import pytest


def seeded(count: int, *, always: int, test: int | None = None, name: str = "seed") -> pytest.MarkDecorator:
    """The test for each of `count` seeds; `make test-unit` has the first `always` of them, `make test` the first
    `test`, all when absent."""
    middle, last = range(always, test or count), range(test or count, count)
    marks = ((middle, pytest.mark.random), (last, pytest.mark.slow))
    rest = [pytest.param(seed, marks=mark) for seeds, mark in marks for seed in seeds]
    return pytest.mark.parametrize(name, [*range(always), *rest])
