"""The check of unified social credit codes (GB 32100-2015), one code at a time and as columns."""

from __future__ import annotations

import duckdb
import pytest

from engine.columns.duckdb import DuckDB
from engine.expr.uscc import LENGTH, LETTERS, WEIGHTS, valid

SOUND = ("91350100M000100Y43", "91330106MA27XXXX06")


@pytest.mark.parametrize("code", SOUND)
def test_a_sound_code_is_valid(code: str) -> None:
    assert valid(code)


@pytest.mark.parametrize("code", SOUND)
@pytest.mark.parametrize("place", range(LENGTH))
def test_any_other_character_in_one_place_is_noticed(code: str, place: int) -> None:
    others = [code[:place] + letter + code[place + 1 :] for letter in LETTERS if letter != code[place]]
    assert not any(map(valid, others))


@pytest.mark.parametrize("code", SOUND)
def test_two_neighbours_that_changed_places_are_noticed(code: str) -> None:
    for at in range(LENGTH - 1):
        if code[at] != code[at + 1]:
            assert not valid(code[:at] + code[at + 1] + code[at] + code[at + 2 :])


def checked(code: str) -> str:
    """The code of seventeen characters with the one that checks them."""
    total = sum(LETTERS.index(letter) * weight for letter, weight in zip(code, WEIGHTS, strict=True))
    return code + LETTERS[-total % len(LETTERS)]


def test_the_last_character_checks_the_others() -> None:
    assert all(checked(code[:-1]) == code for code in SOUND)


ODD = {
    "empty": "",
    "too short": SOUND[0][:-1],
    "too long": SOUND[0] + "3",
    "small letters": SOUND[0].lower(),
    "a line break behind it": SOUND[0] + "\n",
    "a line break in it": SOUND[0][:-1] + "\n",
    "full width": "９" + SOUND[0][1:],
    "a letter that none has": SOUND[0].replace("M", "O"),
    "a letter in the place": SOUND[0][:2] + "A" + SOUND[0][3:],
    "all zeros, which check themselves": "0" * LENGTH,
    "an authority that there is not": checked("B1350100M000100Y4"),
    "a kind of body that there is not": checked("97350100M000100Y4"),
}


@pytest.mark.parametrize("code", ODD.values(), ids=list(ODD))
def test_what_is_no_code_is_not_valid(code: str) -> None:
    assert not valid(code)


def test_columns_say_the_same() -> None:
    codes = [*SOUND, *ODD.values(), *(SOUND[0][:-1] + letter for letter in LETTERS), None]
    raw: duckdb.DuckDBPyConnection = DuckDB().raw
    for code in codes:
        [(found,)] = raw.execute("SELECT arb_uscc(?)", [code]).fetchall()
        assert found == (None if code is None else valid(code)), code
