"""Small exports of earlier formats, kept as they were made: every later version reads, checks and replays them."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from pathlib import Path

import orjson
import pytest

from engine.jcs import canonical
from engine.receipt import verify_receipt
from engine.replay import Replayer
from engine.rulebook import load

GOLDEN = Path(__file__).parent / "golden"

KEPT = [
    (
        "format-1",
        "0dccec96ebc435f57791bb81c357929c0631c960ae361e01222189933a95148c",
        "edf302df2b7dd945d5715437041c95ddaca10d91c95b1de1a0a390f0cb23a9f3",
    ),
]
"""Folder, the log's public key, and the SHA-256 of the entries: what is kept is never made anew."""


@pytest.mark.parametrize(("folder", "key", "hashed"), KEPT)
def test_what_was_written_then_is_read_checked_and_replayed_now(folder: str, key: str, hashed: str) -> None:
    entries = (GOLDEN / folder / "entries.jsonl").read_bytes()
    assert sha256(entries).hexdigest() == hashed
    leaves, receipts = entries.splitlines(), (GOLDEN / folder / "receipts.jsonl").read_bytes().splitlines()
    types = Counter(orjson.loads(leaf)["type"] for leaf in leaves)
    assert types.keys() == {"decision", "event", "resolution", "change", "access"}
    for leaf, receipt in zip(leaves, receipts, strict=True):
        assert canonical(orjson.loads(leaf)) == leaf
        assert verify_receipt(orjson.loads(receipt), leaf, bytes.fromhex(key))
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
