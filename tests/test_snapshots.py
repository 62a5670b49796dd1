"""A start from a snapshot knows what a start from the whole ledger knows. How pieces are written and read while events
come is compared with an oracle in `test_features`; here are the server, the file, and what goes wrong."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.arbiter import Arbiter
from engine.assembly import Settings, open_arbiter
from engine.errors import Conflict, SettingsError, Unavailable
from engine.features import Facts
from engine.snapshots import NAME
from engine.stores import COUNT, HOUR, RANKED, RUNS, STEPS, SUMS, VALUES, Gap, MemoryStore, Series, Touch
from engine.stores.snapshot import MAGIC, Snapshot, Unusable, encode, write
from engine.warmth import Warmth
from tests.books import RULES, SHOP, SMALL, Clock, judged, payment, running
from tests.books import write as write_packs
from tests.seeds import seeded

anyio = pytest.mark.anyio
CARD = {"card": {"ref": "card-1"}}


@pytest.fixture
def settings(ledger_url: str, key_path: Path, tmp_path: Path) -> Settings:
    """A small rulebook that finds the third payment on a card, once on SQLite and once on PostgreSQL."""
    return _settings(ledger_url, key_path, tmp_path)


@pytest.fixture
def on_sqlite(key_path: Path, tmp_path: Path, _migrated_sqlite: Path) -> Settings:
    """The same on SQLite alone."""
    shutil.copyfile(_migrated_sqlite, tmp_path / "arbiter.db")
    return _settings(f"sqlite:///{tmp_path / 'arbiter.db'}", key_path, tmp_path)


def _settings(url: str, key_path: Path, folder: Path) -> Settings:
    write_packs(folder, SMALL)
    packs = {"rules": folder / "rules", "policies": folder / "policies"}
    return Settings(url, key_file=key_path, snapshot_dir=folder / "snapshots", **packs)


@asynccontextmanager
async def killed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Arbiter]:
    """An Arbiter that ends without a last snapshot, as by kill -9."""
    async with running(settings, Clock()) as arbiter:
        yield arbiter

        async def nothing(*_: Any) -> None:
            pass

        monkeypatch.setattr(arbiter._warmth, "write_snapshot", nothing)


async def pay(arbiter: Arbiter, *ids: str) -> list[bool]:
    """Payments on one card: of which the rule said that they are too many."""
    return ["card_testing" in (await judged(arbiter, payment(id, **CARD)))["signals"] for id in ids]


async def restarted(settings: Settings, *ids: str) -> tuple[list[bool], list[str]]:
    """What `pay` says after a start, and what the start said of snapshots."""
    with capture_logs() as said:
        async with running(settings, Clock()) as arbiter:
            found = await pay(arbiter, *ids)
    return found, [one["event"] for one in said if one["event"] in ("snapshot_loaded", "snapshot_ignored")]


def no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody read the ledger for windows as far back as they reach."""

    async def never(*_: Any) -> Any:
        raise AssertionError("the whole history was read")

    monkeypatch.setattr(Warmth, "restore", never)


# ---------------------------------------------------------------- the server


@anyio
async def test_a_server_that_was_stopped_goes_on_without_the_ledger(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(settings, Clock()) as arbiter:
        await pay(arbiter, "p1", "p2")
    no_history(monkeypatch)

    assert await restarted(settings, "p3", "p2") == ([True, False], ["snapshot_loaded"])


@anyio
async def test_approximate_windows_are_read_from_the_ledger_beside_a_snapshot(settings: Settings) -> None:
    """Each event counts once, although the snapshot has the ids of all."""
    assert settings.rules is not None
    rough = "sum(amount in CNY last 2d by card.ref, including this, approximately)"
    both = RULES.replace("when: tries >= 3", f"when: tries >= 3 and {rough} == 15 CNY")
    write_packs(settings.rules.parent, {"rules/small.yaml": both})
    async with running(settings, Clock()) as arbiter:
        await pay(arbiter, "p1", "p2")

    assert await restarted(settings, "p3", "p4", "p2") == ([True, False, False], ["snapshot_loaded"])


@anyio
async def test_what_came_after_the_last_snapshot_is_read_from_the_ledger(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with killed(settings, monkeypatch) as arbiter:
        await pay(arbiter, "p1")
        await arbiter._warmth.write_snapshot()
        await pay(arbiter, "p2")
    no_history(monkeypatch)

    assert await restarted(settings, "p3") == ([True], ["snapshot_loaded"])


@anyio
async def test_an_event_that_was_written_although_nobody_knew_is_found_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commit was not acknowledged, so it was taken out of the windows before the snapshot."""
    async with killed(settings, monkeypatch) as arbiter:
        append = arbiter._ledger.append

        async def lossy(entry: Any) -> Any:
            await append(entry)
            raise Unavailable("no answer from the database", "verdict_unknown")

        with monkeypatch.context() as broken:
            broken.setattr(arbiter._ledger, "append", lossy)
            with pytest.raises(Unavailable):
                await pay(arbiter, "p1")
        await pay(arbiter, "p2")
        await arbiter._warmth.write_snapshot()

    assert await restarted(settings, "p3") == ([True], ["snapshot_loaded"])


@anyio
async def test_an_event_that_was_never_written_is_not_kept(
    on_sqlite: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose caller went away while it was on its way counts in this process, and nowhere else."""

    async def never(_: Any) -> Any:
        await asyncio.sleep(60)

    async with killed(on_sqlite, monkeypatch) as arbiter:
        await pay(arbiter, "p1")
        with monkeypatch.context() as broken:
            broken.setattr(arbiter._ledger, "append", never)
            task = asyncio.create_task(pay(arbiter, "lost"))
            await asyncio.sleep(0.05)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        assert await pay(arbiter, "p2") == [True]
        await arbiter._warmth.write_snapshot()

    assert await restarted(on_sqlite, "p1", "p2", "p3") == ([False, True, True], ["snapshot_loaded"])
    assert await restarted(on_sqlite, "p4") == ([True], ["snapshot_loaded"])


@anyio
async def test_events_that_come_while_it_is_written_are_in_the_windows_once(
    on_sqlite: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with killed(on_sqlite, monkeypatch) as arbiter:
        await pay(arbiter, *(f"a{n}" for n in range(20)))
        writing = asyncio.create_task(arbiter._warmth.write_snapshot(0.02))
        await pay(arbiter, *(f"b{n}" for n in range(20)))
        await writing
        expected = await counted(arbiter, "probe")
    async with killed(on_sqlite, monkeypatch) as arbiter:
        assert await counted(arbiter, "probe-2") == expected + 1


@anyio
@seeded(12, always=2, test=4)
async def test_a_start_from_a_snapshot_is_a_start_from_the_ledger(
    on_sqlite: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Callers at once, of which some go away; commits that fail, before and after they are written, or in doubt; a
    snapshot in between. Either start counts the same of every card."""
    random, cards = Random(seed), [f"card-{number}" for number in range(4)]

    async def attempt(arbiter: Arbiter, id: str) -> None:
        body = payment(id, card={"ref": random.choice(cards)})
        with suppress(Unavailable, Conflict, TimeoutError):
            async with asyncio.timeout(random.choice((0.0005, 0.002, 5, 5, 5))):
                await arbiter.decide(body, SHOP)

    async with killed(on_sqlite, monkeypatch) as arbiter:
        append = arbiter._ledger.append

        async def unsure(entry: Any) -> Any:
            throw = random.random()
            await asyncio.sleep(random.choice((0, 0.001)))
            if throw < 0.1:
                raise Unavailable("too many wait", "ledger_busy")
            if throw < 0.2:
                raise Unavailable("no answer", "verdict_unknown")
            receipt = await append(entry)
            if throw < 0.3:
                raise Unavailable("no answer", "verdict_unknown")
            return receipt

        monkeypatch.setattr(arbiter._ledger, "append", unsure)
        writing: list[asyncio.Task[None]] = []
        for wave in range(12):
            if wave in (4, 7):
                writing.append(asyncio.create_task(arbiter._warmth.write_snapshot(0.001)))
            ids = [f"p{random.randrange(20 * wave + 20)}" for _ in range(20)]
            await asyncio.gather(*(attempt(arbiter, id) for id in ids))
        await asyncio.gather(*writing)
    shutil.copyfile(tmp_path / "arbiter.db", tmp_path / "copy.db")
    copy = replace(on_sqlite, database_url=f"sqlite:///{tmp_path / 'copy.db'}", snapshot_dir=None)

    assert await all_counted(on_sqlite, cards) == await all_counted(copy, cards)


async def all_counted(settings: Settings, cards: list[str]) -> list[str]:
    """What the rule's window says of each card after a start."""
    found = []
    async with running(settings, Clock()) as arbiter:
        for card in cards:
            answer = await judged(arbiter, payment(f"probe-{card}", card={"ref": card}))
            found += [reason["message"]["en"] for reason in answer["reasons"] if reason["rule"] == "small.burst"]
    assert len(found) == len(cards)
    return found


async def counted(arbiter: Arbiter, id: str) -> int:
    """What the rule's window holds, this payment included."""
    answer = await judged(arbiter, payment(id, **CARD))
    (text,) = [reason["message"]["en"] for reason in answer["reasons"] if reason["rule"] == "small.burst"]
    return int(text.split()[0])


@anyio
async def test_a_window_that_is_new_is_read_from_the_ledger_and_the_others_are_not(
    on_sqlite: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(on_sqlite, Clock()) as arbiter:
        await pay(arbiter, "p1", "p2")
    wider = RULES.replace("tries >= 3", "tries >= 3 and count(last 10m by channel, including this) >= 0")
    write_packs(on_sqlite.rules.parent, {"rules/small.yaml": wider})

    with capture_logs() as said:
        async with running(on_sqlite, Clock()) as arbiter:
            assert await pay(arbiter, "p3") == [False]  # It has no channel, so that window is unknown.
            assert all(window["warm"] for window in arbiter.rulebook_info()["windows"])
    (loaded,) = [one for one in said if one["event"] == "snapshot_loaded"]
    assert (loaded["series"], loaded["of"]) == (1, 2)


@anyio
async def test_it_is_written_now_and_then(on_sqlite: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.warmth.SNAPSHOT_SECONDS", 0.02)
    async with killed(on_sqlite, monkeypatch) as arbiter:
        await pay(arbiter, "p1")
        async with asyncio.timeout(5):
            while not snapshot_of(on_sqlite).exists():  # noqa: ASYNC110
                await asyncio.sleep(0.01)


# ---------------------------------------------------------------- what must not be used


def snapshot_of(settings: Settings) -> Path:
    assert settings.snapshot_dir is not None
    return settings.snapshot_dir / NAME


def damaged(settings: Settings) -> None:
    path = snapshot_of(settings)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(settings: Settings) -> None:
    path = snapshot_of(settings)
    path.write_bytes(path.read_bytes()[:-1])


def empty(settings: Settings) -> None:
    snapshot_of(settings).write_bytes(b"")


def of_another_format(settings: Settings) -> None:
    path = snapshot_of(settings)
    content = path.read_bytes()[len(MAGIC) : -32]
    path.write_bytes(MAGIC.replace(b"1", b"0") + content + sha256(content).digest())


def with_another(what: str, value: Any) -> Callable[[Settings], None]:
    def change(settings: Settings) -> None:
        with Snapshot.open(snapshot_of(settings)) as snapshot:
            head = snapshot.head
        write(snapshot_of(settings), head | {what: value}, ())

    return change


SPOILT: dict[str, tuple[Callable[[Settings], None], str]] = {
    "damaged": (damaged, "damaged"),
    "cut short": (cut_short, "damaged"),
    "empty": (empty, "another format"),
    "of another format": (of_another_format, "another format"),
    "of another key file": (with_another("key_file", "0" * 32), "another key file"),
    "of another ledger": (with_another("witness", [1, "another"]), "another ledger"),
    "of a ledger that was restored": (with_another("witness", [99_999, "gone"]), "another ledger"),
    "with a shorter lateness": (with_another("lateness", HOUR), "other limits"),
    "with another cap": (with_another("cap", 5), "other limits"),
    "of other windows": (with_another("series", {}), "none of the windows"),
}


@anyio
@pytest.mark.parametrize("how", SPOILT)
async def test_one_that_must_not_be_used_is_told_and_the_ledger_has_all_of_it(on_sqlite: Settings, how: str) -> None:
    spoil, reason = SPOILT[how]
    async with running(on_sqlite, Clock()) as arbiter:
        await pay(arbiter, "p1", "p2")
    spoil(on_sqlite)

    with capture_logs() as said:
        async with running(on_sqlite, Clock()) as arbiter:
            assert await pay(arbiter, "p3") == [True]
    (ignored,) = [one for one in said if one["event"] == "snapshot_ignored"]
    assert (ignored["log_level"], reason in ignored["reason"]) == ("warning", True)
    # The stop put a sound one in its place.
    assert await restarted(on_sqlite, "p4") == ([True], ["snapshot_loaded"])


@anyio
async def test_a_ledger_restored_from_a_backup_is_not_given_what_it_lost(
    on_sqlite: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(on_sqlite, Clock()) as arbiter:
        await pay(arbiter, "p1")
    shutil.copyfile(tmp_path / "arbiter.db", tmp_path / "backup.db")
    async with running(on_sqlite, Clock()) as arbiter:
        await pay(arbiter, "p2")
    (tmp_path / "backup.db").replace(tmp_path / "arbiter.db")

    assert await restarted(on_sqlite, "p3", "p4") == ([False, True], ["snapshot_ignored"])


# ---------------------------------------------------------------- the file


@anyio
async def test_it_is_for_its_user_alone_and_holds_pseudonyms_only(on_sqlite: Settings) -> None:
    async with running(on_sqlite, Clock()) as arbiter:
        await judged(arbiter, payment("p1", **CARD, ip="203.0.113.77", buyer={"email": "someone@example.com"}))
    path = snapshot_of(on_sqlite)
    content = path.read_bytes()

    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert b"p1" in content
    for personal in (b"card-1", b"203.0.113.77", b"someone@example.com"):
        assert personal not in content


@anyio
async def test_one_that_cannot_be_written_is_told_and_leaves_the_last(
    on_sqlite: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(on_sqlite, Clock()) as arbiter:
        await pay(arbiter, "p1")
    before = snapshot_of(on_sqlite).read_bytes()

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.stores.snapshot.os.fsync", full)
    with capture_logs() as said:
        async with running(on_sqlite, Clock()) as arbiter:
            await arbiter._warmth.write_snapshot()
    assert {one["event"] for one in said if "snapshot" in one["event"]} == {"snapshot_loaded", "snapshot_failed"}
    assert snapshot_of(on_sqlite).read_bytes() == before
    assert [path.name for path in snapshot_of(on_sqlite).parent.iterdir()] == [NAME]


@anyio
async def test_a_folder_that_cannot_be_made_stops_the_start(on_sqlite: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match="ARBITER_SNAPSHOT_DIR"):
        await open_arbiter(replace(on_sqlite, snapshot_dir=tmp_path / "file" / "snapshots"))


ALL = Series("all", (SUMS, RANKED, VALUES, RUNS, STEPS), HOUR)
ODD = (
    (("CNY", 10**30), ("", Decimal("1E-12")), "a", True, 5),
    (("USD", -1), None, None, False, None),
    (None, ("", 7), "全角 \u2028", True, 1),
    (("CNY", Decimal("0.5")), ("", -(2**63)), "a", False, 2),
)


def facts(at: int, arrival: int) -> Facts:
    return Facts("payment", "shop", f"e{arrival}", at, arrival, {}, {})


def kept(store: MemoryStore, path: Path) -> MemoryStore:
    """Another store, from a snapshot of this one."""
    series = {one.name: one for one in store.held}
    write(path, {}, (encode(piece, series, 10**6, frozenset()) for piece in store.pieces(series)))
    other = MemoryStore(store.lateness, store.cap)
    other.declare([ALL])
    with Snapshot.open(path) as snapshot:
        other.adopt(snapshot.pieces(), series)
    other.load((), series)
    return other


def made(cap: int = 100) -> MemoryStore:
    store = MemoryStore(cap=cap)
    store.declare([ALL])
    store.load((), ["all"])
    return store


@pytest.mark.parametrize("count", [3, 15, 70])
def test_every_value_comes_back_as_it_was(tmp_path: Path, count: int) -> None:
    """Beyond 64 bits, fractions, several units, none; in keys with few and with many events, again and again."""
    store = made()
    for arrival in range(count):
        store.observe(facts(arrival, arrival), [("all", "k", ODD[arrival % 4], (), None)])
    once = kept(store, tmp_path / "once")
    twice = kept(once, tmp_path / "twice")

    assert list(rows_of(store)) == list(rows_of(once)) == list(rows_of(twice))
    assert (tmp_path / "once").read_bytes() == (tmp_path / "twice").read_bytes()


def rows_of(store: MemoryStore) -> Iterator[str]:
    for piece in store.pieces(["all"]):
        if hasattr(piece, "keys"):
            for key, frozen, lost in piece.keys:
                yield repr((key, [(at, arrival, tuple(values)) for at, arrival, values in frozen()], lost))


def test_a_full_stretch_stays_unknown_after_a_start(tmp_path: Path) -> None:
    """What was dropped for the cap does not come back, also when events were forgotten since."""
    store = made(cap=50)
    asked: list[Touch] = [("all", "k", None, ((HOUR, False, ((COUNT, -1),)),), None)]
    for arrival in range(200):
        store.observe(facts(arrival, arrival), [("all", "k", ODD[0], (), None)])
    for arrival in range(150, 200):
        store.forget(facts(arrival, arrival), [("all", "k", ODD[0], (), None)])

    assert kept(store, tmp_path / "snapshot").observe(facts(500, 500), asked)[2] == [Gap.CAPPED]


def test_what_is_no_snapshot_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("windows")

    with pytest.raises(Unusable, match="another format"):
        Snapshot.open(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        Snapshot.open(tmp_path / "nothing")
