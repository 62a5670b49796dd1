"""What errors have in common: the words they are told in."""

from __future__ import annotations

import pytest

from engine.errors import with_article


@pytest.mark.parametrize(
    ("noun", "said"),
    [
        ("transaction", "a transaction"),
        ("outcome", "an outcome"),
        ("account", "an account"),
        ("int", "an int"),
        ("Event", "an Event"),
        ("review", "a review"),
    ],
)
def test_a_noun_has_its_article(noun: str, said: str) -> None:
    assert with_article(noun) == said
