"""Receipts: frozen to the byte, and true only as a whole."""

from __future__ import annotations

import copy
import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest

from engine.merkle import leaf_hash
from engine.receipt import Receipt, Signer, key_id, receipt_of, sign_batch, signed_text, stamp, verify_receipt

SIGNER = Signer("audit.example.com/decisions", bytes(range(32)))
AT = 1_763_600_000_123_456
LEAVES = [f'{{"id":"{number}"}}'.encode() for number in range(5)]


def receipts() -> list[Receipt]:
    return sign_batch(SIGNER, [leaf_hash(leaf) for leaf in LEAVES], AT)[1]


def test_format_1_is_frozen() -> None:
    """Seed, leaves and time given, the receipt is these bytes for ever (docs/receipt.md shows the same one)."""
    assert receipts()[4].json() == {
        "format": 1,
        "log": "audit.example.com/decisions",
        "leaf_hash": "9f9195d7c48c3d2e2edce42a60de651744e3c3ef779de5451b4ae7672ceb6bcb",
        "batch": {
            "root": "83a02ea42ff9c201d423cf3b0478e13b0664d6cfb9857d8a06267ea7b8585f72",
            "size": 5,
            "index": 4,
            "path": ["20db6f404c20732968b474e6c887d824c9348954ec18ce5699bbc4caa59e9cda"],
        },
        "signed_at": "2025-11-20T00:53:20.123456Z",
        "max_merge_delay_s": 60,
        "key_id": "audit.example.com/decisions+18a5229a",
        "signature": "4Y06vC9Y+M+1nawyFPOz3Fp6/RyuweaiOMRcc817mItNm43/JsU2fVEpjXcSmu0imVe8igekwV0j/+Kkv/5dAw==",
    }


def test_the_signed_bytes_are_frozen() -> None:
    """Six lines, each with its newline."""
    text = signed_text("audit.example.com/decisions", "ab" * 32, 5, stamp(AT), 60)

    assert text == (
        b"arbiter receipt v1\naudit.example.com/decisions\n5\n" + b"ab" * 32 + b"\n2025-11-20T00:53:20.123456Z\n60\n"
    )


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 256])
def test_every_receipt_of_a_batch_verifies(size: int) -> None:
    """Each leaf of a batch verifies with its own receipt and with no other's."""
    leaves = [str(number).encode() for number in range(size)]
    batch, made = sign_batch(SIGNER, [leaf_hash(leaf) for leaf in leaves], AT)

    shown = [receipt.json() for receipt in made]
    assert all(verify_receipt(shown[number], leaf, SIGNER.public_key) for number, leaf in enumerate(leaves[:9]))
    assert not verify_receipt(shown[0], b"another leaf", SIGNER.public_key)
    kept = b"".join(leaf_hash(leaf) for leaf in leaves)
    assert [receipt_of(batch, kept, number).json() for number in range(min(size, 9))] == shown[:9]


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    made = copy.deepcopy(receipts()[1].json())
    at: Any = made
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return made


TAMPERED = {
    "a format of the future": (("format",), 2),
    "a format that equals 1": (("format",), True),
    "another log": (("log",), "audit.example.com/other"),
    "another leaf": (("leaf_hash",), leaf_hash(b"x").hex()),
    "another root": (("batch", "root"), leaf_hash(b"x").hex()),
    "a larger batch": (("batch", "size"), 6),
    "a size in words": (("batch", "size"), "5"),
    "another index": (("batch", "index"), 0),
    "an index that is a truth": (("batch", "index"), True),
    "no path": (("batch", "path"), []),
    "a path of numbers": (("batch", "path"), [1, 2, 3]),
    "another time": (("signed_at",), "2025-11-20T00:53:20.123457Z"),
    "another promise": (("max_merge_delay_s",), 3600),
    "another key's name": (("key_id",), "audit.example.com/decisions+00000000"),
    "another signature": (("signature",), b64encode(bytes(64)).decode()),
    "a signature that is no base64": (("signature",), "§"),
    "a signature with noise": (("signature",), "AA\n" + receipts()[1].json()["signature"]),
    "no batch": (("batch",), None),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_changed_receipt_is_refused(what: str) -> None:
    """Every part of a receipt is covered by the signature or bound to what is."""
    assert verify_receipt(receipts()[1].json(), LEAVES[1], SIGNER.public_key)
    assert not verify_receipt(changed(*TAMPERED[what]), LEAVES[1], SIGNER.public_key)


def test_another_key_is_refused() -> None:
    """A receipt proves something about the owner of one key."""
    other = Signer(SIGNER.log, bytes(32))

    assert not verify_receipt(receipts()[0].json(), LEAVES[0], other.public_key)
    assert not verify_receipt(receipts()[0].json(), LEAVES[0], b"short")


NOISE = [
    None,
    True,
    0,
    -1,
    2**70,
    "",
    "x",
    "§",
    [],
    [None],
    {},
    {"root": 1},
    {"size": 5, "index": 4, "path": [], "root": ""},
]


@pytest.mark.parametrize("part", sorted(receipts()[0].json()))
def test_anything_else_is_refused_without_an_error(part: str) -> None:
    """A receipt comes from outside: whatever stands in a part, or without it, the answer is False and no exception."""
    good = receipts()[0].json()
    odd = [{**good, part: noise} for noise in NOISE] + [{name: good[name] for name in good if name != part}]

    assert verify_receipt(good, LEAVES[0], SIGNER.public_key)
    assert not any(verify_receipt(one, LEAVES[0], SIGNER.public_key) for one in odd)


def test_the_key_is_named_as_signed_notes_name_it() -> None:
    """The C2SP key hash of a known vkey: PeterNeumann+c74f20a3 (golang.org/x/mod/sumdb/note)."""
    vkey = b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    assert vkey[0] == 1
    assert key_id("PeterNeumann", vkey[1:]) == "PeterNeumann+c74f20a3"


def test_the_documentation_shows_a_real_receipt() -> None:
    """The example in docs/receipt.md is the golden one and verifies; the signed text there is the signed text."""
    page = (Path(__file__).parent.parent / "docs" / "receipt.md").read_text("utf-8")
    shown = json.loads(page.partition("```json\n")[2].partition("```")[0])
    signed = page.partition("```text\n")[2].partition("```")[0]

    assert shown == receipts()[4].json()
    assert verify_receipt(shown, LEAVES[4], SIGNER.public_key)
    assert signed_text(shown["log"], shown["batch"]["root"], 5, shown["signed_at"], 60) == signed.encode()
