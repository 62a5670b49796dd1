"""Notes, checkpoints and keys: frozen to the byte, and nothing in them counts unless a known key signed it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import merkle
from engine.notes import (
    COSIGNATURE,
    Checkpoint,
    NoteError,
    Verifier,
    cosign,
    open_note,
    read_hashes,
    read_key,
    read_proof,
    read_size,
    sign,
    verifier,
    write_hashes,
    write_proof,
)
from engine.receipt import Signer

LOG = Signer("audit.example.com/decisions", bytes(range(32)))
WITNESS = Signer("witness.example.org/w1", bytes(range(32, 64)))
OTHER = Signer("audit.example.com/decisions", bytes(range(64, 96)))
ROOT = merkle.leaf_hash(b"root")
CHECKPOINT = Checkpoint(LOG.log, 20_852_163, ROOT)
NOTE = sign(CHECKPOINT.text, LOG)
COSIGNED = NOTE + cosign(CHECKPOINT.text, WITNESS, 1_763_600_000)
KEYS = [verifier(LOG), verifier(WITNESS, COSIGNATURE)]


def test_a_checkpoint_is_these_bytes_for_ever() -> None:
    """Seed, size, root and time given, note, cosignature and keys are these; the Go verifier reads the same ones."""
    assert COSIGNED == GOLDEN
    assert verifier(LOG).text == "audit.example.com/decisions+18a5229a+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
    assert read_key(KEYS[1].text) == KEYS[1]


def test_who_signed_and_when_comes_back() -> None:
    """The log's signature has no time, the witness's has."""
    text, signed = open_note(COSIGNED, KEYS)

    assert Checkpoint.read(text) == CHECKPOINT
    assert [(each.by.name, each.seconds) for each in signed] == [(LOG.log, 0), (WITNESS.log, 1_763_600_000)]
    assert "".join(["", *(each.line for each in signed)]) == COSIGNED.partition("\n\n")[2]


def test_unknown_keys_are_passed_over_but_somebody_must_be_known() -> None:
    """A key of the same name is another key."""
    assert [each.by for each in open_note(COSIGNED, KEYS[:1])[1]] == KEYS[:1]
    with pytest.raises(NoteError, match="no known key"):
        open_note(COSIGNED, [verifier(OTHER)])
    with pytest.raises(NoteError, match="no known key"):
        open_note(COSIGNED, [])


def test_a_note_that_was_altered_anywhere_is_refused() -> None:
    """Each letter of it changed in turn: nothing is read, or what is read is what was signed."""
    for at in range(len(COSIGNED)):
        for other in ("0" if COSIGNED[at] != "0" else "1", "\n", ""):
            altered = COSIGNED[:at] + other + COSIGNED[at + 1 :]
            try:
                text, _ = open_note(altered, KEYS)
            except NoteError:
                continue
            assert altered == COSIGNED or text == CHECKPOINT.text


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        "text\n\n",
        CHECKPOINT.text + "\n",
        NOTE[:-1],
        NOTE.replace("\u2014", "-"),
        NOTE + "\n",
        NOTE + "\u2014 a+b AAAAAAAA\n",
        NOTE + "\u2014 a AAAA\n",
        NOTE + "\u2014 a !!!!\n",
        NOTE.replace("\n", "\r\n"),
        NOTE[:-1] + "\x00\n",
        CHECKPOINT.text + "\n" + "\u2014 a AAAAAAAA\n" * 10_000,
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    """Whatever is missing or too much."""
    with pytest.raises(NoteError):
        open_note(note, KEYS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "log\n1\n",
        f"log\n01\n{write_hashes([ROOT])}",
        f"log\n-1\n{write_hashes([ROOT])}",
        f"log\n+1\n{write_hashes([ROOT])}",
        f"log\n1_0\n{write_hashes([ROOT])}",
        f"log\n{10**19}\n{write_hashes([ROOT])}",
        f"\n1\n{write_hashes([ROOT])}",
        f"log\n1\n{write_hashes([ROOT[:31]])}",
        f"log\n1\n{write_hashes([ROOT])}extension\n",
        f"log\n1\n{write_hashes([ROOT])[:-1]}",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    """Three lines, no zeros in front, a whole root."""
    with pytest.raises(NoteError):
        Checkpoint.read(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "name"),
        ("log", "name"),
        (verifier(LOG).text[:-1], "name"),
        (verifier(LOG).text.replace("18a5229a", "18a5229b"), "cut or altered"),
        (verifier(LOG).text.replace("audit", "audio"), "cut or altered"),
        (Verifier("log", 2, bytes(32)).text, "type 2"),
    ],
)
def test_a_key_that_was_cut_or_altered_is_refused(text: str, said: str) -> None:
    """And the error says how a key looks."""
    with pytest.raises(NoteError, match=said):
        read_key(text)


@given(st.integers(0, 2**63 - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=5))
def test_a_proof_comes_back(index: int, path: list[bytes]) -> None:
    """Index, path and checkpoint as they were written."""
    assert read_proof(write_proof(index, path, NOTE)) == (index, path, NOTE)


@pytest.mark.parametrize(
    "proof", ["", "c2sp.org/tlog-proof@v1\n\n", "c2sp.org/tlog-proof@v1\nindex 01\n\n" + NOTE, NOTE]
)
def test_what_is_no_proof_is_refused(proof: str) -> None:
    """The first two lines must be there."""
    with pytest.raises(NoteError):
        read_proof(proof)


def test_sizes_and_hashes_are_read_strictly() -> None:
    """As the standard has it: no sign, no zeros in front, no other base64 of the same bytes."""
    assert (read_size("0"), read_size("20852163")) == (0, 20_852_163)
    for text in ("", "00", "-1", "+1", "1 ", "\u0661"):
        with pytest.raises(NoteError):
            read_size(text)
    for line in ("", "AAAA", write_hashes([ROOT]).strip()[:-2] + "==", write_hashes([ROOT])):
        with pytest.raises(NoteError):
            read_hashes([line])


GOLDEN = (
    "audit.example.com/decisions\n"
    "20852163\n"
    "PAb5plclr2BSYfY2ZyyWINQJcx2JpFHXRV/pxK4WeCk=\n"
    "\n"
    "— audit.example.com/decisions GKUimoaCU1M8wqpzK2tHeKjAO+2j/kEhORS/9bhv+dl6ouowWh"
    "fv8ZffIMIrG8/zvs9CE+NR86MOQfGMj0JLuLhZsgQ=\n"
    "— witness.example.org/w1 88CAtgAAAABpHmaAt5T5Mt9kJCbC8MtwdoSQMadifCssmMD8sJlStPI"
    "5NxoHI8XO6mb9B7L455HD1PuGnSh6g+x1K60n9NLrOgLbAA==\n"
)
