"""Small exports of earlier formats, kept as they were made: every later version reads, checks and replays them."""

from __future__ import annotations

import runpy
from collections import Counter
from hashlib import sha256
from pathlib import Path

import orjson
import pytest

from cli import verify
from engine.jcs import canonical
from engine.replay import Replayer
from engine.rulebook import load

GOLDEN = Path(__file__).parent / "golden"

KEPT = [
    (
        "format-1",
        "golden.invalid/ledger+937a019f+Aa7EsKw3+dTc93epwDgrQysPBgQUGB8eEr3Bp5UvGLNK",
        "d083fbc125feefb9cb72cf404710b6480e6ea99472417ed11cb413f9861a351c",
    ),
]
"""Folder, the log's public key, and the SHA-256 of the checkpoint: what is kept is never made anew."""


@pytest.mark.parametrize(("folder", "key", "hashed"), KEPT)
def test_what_was_written_then_is_read_checked_and_replayed_now(folder: str, key: str, hashed: str) -> None:
    assert sha256((GOLDEN / folder / "checkpoint").read_bytes()).hexdigest() == hashed
    leaves = (GOLDEN / folder / "entries.jsonl").read_bytes().splitlines()
    script = GOLDEN / folder / "verify.py"
    for run in (verify.main, lambda args: runpy.run_path(str(script))["main"](args)):
        assert run([str(GOLDEN / folder), "--key", key]) == 0, "today's check and the one of then"
    types = Counter(orjson.loads(leaf)["type"] for leaf in leaves)
    assert types.keys() == {"decision", "event", "resolution", "change", "access"}
    assert all(canonical(orjson.loads(leaf)) == leaf for leaf in leaves)
    books = {path.name: load(path / "rules", path / "policies") for path in (GOLDEN / folder / "rulebooks").iterdir()}
    assert len(books) == 2
    assert all(book.hash == named for named, book in books.items())
    verdicts = Counter()
    for leaf in leaves:
        record = orjson.loads(leaf)
        if record["type"] == "decision":
            replayed = Replayer(books[record["pins"]["rulebook"]]).replay(leaf)
            assert replayed.equal, replayed
            verdicts[record["verdict"]] += 1
    assert verdicts.keys() == {"approve", "challenge", "review", "decline"}


def test_every_folder_is_held() -> None:
    assert {path.name for path in GOLDEN.glob("format-*")} == {folder for folder, *_ in KEPT}
