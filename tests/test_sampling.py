"""A sample follows from the signed root and the nonce alone, and every stratum has its part."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sampling import Sample
from tests.test_cli import arbiter, good
from tests.test_export import Made, made

__all__ = ["made"]
ROOT = sha256(b"root").digest()
Strata = dict[tuple[str, ...], int]
STRATA = st.dictionaries(st.tuples(st.sampled_from("abcdefgh")), st.integers(1, 40), min_size=1)


def drawn(strata: Strata, size: int, nonce: str = "n") -> tuple[Sample, dict[tuple[str, ...], list[int]]]:
    sample = Sample(ROOT, nonce, size)
    entries = [stratum for stratum, count in sorted(strata.items()) for _ in range(count)]
    for position, stratum in enumerate(entries):
        sample.see(position, stratum)
    return sample, {stratum: list(positions) for stratum, positions in sample.drawn().items()}


@given(STRATA, st.integers(1, 60))
def test_as_many_come_out_as_were_asked_for_and_each_stratum_has_one(strata: Strata, size: int) -> None:
    """As far as there are as many; by size beyond the first, to one more or less; each with the lowest numbers."""
    sample, found = drawn(strata, size)
    total = sum(strata.values())
    shown = {stratum: count for stratum, count in strata.items() if stratum in found}

    assert sum(map(len, found.values())) == min(size, sum(shown.values()))
    assert len(found) == min(size, len(strata))
    assert sample.counts == strata
    for stratum, positions in found.items():
        assert 1 <= len(positions) <= strata[stratum]
        exact = 1 + (strata[stratum] - 1) * (min(size, sum(shown.values())) - len(found)) / max(
            1, sum(shown.values()) - len(found)
        )
        assert abs(len(positions) - exact) < 1 + 1e-9
    assert total >= size or {len(found[each]) for each in found} == set(shown.values())


@given(STRATA, st.integers(1, 30), st.text(max_size=5))
def test_the_lowest_numbers_come_out_whatever_the_order(strata: Strata, size: int, nonce: str) -> None:
    """As the definition says it: SHA-256 over head, root and nonce, then over that and the position."""
    _, found = drawn(strata, size, nonce)
    seed = sha256(b"arbiter sample v1\n" + ROOT + nonce.encode()).digest()
    entries = [stratum for stratum, count in sorted(strata.items()) for _ in range(count)]
    for stratum, positions in found.items():
        all_of = [at for at, each in enumerate(entries) if each == stratum]
        ranked = sorted(all_of, key=lambda at: sha256(seed + at.to_bytes(8)).digest())
        assert sorted(ranked[: len(positions)]) == positions


def test_another_nonce_draws_others_and_none_is_preferred() -> None:
    """Over many nonces every position comes out about as often."""
    seen = Counter(at for nonce in range(400) for at in drawn({("a",): 40}, 4, str(nonce))[1]["a",])
    assert len(seen) == 40
    assert 15 < min(seen.values()) <= max(seen.values()) < 75, "40 on average"


def test_an_auditor_draws_from_an_export_and_anybody_draws_the_same(made: Made) -> None:
    """Weights add up to all decisions of the strata; the summary says from what it was drawn."""
    asked = ("audit", "sample", made.whole, "--n", "8", "--strata", "verdict,tier", "--nonce", "80417", "--json")
    first = arbiter(*asked)
    found = [json.loads(line) for line in first.stdout.splitlines()]
    decisions = {answer["id"] for answer in made.answers}

    assert first.exit_code == 0
    assert first.stdout == good(*asked)
    assert (len(found), {each["id"] for each in found} <= decisions) == (8, True)
    assert {each["verdict"] for each in found} == {"approve", "challenge", "review", "decline"}
    assert sum(each["weight"] for each in found) == len(made.answers)
    assert "8 of 40 decisions in 4 strata, from the root of" in first.stderr
    assert good(*asked[:-2], "80418", "--json") != first.stdout


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--strata", "colour", "--nonce", "1"), 2, "there is no 'colour'; there are verdict, rule"),
        ((), 2, "--nonce"),
        (("--n", "1", "--nonce", "1"), 0, "3 strata had no place"),
    ],
)
def test_what_cannot_be_drawn_is_told(made: Made, args: tuple[str, ...], code: int, said: str) -> None:
    """Before anything is drawn; and what has no place is told after."""
    result = arbiter("audit", "sample", made.whole, *args)
    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr


def test_a_nonce_that_was_announced_cannot_have_been_tried_out(made: Made, tmp_path: Path) -> None:
    """Its hash stands in the log before the root that the sample is drawn from; of another one it is said that it does
    not."""
    good("audit", "announce", sha256(b"80417-mine").hexdigest(), "--tenant", "shop-a", **made.env)
    good("audit", "export", "--out", tmp_path / "out", **made.env)
    records = [json.loads(line) for line in (tmp_path / "out/entries.jsonl").read_bytes().splitlines()]
    (place,) = [at for at, each in enumerate(records) if each.get("what") == "sample_nonce"]
    for nonce, said in (("80417-mine", f"in the log at position {place}:"), ("80418", "was not announced in the log")):
        assert said in arbiter("audit", "sample", tmp_path / "out", "--nonce", nonce).stderr
    for wrong, why in (("80417", "no SHA-256"), ("A" * 64, "no SHA-256")):
        assert why in arbiter("audit", "announce", wrong, **made.env).stderr
    assert arbiter("audit", "sample", tmp_path / "out", "--nonce", "\udcff").exit_code == 2


def test_a_folder_that_is_no_export_is_refused(tmp_path: Path) -> None:
    """It has no checkpoint."""
    assert "is no export" in arbiter("audit", "sample", tmp_path, "--nonce", "1").stderr
