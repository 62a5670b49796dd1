"""An export proves itself to whoever has the log's key: each way to tamper with it is found, by verify.py alone."""

from __future__ import annotations

import ast
import asyncio
import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cli import verify
from engine import merkle
from engine.arbiter import Caller
from engine.assembly import Settings
from engine.notes import COSIGNATURE, Checkpoint, cosign, sign, verifier
from engine.receipt import Signer, sign_batch
from engine.vault import KeyFile
from tests import books
from tests.test_cli import arbiter, good

SHOPS = ("shop-a", "shop-b")
WITNESS = Signer("witness.example.org/w1", bytes(range(32)))
STRANGER = Signer("arbiter.local/ledger", bytes(range(32)))


TESTS = """\
    tests:
      - {it: fires on a bad network, event: {amount: 5 CNY, ip: 192.0.2.7}, expect: fires}
      - {it: cannot say elsewhere without a card, event: {amount: 5 CNY, ip: 198.51.100.7}, expect: unknown}
"""
"""Of the last rule in `books.RULES`."""


@dataclass(frozen=True)
class Made:
    """A ledger with two exports: of its beginning, and of all of it."""

    env: dict[str, str]
    early: Path
    whole: Path
    signer: Signer
    answers: list[dict[str, Any]]

    @property
    def key(self) -> str:
        return verifier(self.signer).text


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("export")
    env = {"ARBITER_DATABASE_URL": f"sqlite:///{folder}/a.db", "ARBITER_KEY_FILE": f"{folder}/keys.json"}
    env |= {"ARBITER_RULES": f"{folder}/rules", "ARBITER_POLICIES": f"{folder}/policies"}
    good("keys", "init", **env)
    good("keys", "create", "li.si", "--person", "--scope", "audit", "--tenant", "shop-a", **env)
    answers = asyncio.run(_lived(env, folder, range(20)))
    good("audit", "export", "--out", folder / "early", **env)
    answers += asyncio.run(_lived(env, folder, range(20, 40)))
    good("audit", "export", "--out", folder / "whole", **env)
    signer = KeyFile.read(folder / "keys.json").signer
    return Made(env, folder / "early", folder / "whole", signer, answers)


async def _lived(env: dict[str, str], folder: Path, numbers: range) -> list[dict[str, Any]]:
    """Decisions of two shops, a tier, list entries, a case that ended, and another rulebook: what came back."""
    clock = books.Clock()
    clock.now += numbers.start * books.MINUTE
    given = Settings(env["ARBITER_DATABASE_URL"], "", folder / "keys.json", folder / "rules", folder / "policies")
    amount = 41 + numbers.start // 20
    books.write(folder, books.SMALL | {"rules/small.yaml": books.RULES.replace("41 CNY", f"{amount} CNY") + TESTS})
    async with books.running(given, clock) as one:
        answers = []
        for number in numbers:
            caller = Caller("checkout", "service", SHOPS[number % 4 == 3], frozenset({"score"}))
            worth = (5, 41, 61, 90)[number % 4]
            answers.append(
                await books.judged(one, books.payment(f"=e{number}", worth, order_id=f"{number:014}"), caller)
            )
        ended = {"what": "review", "result": "approved", "reason": "the buyer rang"}
        await one.resolve(answers[2]["id"], json.dumps(ended).encode(), books.LI)
        await one.set_merchant_tier(f"m-{numbers.start}", b'{"tier": "watched", "reason": "new"}', books.LI)
    return answers


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    """The whole export, to tamper with."""
    shutil.copytree(made.whole, tmp_path / "copy")
    return tmp_path / "copy"


def verified(folder: Path, *more: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """What verify.py says of an export."""
    code = verify.main(list(map(str, (folder, *more))))
    return code, "".join(capsys.readouterr())


# ------------------------------------------------------------------------------------------------ it holds


def test_an_export_holds_by_its_own_script_which_needs_no_arbiter(made: Made) -> None:
    """verify.py runs as it lies in the export, and imports Python's own library and cryptography alone."""
    script = made.whole / "verify.py"
    typed = [sys.executable, "-I", script, made.whole, "--key", made.key]
    said = subprocess.run(typed, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout.splitlines()[-1]) == (0, "all of it holds"), said

    nodes = list(ast.walk(ast.parse(script.read_text("utf-8"))))
    named = {each.name for node in nodes if isinstance(node, ast.Import) for each in node.names}
    named |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in named} - sys.stdlib_module_names == {"cryptography"}


def test_every_checkpoint_that_was_kept_is_the_beginning(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """The checkpoint of the early export is that of the whole one's beginning, and stands for the key."""
    code, said = verified(made.whole, "--against", made.early / "checkpoint", capsys=capsys)
    assert code == 0
    assert "it goes on from the checkpoint of" in said


def test_the_entries_are_in_the_order_of_the_log_with_all_that_happened(made: Made) -> None:
    """Decisions, a resolution, changes and the exports themselves, each with who did it."""
    records = [json.loads(line) for line in (made.whole / "entries.jsonl").read_bytes().splitlines()]
    manifest = json.loads((made.whole / "manifest.json").read_bytes())

    assert [each["id"] for each in records if each["type"] == "decision"] == [each["id"] for each in made.answers]
    assert {each["type"] for each in records} == {"decision", "resolution", "change", "access"}
    exports = [each for each in records if each["type"] == "access"]
    assert [(each["what"], each["by"]["kind"], each["purpose"]) for each in exports] == [
        ("export", "person", "audit")
    ] * 2
    assert records[-1] == exports[-1], "its own record is the last one"
    assert (manifest["first"], manifest["end"], manifest["size"]) == (0, len(records), len(records))


def test_a_period_has_all_between_its_first_and_last_entry(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also in the middle of the log it proves that nothing between is missing."""
    period = ("--from", "2026-11-23T12:20:00Z", "--to", "2026-11-23T12:39:00Z")
    good("audit", "export", *period, "--against", made.early / "checkpoint", "--out", tmp_path / "x", **made.env)
    manifest = json.loads((tmp_path / "x/manifest.json").read_bytes())
    records = [json.loads(line) for line in (tmp_path / "x/entries.jsonl").read_bytes().splitlines()]

    assert 0 < manifest["first"] < manifest["end"] < manifest["size"]
    assert {each["id"] for each in records if each["type"] == "decision"} == {each["id"] for each in made.answers[20:]}
    for more in ((), ("--against", made.early / "checkpoint"), ("--against", made.whole / "checkpoint")):
        code, said = verified(tmp_path / "x", "--key", made.key, *more, capsys=capsys)
        # From the checkpoint of the whole export, which lies behind the period, no proof was asked for.
        assert code == ("whole" in str(more)), said


def test_a_tenant_sees_of_others_only_hashes(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And its own entries prove to be in the same log."""
    good("audit", "export", "--tenant", "shop-b", "--out", tmp_path / "x", **made.env)
    records = [json.loads(line) for line in (tmp_path / "x/entries.jsonl").read_bytes().splitlines()]

    assert {each["tenant"] for each in records} == {"shop-b", "*"}
    assert {each["what"] for each in records if each["tenant"] == "*"} == {"rulebook"}
    assert verified(tmp_path / "x", "--key", made.key, capsys=capsys)[0] == 0
    places = (tmp_path / "x/positions.txt").read_text().split()
    for altered in ([*places[:-1], str(int(places[-1]) + 1)], places[:-1], [*places, "999"]):
        shutil.copytree(tmp_path / "x", tmp_path / "y", dirs_exist_ok=True)
        (tmp_path / "y/positions.txt").write_text("".join(f"{each}\n" for each in altered))
        assert verified(tmp_path / "y", "--key", made.key, capsys=capsys)[0] == 1


def test_a_period_without_entries_holds(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says that nothing is in it."""
    good("audit", "export", "--from", "2020-01-31", "--to", "2020-01-31", "--out", tmp_path / "x", **made.env)
    assert (tmp_path / "x/entries.jsonl").read_bytes() == b""
    assert verified(tmp_path / "x", "--key", made.key, capsys=capsys)[0] == 0


# ------------------------------------------------------------------------------------- the tamper matrix


def lines(folder: Path) -> list[bytes]:
    return (folder / "entries.jsonl").read_bytes().splitlines()


def put(folder: Path, entries: list[bytes]) -> None:
    (folder / "entries.jsonl").write_bytes(b"".join(entry + b"\n" for entry in entries))


def resealed(folder: Path, signer: Signer, *, fork: bool = False) -> None:
    """Sign the manifest over what is there now; with `fork` also the tree, the checkpoints and all that follows from
    the entries: what an insider with the key can do."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    if fork:
        entries = lines(folder)
        leaves = [merkle.leaf_hash(entry) for entry in entries]
        sizes = {"first": 0, "end": len(leaves), "size": len(leaves)}
        (folder / "tree.json").write_text(json.dumps({**sizes, "left": [], "right": []}))
        note = sign(Checkpoint(signer.log, len(leaves), merkle.root(leaves)).text, signer)
        (folder / "checkpoint").write_text(note)
        (folder / "checkpoints.jsonl").write_text(json.dumps({"signed_at": "", "note": note}) + "\n")
        manifest |= {**sizes, "entries": len(entries)}
    (folder / "keys.json").write_text(json.dumps({"log": verifier(signer).text}))
    manifest["files"] = {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("manifest.json", "manifest.note")
    }
    data = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(data)
    text = f"arbiter export v1\n{signer.log}\n{sha256(data).hexdigest()}\n"
    (folder / "manifest.note").write_text(sign(text, signer))


def edit(folder: Path) -> None:
    entries = lines(folder)
    (at, *_) = [number for number, entry in enumerate(entries) if b'"score":0' in entry]
    put(folder, [*entries[:at], entries[at].replace(b'"score":0', b'"score":1'), *entries[at + 1 :]])


def delete(folder: Path) -> None:
    entries = lines(folder)
    put(folder, entries[:3] + entries[4:])


def insert(folder: Path) -> None:
    entries = lines(folder)
    put(folder, [*entries[:3], entries[3], *entries[3:]])


def reorder(folder: Path) -> None:
    entries = lines(folder)
    put(folder, [*entries[:3], entries[4], entries[3], *entries[5:]])


def truncate(folder: Path) -> None:
    put(folder, lines(folder)[:-1])


def swap_rulebook(folder: Path) -> None:
    """Another rule under the old name: it would seem to have decided otherwise."""
    (file, *_) = (folder / "rulebooks").glob("*/rules/small.yaml")
    file.write_text(file.read_text("utf-8").replace("85 CNY", "86 CNY"), "utf-8")


def drop_rulebook(folder: Path) -> None:
    shutil.rmtree(next((folder / "rulebooks").iterdir()))


def edit_view(folder: Path) -> None:
    view = folder / "views/decisions.jsonl"
    view.write_text(view.read_text("utf-8").replace("decline", "approve"), "utf-8")


def add_file(folder: Path) -> None:
    (folder / "rulebooks/note.txt").write_text("all is well")


def other_checkpoint(folder: Path) -> None:
    """A checkpoint among those of the period that signs another tree."""
    with (folder / "checkpoints.jsonl").open("a") as file:
        note = json.loads((folder / "checkpoints.jsonl").read_text().splitlines()[0])["note"]
        size = int(note.split("\n")[1]) - 1
        made = sign(Checkpoint(STRANGER.log, size, merkle.leaf_hash(b"")).text, STRANGER)
        file.write(json.dumps({"signed_at": "", "note": made}) + "\n")


EDITS: dict[str, Callable[[Path], None]] = {
    "edit": edit,
    "delete": delete,
    "insert": insert,
    "reorder": reorder,
    "truncate": truncate,
    "swapped rulebook": swap_rulebook,
    "missing rulebook": drop_rulebook,
    "edited view": edit_view,
    "added file": add_file,
    "foreign checkpoint": other_checkpoint,
}
IN_THE_TREE = ("edit", "delete", "insert", "reorder", "truncate")


@pytest.mark.parametrize("what", EDITS)
def test_whatever_is_done_without_the_key_is_found(
    made: Made, copy: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Any change to any file."""
    EDITS[what](copy)
    code, said = verified(copy, "--key", made.key, capsys=capsys)
    assert (code, "it does NOT hold" in said) == (1, True)


@pytest.mark.parametrize("what", [*IN_THE_TREE, "swapped rulebook", "missing rulebook"])
def test_a_manifest_signed_anew_hides_nothing(
    made: Made, copy: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who can sign, but leaves the checkpoint as it is, is found by the tree and by the rulebooks' names."""
    EDITS[what](copy)
    resealed(copy, made.signer)
    code, said = verified(copy, "--key", made.key, capsys=capsys)
    assert code == 1, said


@pytest.mark.parametrize("what", IN_THE_TREE)
def test_a_fork_signed_anew_is_found_by_a_checkpoint_that_a_witness_kept(
    made: Made, copy: Path, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An insider with the key rewrites the log and signs all of it: alone it holds. That is why there are witnesses."""
    kept = made.whole / "checkpoint" if what == "truncate" else made.early / "checkpoint"
    EDITS[what](copy)
    resealed(copy, made.signer, fork=True)

    assert verified(copy, "--key", made.key, capsys=capsys)[0] == 0
    code, said = verified(copy, "--key", made.key, "--against", kept, capsys=capsys)
    assert code == 1
    assert "cut off" in said if what == "truncate" else "more than one history" in said
    witnessed = verifier(WITNESS, COSIGNATURE).text
    code, said = verified(copy, "--key", made.key, "--witness", witnessed, capsys=capsys)
    assert (code, "witness witness.example.org/w1: it signed none" in said) == (1, True)


def test_a_witnessed_checkpoint_of_another_history_vouches_for_nothing(
    made: Made, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An insider forks the log, and adds the genuine checkpoint that a witness signed, of more entries than are here:
    it cannot be held against them."""
    note = (made.whole / "checkpoint").read_text()
    seen = note + cosign(note.partition("\n\n")[0] + "\n", WITNESS, 1_763_600_000)
    for what in ("edit", "truncate"):
        shutil.rmtree(copy)
        shutil.copytree(made.whole, copy)
        EDITS[what](copy)
        EDITS["truncate"](copy)
        resealed(copy, made.signer, fork=True)
        with (copy / "checkpoints.jsonl").open("a") as file:
            file.write(json.dumps({"signed_at": "", "note": seen}) + "\n")
        resealed(copy, made.signer)
        code, said = verified(copy, "--key", made.key, "--witness", verifier(WITNESS, COSIGNATURE).text, capsys=capsys)
        assert (code, "cannot be held against these entries" in said) == (1, True), said


def test_the_logs_own_key_is_no_witness(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor the same key called one."""
    for kind in (1, COSIGNATURE):
        own = verifier(made.signer, kind).text
        code, said = verified(made.whole, "--key", made.key, "--witness", own, capsys=capsys)
        assert (code, "is no key of a witness" in said) == (2, True)


@pytest.mark.parametrize("below", ["hello\n", "\u2014 a AAAA\n", "\n"])
def test_a_note_with_something_else_below_it_is_none(
    made: Made, copy: Path, below: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever follows the signature must be signatures."""
    with (copy / "manifest.note").open("a", encoding="utf-8") as file:
        file.write(below)
    assert verified(copy, "--key", made.key, capsys=capsys)[0] == 1


def test_a_link_is_no_file_of_an_export(
    made: Made, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may lead to something else after the check."""
    (copy / "views/more").symlink_to(tmp_path)
    code, said = verified(copy, "--key", made.key, capsys=capsys)
    assert (code, "is a link" in said) == (1, True)


def test_what_stands_in_an_export_cannot_pass_for_a_line_of_the_check(
    made: Made, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line end in the exporter's name stays on its line."""
    manifest = json.loads((copy / "manifest.json").read_bytes())
    manifest["by"]["name"] = "x\nok    witness w: it signed all"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    resealed(copy, made.signer)
    code, said = verified(copy, "--key", made.key, capsys=capsys)
    assert (code, "\nok    witness" in said) == (0, False)
    (copy / "keys.json").write_text(json.dumps({"log": "x\x1b[8m\nall of it holds"}))
    code, said = verified(copy, "--key", made.key, capsys=capsys)
    assert (code, "\x1b" in said, "\nall of it holds" in said) == (1, False, False)


def test_a_pipe_in_an_export_is_not_waited_for(made: Made, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "checkpoint").unlink()
    os.mkfifo(copy / "checkpoint")
    code, said = verified(copy, "--key", made.key, capsys=capsys)
    assert (code, "checkpoint is no file" in said) == (2, True)


def test_a_receipt_beyond_all_time_is_none(
    made: Made, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = made.answers[0]["receipt"] | {"max_merge_delay_s": 10**12}
    (tmp_path / "receipt.json").write_text(json.dumps(receipt))
    code, said = verified(copy, "--key", made.key, "--receipt", tmp_path / "receipt.json", capsys=capsys)
    assert (code, "is no receipt" in said) == (2, True)


def test_an_edit_is_told_with_where_it_may_be(made: Made, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After the last checkpoint that holds, and not as a second history, which an edit alone does not show."""
    edit(copy)
    _, said = verified(copy, "--key", made.key, capsys=capsys)
    assert "altered, moved, taken out or put in at position " in said
    assert "more than one history" not in said


@pytest.mark.parametrize("altered", [{"kind": "event"}, {"tenant": "shop-c"}, {"id": "0"}], ids=str)
def test_a_row_that_does_not_say_what_its_leaf_says_is_not_exported(
    made: Made, tmp_path: Path, altered: dict[str, str]
) -> None:
    """Who has the database and not the key could else have a decision left out of the tables."""
    shutil.copy(made.env["ARBITER_DATABASE_URL"].removeprefix("sqlite:///"), tmp_path / "a.db")
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        ((column, value),) = altered.items()
        connection.execute(f'UPDATE entry SET "{column}" = ? WHERE "row" = 2', (value,))
        connection.commit()
    env = made.env | {"ARBITER_DATABASE_URL": f"sqlite:///{tmp_path}/a.db"}
    ended = arbiter("audit", "export", "--out", str(tmp_path / "out"), **env)
    assert (ended.exit_code, "it does not say what its leaf says" in ended.stderr) == (1, True)
    assert [path for path in tmp_path.iterdir() if path.name.startswith("out")] == []


def test_who_outside_did_not_see_the_checkpoint_is_told_by_the_check(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A witness that is away, or refuses the log: an export is made all the same, and says so to whoever checks it."""
    witness = f"{verifier(WITNESS, COSIGNATURE).text} http://127.0.0.1:1"
    good("audit", "export", "--out", tmp_path / "out", **made.env, ARBITER_WITNESSES=witness)
    code, said = verified(tmp_path / "out", "--key", made.key, capsys=capsys)
    assert (code, " did not see its checkpoint: " in said) == (0, True)
    assert " did not see its checkpoint: " not in verified(made.whole, "--key", made.key, capsys=capsys)[1]


def test_what_a_killed_try_left_is_in_nobody_s_way(made: Made, tmp_path: Path) -> None:
    for name in ("out.part", "out.part-0123456789ab"):
        (tmp_path / "exports" / name).mkdir(parents=True)
    good("audit", "export", "--out", tmp_path / "exports/out", **made.env)


def test_the_lines_that_differ_between_two_rulebooks_are_beside_the_tables(made: Made) -> None:
    (change,) = [
        json.loads(line)
        for line in (made.whole / "views/changes.jsonl").read_bytes().splitlines()
        if json.loads(line)["what"] == "rulebook"
    ]
    name = f"{change['before'][:16]}-{change['after'][:16]}.diff"
    lines = (made.whole / "views/diffs" / name).read_text().splitlines()
    assert [line for line in lines if "CNY" in line and line[0] in "+-"][:1] != []
    assert lines[0].startswith("--- before/rules/small.yaml")


def test_a_witness_who_signed_is_recognised(made: Made, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a signature that was copied from another checkpoint is not."""
    note = (copy / "checkpoint").read_text()
    text = note.partition("\n\n")[0] + "\n"
    witnessed = ("--key", made.key, "--witness", verifier(WITNESS, COSIGNATURE).text)
    for signed, code in ((text, 0), (text.replace("\n", "0\n", 1), 1)):
        (copy / "checkpoint").write_text(note + cosign(signed, WITNESS, 1_763_600_000))
        resealed(copy, made.signer)
        assert verified(copy, *witnessed, capsys=capsys)[0] == code


@pytest.mark.parametrize("fork", [True, False])
def test_a_foreign_key_is_found(made: Made, copy: Path, fork: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything signed by another key of the same name."""
    resealed(copy, STRANGER, fork=fork)
    for known in (("--key", made.key), ("--against", made.early / "checkpoint")):
        assert verified(copy, *known, capsys=capsys)[0] == 1


def test_without_a_key_or_a_checkpoint_nothing_is_checked(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """An export proves nothing by itself; and a key that was cut is no key."""
    with pytest.raises(SystemExit) as stopped:
        verify.main([str(made.whole)])
    assert stopped.value.code == 2
    assert verified(made.whole, "--key", made.key[:-4], capsys=capsys)[0] == 2
    assert verified(made.whole.parent, "--key", made.key, capsys=capsys)[0] == 2


# ------------------------------------------------------------------------------------------------ receipts


@pytest.fixture
def receipt(made: Made, tmp_path: Path) -> Path:
    """An answer that a shop kept."""
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(made.answers[5]))
    return path


def test_a_receipt_is_redeemed(made: Made, receipt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the entry stands is said; in an export that does not hold it, that is no omission yet."""
    code, said = verified(made.whole, "--key", made.key, "--receipt", receipt, capsys=capsys)
    assert (code, "receipt answer.json: its entry is at position" in said) == (0, True)


def test_an_omission_is_proved_by_the_receipt(
    made: Made, copy: Path, receipt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log is rewritten without the entry, and signed: the receipt, signed by the same key, says otherwise."""
    id = made.answers[5]["id"].encode()
    put(copy, [entry for entry in lines(copy) if id not in entry])
    for days, told in ((-1, "which was made too early"), (1, "OMITTED: promised")):
        manifest = json.loads((copy / "manifest.json").read_bytes())
        exported = datetime.fromisoformat(made.answers[5]["receipt"]["signed_at"]) + timedelta(days=days)
        (copy / "manifest.json").write_text(json.dumps(manifest | {"exported_at": exported.isoformat()}))
        resealed(copy, made.signer, fork=True)

        assert verified(copy, "--key", made.key, capsys=capsys)[0] == 0
        code, said = verified(copy, "--key", made.key, "--receipt", receipt, capsys=capsys)
        assert (code, told in said) == (1, True), said


def test_a_receipt_of_another_key_or_altered_is_none(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It proves nothing against the log."""
    foreign = sign_batch(STRANGER, [merkle.leaf_hash(b"{}")], 1)[1][0].json()
    own = json.loads(json.dumps(made.answers[5]["receipt"]))
    own["leaf_hash"] = "00" * 32
    for number, (told, code) in enumerate(((foreign, 1), (own, 1), ({}, 2), ([], 2), ({"receipt": None}, 2))):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(told))
        assert verified(made.whole, "--key", made.key, "--receipt", path, capsys=capsys)[0] == code


# --------------------------------------------------------------------------------------------------- views


def test_the_tables_say_the_same_in_every_format(made: Made, tmp_path: Path) -> None:
    """JSON lines, CSV for spreadsheets, and Parquet: the same rows, ids as text, formulas escaped."""
    shown = {}
    for form in ("jsonl", "csv", "parquet"):
        good("audit", "export", "--to", "2026-11-24", "--format", form, "--out", tmp_path / form, **made.env)
        shown[form] = tmp_path / form / "views"
    told = [json.loads(line) for line in (shown["jsonl"] / "decisions.jsonl").read_text("utf-8").splitlines()]
    table = pq.read_table(shown["parquet"] / "decisions.parquet").to_pylist()
    raw = (shown["csv"] / "decisions.csv").read_bytes()
    rows = list(csv.DictReader(raw.decode("utf-8-sig").splitlines()))

    assert raw.startswith(b"\xef\xbb\xbf")
    assert len(told) == len(table) == len(rows) == 40
    for one, other, row in zip(told, table, rows, strict=True):
        assert (one["id"], one["signals"], one["score"]) == (other["id"], other["signals"], other["score"])
        assert other["at"].isoformat().replace("+00:00", "Z") == one["at"] == row["at"]
        assert row["event_id"] == f"'{one['event_id']}", "it begins with ="
        assert row["order_id"] == f"'{one['order_id']}", "a spreadsheet would drop its zeros"
        assert row["signals"] == ";".join(one["signals"])


def test_changes_accesses_and_keys_are_told_with_who_and_what_followed(made: Made) -> None:
    """The rulebook that came with a start: which files differ, and how many decisions it gave."""

    def view(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (made.whole / f"views/{name}.jsonl").read_text("utf-8").splitlines()]

    (change,) = [each for each in view("changes") if each["what"] == "rulebook"]
    assert (change["diff"], change["decisions"], change["by"]) == (["~ rules/small.yaml"], 20, "start")
    assert change["tests"] == 2
    tiers = [each for each in view("changes") if each["what"] == "merchant_tier"]
    assert [(each["object"], each["after"], each["person"]) for each in tiers] == [
        ("m-0", "watched", "li.si"),
        ("m-20", "watched", "li.si"),
    ]
    assert [each["what"] for each in view("access")] == ["export", "export"]
    by_people = [(each["said"], each["person"]) for each in view("resolutions") if each["by_kind"] == "person"]
    assert by_people == [("approved", "li.si")] * 2
    (key,) = view("keys")
    assert (key["name"], key["scopes"], key["records"]) == ("li.si", ["audit"], 4)
    assert key["last_record"] == tiers[-1]["position"]
    assert key["granted"]


def test_keys_are_told_by_their_records_and_one_without_as_such(made: Made, tmp_path: Path) -> None:
    """Who has the database cannot take a scope back that was granted, nor let in a key that nobody was."""
    shutil.copy(made.env["ARBITER_DATABASE_URL"].removeprefix("sqlite:///"), tmp_path / "a.db")
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute("UPDATE api_key SET scopes = 'score'")
        connection.execute(
            "INSERT INTO api_key (hash, tenant, name, kind, scopes, created) "
            "VALUES (?, 'shop-a', 'x', 'service', 'admin', 1)",
            (bytes(32),),
        )
        connection.commit()
    env = made.env | {"ARBITER_DATABASE_URL": f"sqlite:///{tmp_path}/a.db"}
    good("audit", "export", "--out", tmp_path / "out", **env)
    keys = [json.loads(line) for line in (tmp_path / "out/views/keys.jsonl").read_text().splitlines()]
    assert [(each["name"], each["scopes"], each["granted"] is None) for each in keys] == [
        ("li.si", ["audit"], False),
        ("x", ["admin"], True),
    ]


# --------------------------------------------------------------------------------------------------- tiles


def test_tiles_are_the_tree_in_the_form_that_other_programs_read(made: Made, tmp_path: Path) -> None:
    """C2SP tlog-tiles: the hashes of level 0, and the entries each behind its length."""
    good("audit", "export", "--tiles", "--out", tmp_path / "x", **made.env)
    entries = lines(tmp_path / "x")
    width = len(entries)

    assert (tmp_path / f"x/tile/0/000.p/{width}").read_bytes() == b"".join(map(merkle.leaf_hash, entries))
    bundle = (tmp_path / f"x/tile/entries/000.p/{width}").read_bytes()
    assert bundle == b"".join(len(entry).to_bytes(2) + entry for entry in entries)
    refused = arbiter("audit", "export", "--tiles", "--tenant", "shop-a", "--out", tmp_path / "y", **made.env)
    assert (refused.exit_code, (tmp_path / "y").exists()) == (2, False)


@pytest.fixture(autouse=True)
def _no_leftovers(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.glob("*.part*"))


GOPATH = Path("/usr/share/gocode")


@pytest.mark.slow
def test_a_program_in_go_that_knows_nothing_of_arbiter_says_the_same(made: Made, copy: Path, tmp_path: Path) -> None:
    """golang.org/x/mod's note and tlog check keys, checkpoints, consistency and inclusion, and find what is altered."""
    if shutil.which("go") is None or not (GOPATH / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.skip("needs Debian's golang-go and golang-golang-x-mod-dev")
    program = tmp_path / "verify"
    env = os.environ | {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOCACHE": str(tmp_path / "cache")}
    source = Path(__file__).with_name("verify.go")
    subprocess.run(["go", "build", "-o", program, source], env=env, check=True, timeout=250)

    def said(folder: Path, key: str = made.key) -> str:
        run = subprocess.run([program, folder, key], capture_output=True, text=True, check=False)
        return run.stdout + run.stderr

    good("audit", "export", "--against", made.early / "checkpoint", "--out", tmp_path / "x", **made.env)
    assert said(tmp_path / "x").startswith(f"OK {len(lines(tmp_path / 'x'))} entries")
    assert said(made.early).startswith("OK")
    assert "OK" not in said(made.whole, verifier(STRANGER).text)
    for what in IN_THE_TREE:
        shutil.rmtree(copy)
        shutil.copytree(made.whole, copy)
        EDITS[what](copy)
        assert "OK" not in said(copy), what
