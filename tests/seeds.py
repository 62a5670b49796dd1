"""Seeds of long comparisons of random inputs with an oracle: some for every run, the rest for `make test`."""

from __future__ import annotations

import pytest


def seeded(count: int, *, always: int, name: str = "seed") -> pytest.MarkDecorator:
    """The test for each of `count` seeds; `make test-unit` has the first `always` of them."""
    rest = [pytest.param(seed, marks=pytest.mark.random) for seed in range(always, count)]
    return pytest.mark.parametrize(name, [*range(always), *rest])
