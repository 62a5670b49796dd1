"""Decisions replayed: 2,000 of every kind come out as recorded, and whatever was altered does not."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from cli import main
from engine import database as db
from engine.arbiter import Caller
from engine.archive import Library
from engine.jcs import canonical
from engine.ledger import Ledger
from engine.replay import Past, Replayed, Replayer
from engine.retrieval import Retrieval
from engine.stores import MemoryStore, StoreUnavailable
from engine.vault import KeyFile
from tests import books, mixture
from tests.books import ROOT
from tests.vaults import vault_over

pytestmark = pytest.mark.timeout(600)

COUNT, MANY = 1_000, 100_000
DUTY = Caller("duty", "service", "shop-a", frozenset({"deploy"}))
MISSING_LIST = "list: lost\nabout: Whose text file is away.\nmatch: exact\nfile: lost.txt\n"
DEGRADED_RULE = """\
pack: degraded
about: Asks what is not there.
for: transaction
owner: tests
rules:
  - id: degraded.lost
    when: card.bin in list lost
    signal: lost_card
    because: {en: lost, zh: 丢失}
    basis: {kind: house-policy, review_by: 2027-05-31}
"""


@dataclass
class Ground:
    """A ledger on SQLite in which a mixture was decided."""

    folder: Path
    ids: list[str]

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/a.db"

    @property
    def environ(self) -> dict[str, str]:
        return {
            "ARBITER_DATABASE_URL": self.url,
            "ARBITER_KEY_FILE": str(self.folder / "keys.json"),
            "ARBITER_MODEL_DIR": str(self.folder / "models"),
        }

    def copy(self, to: Path) -> Ground:
        """The same ledger, to be altered: as a backup, for another test may be replaying from this one."""
        shutil.copytree(self.folder, to, ignore=shutil.ignore_patterns("a.db*"))
        db.backup(self.url, to / "a.db")
        return Ground(to, self.ids)

    def arbiter(self, *args: str, **environ: str) -> Result:
        return CliRunner().invoke(main, ["audit", *args], env={**self.environ, **environ})

    def exported(self, to: Path) -> Path:
        made = self.arbiter("export", "--out", str(to))
        assert made.exit_code == 0, made.output
        return to


async def decided(folder: Path, count: int) -> Ground:
    """Decisions with everything in force, and some without the store, the model and a list."""
    KeyFile.create(folder / "keys.json")
    ground = Ground(folder, [])
    mixture.write_packs(folder)
    await books.keep(ground.url, folder)
    async with mixture.deciding(folder, ground.url, folder / "keys.json") as (arbiter, clock):
        ground.ids += await mixture.decide_some(arbiter, clock, count * 9 // 10, seed=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MemoryStore, "observe", _dead)
            ground.ids += await mixture.decide_some(arbiter, clock, count // 40, seed=2)
        now = clock.now
    books.write(folder, {"rules/degraded.yaml": DEGRADED_RULE, "rules/lists/lost.yaml": MISSING_LIST})
    (folder / "models").rename(folder / "away")
    await books.keep(ground.url, folder)
    async with mixture.deciding(folder, ground.url, folder / "keys.json") as (arbiter, clock):
        clock.now = now
        for mode in ("guarded", "stop-payouts"):
            await arbiter.modes.switch(mode, b'{"for": "7d", "reason": "a drill"}', DUTY)
        ground.ids += await mixture.decide_some(arbiter, clock, count - len(ground.ids), seed=3)
    (folder / "away").rename(folder / "models")
    return ground


def _dead(*_: Any) -> Any:
    raise StoreUnavailable("gone")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """What tests alter they copy."""

    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / "ids.json").write_bytes(orjson.dumps(asyncio.run(decided(folder, COUNT)).ids))

    folder = once(tmp_path_factory, "replay-ground", make)
    return Ground(folder, orjson.loads((folder / "ids.json").read_bytes()))


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that is made once for all workers of a run."""
    root = factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder, done = root / name, root / f"{name}.done"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make(folder)
            done.touch()
    return folder


@dataclass(frozen=True)
class Met:
    """A decision with all that its replay at level full takes."""

    leaf: bytes
    replayer: Replayer
    past: Past | None
    why: tuple[str, ...]

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.leaf)
        return found

    def full(self) -> Replayed:
        return self.replayer.replay(self.leaf, self.past, self.why)

    def recorded(self) -> Replayed:
        return self.replayer.replay(self.leaf)


async def met(ground: Ground, ids: Sequence[str]) -> list[Met]:
    keys = KeyFile.read(ground.folder / "keys.json")
    ledger = await Ledger.open(ground.url, keys)
    try:
        library = Library(ledger.database, lambda: 0)
        retrieval = Retrieval(ledger, await vault_over(ledger.database, keys), ground.folder / "models")
        replayers: dict[str, Replayer] = {}
        found = []
        for id in ids:
            stored = await ledger.get("shop-a", id)
            assert stored is not None
            named = orjson.loads(stored.entry.leaf)["pins"]["rulebook"]
            if named not in replayers:
                replayers[named] = Replayer(await library.find(named))
            past, why = await retrieval.past(stored, replayers[named].rulebook)
            found.append(Met(stored.entry.leaf, replayers[named], past, why))
        return found
    finally:
        await ledger.close()


@pytest.fixture(scope="module")
def all_met(ground: Ground) -> list[Met]:
    return asyncio.run(met(ground, ground.ids))


@pytest.fixture(scope="module")
def some(ground: Ground) -> list[Met]:
    """A few of them, of every sort."""
    return asyncio.run(met(ground, ground.ids[::8]))


# ------------------------------------------------------------------------------- what was decided comes out again


def test_what_is_replayed_holds_everything_that_can_be_decided(all_met: list[Met]) -> None:
    records = [each.record for each in all_met]
    assert {record["event"]["kind"] for record in records} == set(books.shipped().judged)
    seen = Counter(name for record in records for name in _traits(record))
    for trait in (
        *("late_event", "thin_identity", "exempted", "shadow", "unusual", "challengers", "unknown", "no model"),
        *("deadline", "features_unavailable", "model_unavailable", "list_unavailable"),
        *(
            "mode True",
            "mode False",
            "tier trusted",
            "tier watched",
            "tier ",
            "list changed",
            "approve",
            "challenge",
            "review",
            "decline",
        ),
    ):
        assert seen[trait] >= 5, (trait, seen)
    assert len({rule for record in records for rule in record["found"]}) > 80


def _traits(record: Mapping[str, Any]) -> Iterator[str]:
    yield from (*record["notices"], *record["situation"]["degraded"], record["verdict"])
    yield from (name for name in ("exempted", "shadow", "unusual", "challengers") if record[name])
    yield f"tier {record['situation']['tier']}"
    yield from {f"mode {holds}" for holds in record["situation"].get("modes", {}).values()}
    if record["anomaly"] is None:
        yield "no model"
    if int(record["atoms"]["unknown"], 16):
        yield "unknown"
    own = books.shipped().lists.lists
    if any(pin != "unavailable" and name not in own for name, pin in record["pins"]["lists"].items()):
        yield "list changed"


def test_every_decision_comes_out_as_recorded_from_its_values(all_met: list[Met]) -> None:
    assert {(replayed.level, replayed.why, replayed.differences) for replayed in (each.full() for each in all_met)} == {
        ("full", (), ())
    }


def test_every_decision_comes_out_as_recorded_from_its_answers(all_met: list[Met]) -> None:
    assert {(replayed.level, replayed.differences) for replayed in (each.recorded() for each in all_met)} == {
        ("recorded", ())
    }


@pytest.mark.slow
def test_after_the_erasure_of_everybody_all_still_follows_from_the_answers(ground: Ground, tmp_path: Path) -> None:
    erased = ground.copy(tmp_path / "erased")
    asyncio.run(erase_everybody(erased))
    found = asyncio.run(met(erased, ground.ids))
    replayed = [each.full() for each in found]
    assert not [each for each in replayed if not each.equal]
    for each, how in zip(found, replayed, strict=True):
        subjects = [part["subject"] for part in each.record["sealed"]]
        assert how.level == ("recorded" if subjects else "full")
        assert how.why == tuple(f"the personal data of the {subject} was erased" for subject in subjects)
    assert {"recorded", "full"} == {how.level for how in replayed}


async def erase_everybody(ground: Ground) -> None:
    """No key of a subject, no ciphertext, no pseudonym and no digest is left."""
    tables = (db.subject_key, db.sealed, db.event_key, db.key_index, db.digest)
    await run_on(ground, *(delete(table) for table in tables))


async def run_on(ground: Ground, *statements: Any) -> None:
    opened = db.Database(ground.url)
    try:
        for statement in statements:
            await opened.write(lambda connection, said=statement: connection.execute(said))
    finally:
        await opened.close()


# ------------------------------------------------------------------------------------------ what was altered is found


def altered(each: Met, change: Callable[[dict[str, Any]], None]) -> Met:
    record = each.record
    change(record)
    return Met(canonical(record), each.replayer, each.past, each.why)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_an_answer_that_was_altered_is_found_from_the_values(some: list[Met], data: st.DataObject) -> None:
    each = data.draw(st.sampled_from(some))
    kind = each.replayer.rulebook.kinds[each.record["event"]["kind"]]
    bit, mask = data.draw(st.integers(0, len(kind.matcher.atoms) - 1)), data.draw(st.sampled_from(["true", "unknown"]))

    def flip(record: dict[str, Any]) -> None:
        record["atoms"][mask] = f"{int(record['atoms'][mask], 16) ^ 1 << bit:x}"

    found = altered(each, flip).full()
    assert not found.equal
    assert f"atoms[{bit}]" in [difference.path for difference in found.differences]


FOLLOWS = ("verdict", "score", "signals", "found", "shadow", "steps", "actions", "asks", "reasons", "notices")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_what_follows_from_the_answers_is_found_from_the_answers_alone(some: list[Met], data: st.DataObject) -> None:
    each, other = data.draw(st.sampled_from(some)), data.draw(st.sampled_from(some))
    part = data.draw(st.sampled_from(FOLLOWS))
    told = other.record[part] if other.record[part] != each.record[part] else _another(each.record[part])

    def alter(record: dict[str, Any]) -> None:
        record[part] = told

    assert not altered(each, alter).recorded().equal
    assert not altered(each, alter).full().equal


def _another(value: Any) -> Any:
    match value:
        case int():
            return value + 1
        case str():
            return value + "x"
        case list():
            return [*value, *value[:1]] if value else ["x"]
        case _:
            return {"x": 1}


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(record: dict[str, Any]) -> None:
        *parents, name = path.split(".")
        for parent in parents:
            record = record[parent]
        record[name] = value

    return change


ALTERED = [
    ("another format", _set("format", 2)),
    ("a part that nobody knows", _set("more", 1)),
    ("another rulebook's schema", _set("pins.schema", "0" * 64)),
    ("another list", _set("pins.lists.tor-exits", "0" * 64)),
    ("another time of decision", _set("decided_at", 1)),
    ("no reasons", _set("reasons", [])),
    ("an exception that nobody made", _set("exempted", [{"rule": "mixture.odd", "exemption": "none"}])),
    ("answers to what nobody asks", _set("atoms.true", "f" * 400)),
    ("no answers", _set("atoms", {})),
    ("another commitment", lambda record: record["sealed"][0].update(commitment="0" * 64)),
    ("another message", lambda record: record["reasons"][0]["message"].update(en="all is well")),
    ("an anomaly that the model did not give", _set("anomaly", "12.0")),
    ("what made it unusual", lambda record: record["unusual"][0].update(share=1)),
]


@pytest.mark.parametrize("change", [row[1] for row in ALTERED], ids=[row[0] for row in ALTERED])
def test_a_record_that_was_altered_is_different(some: list[Met], change: Callable[[dict[str, Any]], None]) -> None:
    each = next(each for each in some if each.record["unusual"] and each.record["sealed"] and each.record["reasons"])
    found = altered(each, change).full()
    assert not found.equal


def test_the_same_values_in_other_bytes_are_different(some: list[Met]) -> None:
    each = some[0]
    blank = Met(each.leaf.replace(b'"format":1', b'"format": 1'), each.replayer, each.past, ())
    assert [difference.about for difference in blank.full().differences] == [
        "its bytes are not the canonical JSON of the record"
    ]


def test_a_difference_names_the_question_and_the_rules_that_ask_it(some: list[Met]) -> None:
    each = next(each for each in some if "mixture.listed" in each.record["found"])
    kind = each.replayer.rulebook.kinds["transaction"]
    (bit,) = (number for number, atom in enumerate(kind.matcher.atoms) if "watched-accounts" in atom.text)

    def flip(record: dict[str, Any]) -> None:
        record["atoms"]["true"] = f"{int(record['atoms']['true'], 16) ^ 1 << bit:x}"

    (found,) = altered(each, flip).full().differences
    assert found.path == f"atoms[{bit}]"
    assert {found.recorded, found.recomputed} == {"true", "false"}
    assert found.about == "buyer.account in list watched-accounts  (asked by mixture.listed)"


# ------------------------------------------------------------------------------------------------- what is not there


def test_each_thing_that_is_lacking_is_told(ground: Ground, tmp_path: Path) -> None:
    lacking = ground.copy(tmp_path / "lacking")
    shutil.rmtree(lacking.folder / "models")
    asyncio.run(run_on(lacking, delete(db.list_entry), update(db.sealed).values(ciphertext=b"\x01\x01" + bytes(80))))
    found = [each.full() for each in asyncio.run(met(lacking, ground.ids[::8]))]
    assert not [each for each in found if not each.equal]
    told = {why for each in found for why in each.why}
    assert "what was on the list 'watched-accounts' then is not kept" in told
    assert any(why.startswith("sealed data cannot be opened: ") for why in told)
    assert any(why.startswith("the model ") and "cannot be had" in why for why in told)


def test_other_questions_are_no_replay(some: list[Met]) -> None:
    other = altered(some[0], _set("pins.questions", "0" * 64))
    assert (other.full().level, other.recorded().equal) == ("none", False)


# -------------------------------------------------------------------------------------------------- the command line


@pytest.fixture(scope="module")
def bundle(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "replay-bundle", ground.exported)


@pytest.fixture
def part(bundle: Path, tmp_path: Path) -> Path:
    """A few entries of the export, to be altered."""
    shutil.copytree(bundle, tmp_path / "part")
    entries = tmp_path / "part/entries.jsonl"
    entries.write_bytes(b"".join(entries.read_bytes().splitlines(keepends=True)[:200]))
    return tmp_path / "part"


def lines(result: Result) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in result.stdout.splitlines()]


def test_an_export_says_what_was_on_each_list_when_it_was_asked(bundle: Path, all_met: list[Met]) -> None:
    """A row for each list as a decision pins it; which entries that were follows from the rows of the entries."""

    def view(name: str) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in (bundle / f"views/{name}.jsonl").read_bytes().splitlines()]

    told = {(each["tenant"], each["list"], each["hash"]): each for each in view("lists")}
    pinned = {(met.record["tenant"], *pin) for met in all_met for pin in met.record["pins"]["lists"].items()}
    assert told.keys() == pinned
    for (tenant, name, held), row in told.items():
        since_then = [
            each["entry"]
            for each in view("listed")
            if (each["tenant"], each["list"]) == (tenant, name)
            and each["since"] <= (row["changes"] or 0)
            and (each["until"] is None or (row["changes"] or 0) < each["until"])
        ]
        if held == "unavailable":
            assert row["changes"] is None
        elif row["entries"] == 0:
            assert (since_then, held) == ([], row["files"])
        else:
            assert row["entries"] == len(set(since_then)) == len(since_then)
            assert held != row["files"]
    assert {row["entries"] for row in told.values()} > {None, 0, 1}, "lists of every sort"
    recorded = {change["object"] for change in view("changes") if change["what"].startswith("list_entry")}
    assert {f"{each['list']}/{each['entry']}" for each in view("listed")} <= recorded


def test_an_export_is_replayed_without_the_ledger(bundle: Path) -> None:
    ended = CliRunner().invoke(main, ["audit", "replay", str(bundle), "--level", "recorded"])
    assert (ended.exit_code, ended.stdout) == (0, "")
    assert ended.stderr == f"{COUNT:,} decisions: {COUNT:,} at level recorded, none came out otherwise\n"


def test_without_the_vault_each_line_says_so(bundle: Path) -> None:
    ended = CliRunner().invoke(main, ["audit", "replay", str(bundle), "--json"])
    assert ended.exit_code == 0
    found = lines(ended)
    assert len(found) == COUNT
    assert {(each["level"], each["equal"], *each["why"]) for each in found} == {
        ("recorded", True, "the vault was not opened")
    }


def test_an_export_is_replayed_from_its_values_with_the_vault(ground: Ground, bundle: Path) -> None:
    ended = ground.arbiter("replay", str(bundle), "--vault", "--level", "full")
    assert ended.exit_code == 0, ended.output[-2000:]
    assert ended.stderr == f"{COUNT:,} decisions: {COUNT:,} at level full, none came out otherwise\n"


def test_decisions_are_replayed_by_their_id_or_that_of_their_event(ground: Ground, some: list[Met]) -> None:
    record = some[0].record
    ended = ground.arbiter("replay", record["id"], record["event"]["id"], "--json")
    assert [(each["id"], each["event_id"], each["level"], each["equal"]) for each in lines(ended)] == [
        (record["id"], record["event"]["id"], "full", True)
    ] * 2
    assert ended.exit_code == 0


@pytest.mark.slow
def test_that_personal_values_were_opened_for_a_replay_is_recorded(
    ground: Ground, part: Path, tmp_path: Path, some: list[Met]
) -> None:
    """Of an export with its hash, of decisions one by one; nothing where only answers are taken."""
    copy, record = ground.copy(tmp_path / "copy"), some[0].record
    seen = {"*": 0, record["tenant"]: 0}

    async def new(tenant: str) -> list[tuple[str, str, int]]:
        """Those since it was last asked: other tests replay from the ledger that was copied."""
        ledger = await Ledger.open(copy.url, KeyFile.read(copy.folder / "keys.json"))
        found = [orjson.loads(leaf) for leaf in await ledger.accesses(tenant, "replay", 0)]
        await ledger.close()
        before, seen[tenant] = seen[tenant], len(found)
        return [(each["object"], each["purpose"], each["count"]) for each in found[before:]]

    for tenant in seen:
        asyncio.run(new(tenant))
    assert copy.arbiter("replay", record["id"], "--level", "recorded").exit_code == 0
    assert asyncio.run(new(record["tenant"])) == []
    assert copy.arbiter("replay", record["id"]).exit_code == 0
    assert asyncio.run(new(record["tenant"])) == [(record["id"], "audit", 1)]
    assert copy.arbiter("replay", str(part), "--vault").exit_code == 0
    manifest = sha256((part / "manifest.json").read_bytes()).hexdigest()
    mine = [line for line in (part / "entries.jsonl").read_text().splitlines() if '"type":"decision"' in line]
    count = sum(f'"tenant":"{record["tenant"]}"' in line for line in mine)
    assert asyncio.run(new(record["tenant"])) == [(f'{{"export":"{manifest}"}}', "audit", count)]
    assert asyncio.run(new("*")) == []


def test_an_export_without_a_decision_is_no_replay(part: Path) -> None:
    (part / "entries.jsonl").write_bytes(b"")
    ended = CliRunner().invoke(main, ["audit", "replay", str(part), "--level", "recorded"])
    assert (ended.exit_code, ended.stderr) == (1, "there is no decision to replay\n")


@pytest.mark.slow
def test_an_altered_verdict_is_shown_and_fails(part: Path) -> None:
    entries = part / "entries.jsonl"
    rows = entries.read_bytes().splitlines()
    at = next(i for i, row in enumerate(rows) if b'"type":"decision"' in row and b'"verdict":"decline"' in row)
    rows[at] = rows[at].replace(b'"verdict":"decline"', b'"verdict":"approve"')
    entries.write_bytes(b"\n".join(rows) + b"\n")
    ended = CliRunner().invoke(main, ["audit", "replay", str(part), "--level", "recorded"])
    assert ended.exit_code == 1
    record = orjson.loads(rows[at])
    assert ended.stdout == (
        f"{record['id']} ({record['event']['id']})  DIFFERENT at level recorded\n"
        "  verdict\n    recorded    approve\n    recomputed  decline\n"
    )
    assert ended.stderr.endswith("1 came out otherwise\n")


def test_level_full_is_a_failure_where_something_was_erased(ground: Ground, tmp_path: Path) -> None:
    erased = ground.copy(tmp_path / "erased")
    asyncio.run(erase_everybody(erased))
    assert erased.arbiter("replay", *ground.ids[:20]).exit_code == 0
    ended = erased.arbiter("replay", *ground.ids[:20], "--level", "full")
    assert ended.exit_code == 1
    assert "was erased" in ended.stdout
    assert ended.stderr.endswith("--level full: not all could be replayed at level full\n")


SPOILT = [
    (
        "a rulebook that is gone",
        lambda path: [shutil.rmtree(each) for each in path.glob("rulebooks/*")],
        "is not in the export",
    ),
    (
        "a rulebook without an exception",
        lambda path: [each.unlink() for each in path.glob("rulebooks/*/policies/exceptions/mixture.yaml")],
        "was altered: these files have the hash",
    ),
    (
        "a rulebook that is none",
        lambda path: [each.write_text("pack: [") for each in path.glob("rulebooks/*/rules/mixture.yaml")],
        "cannot be read by this version",
    ),
    ("a line that is no record", lambda path: (path / "entries.jsonl").write_bytes(b"[]\n"), "line 1  NOT REPLAYED"),
]


@pytest.mark.parametrize(("spoil", "says"), [row[1:] for row in SPOILT], ids=[row[0] for row in SPOILT])
def test_what_cannot_be_replayed_is_a_failure(part: Path, spoil: Any, says: str) -> None:
    spoil(part)
    ended = CliRunner().invoke(main, ["audit", "replay", str(part), "--level", "recorded"])
    assert ended.exit_code == 1
    assert "NOT REPLAYED" in ended.stdout
    assert says in ended.stdout


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["BUNDLE", "--level", "full"], "add --vault"),
        (["an-id", "--vault"], "--vault is for a BUNDLE"),
        (["an-id"], "there is no decision with the id 'an-id'"),
        (["FOLDER"], "it is no export"),
    ],
)
def test_what_cannot_be_asked_is_told(ground: Ground, bundle: Path, tmp_path: Path, args: list[str], says: str) -> None:
    named = {"BUNDLE": str(bundle), "FOLDER": str(tmp_path)}
    ended = ground.arbiter("replay", *(named.get(arg, arg) for arg in args))
    assert ended.exit_code != 0
    assert says in ended.stderr


def other_python() -> str:
    """The interpreter of the other version that has our packages. ARBITER_TEST_OTHER_PYTHON names one; else the path is
    searched."""
    version = "3.12" if sys.version_info[:2] == (3, 11) else "3.11"
    named = os.environ.get("ARBITER_TEST_OTHER_PYTHON") or shutil.which(f"python{version}")
    if named is None:
        pytest.skip(f"there is no Python {version} on the path, and ARBITER_TEST_OTHER_PYTHON names none")
    probe = f"import sys; assert sys.version_info[:2] == {tuple(map(int, version.split('.')))}; import cli.replaying"
    asked = subprocess.run([named, "-c", probe], capture_output=True, check=False, cwd=ROOT)
    if asked.returncode:
        pytest.skip(f"{named} is no Python {version} with Arbiter's packages; ARBITER_TEST_OTHER_PYTHON names one")
    return named


def by_other_python(bundle: Path) -> str:
    code = "from cli import main; main(prog_name='arbiter')"
    called = [other_python(), "-c", code, "audit", "replay", str(bundle), "--level", "recorded"]
    ended = subprocess.run(called, capture_output=True, check=False, cwd=ROOT, text=True)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    return ended.stderr


def test_the_other_python_replays_it_too(bundle: Path) -> None:
    assert by_other_python(bundle) == f"{COUNT:,} decisions: {COUNT:,} at level recorded, none came out otherwise\n"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ground, Path]:
    """A large ledger and its export."""
    folder = tmp_path_factory.mktemp("many")
    large = asyncio.run(decided(folder, MANY))
    return large, large.exported(folder / "all")


TOLD = f"{MANY:,} decisions: {MANY:,} at level {{}}, none came out otherwise\n"


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_a_hundred_thousand_come_out_as_recorded(many: tuple[Ground, Path]) -> None:
    """From their values, and after the erasure of everybody from their answers."""
    large, exported = many
    full = large.arbiter("replay", str(exported), "--vault", "--level", "full")
    assert (full.exit_code, full.stderr) == (0, TOLD.format("full"))
    asyncio.run(erase_everybody(large))
    erased = large.arbiter("replay", str(exported), "--vault")
    assert erased.exit_code == 0, erased.output[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_the_other_python_replays_a_hundred_thousand_too(many: tuple[Ground, Path]) -> None:
    assert by_other_python(many[1]) == TOLD.format("recorded")
