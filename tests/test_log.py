"""The log over a ledger, on SQLite and on PostgreSQL: each entry one place, each checkpoint goes on from the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, select, text

from engine import database, merkle
from engine.database import Database, batch, checkpoint, entry, migrate, placed
from engine.errors import LogBroken, NotFound
from engine.ledger import Entry, Ledger
from engine.ledger.sequencing import place, size_of
from engine.ledger.writing import ENTRY_VALUES
from engine.notes import Checkpoint, open_note, read_proof, verifier
from engine.vault import KeyFile
from tests.test_ledger import an_entry, opened, together

pytestmark = pytest.mark.anyio
NOW = 1_763_600_000_000_000
ENTRY_COLUMNS = (
    *("id", "tenant", "kind", "event_id", "event_kind", "at", "received_at"),
    *("order_id", "merchant_id", "verdict", "refers_to", "leaf"),
)


@pytest.fixture
async def ledger(ledger_url: str, keys: KeyFile) -> AsyncIterator[Ledger]:
    async with opened(ledger_url, keys) as one:
        yield one


async def grown(ledger: Ledger, first: int, count: int) -> list[Entry]:
    """So many entries, appended at once."""
    new = [an_entry(number) for number in range(first, first + count)]
    await together(ledger, *new)
    return new


async def leaves_of(database: Database) -> list[bytes]:
    """The leaf hashes in the order of the log, read from what was written, not from the tree."""

    def read(connection: Connection) -> list[bytes]:
        rows = connection.execute(
            select(placed.c.first, placed.c.size, batch.c.leaves)
            .join(batch, batch.c.id == placed.c.batch)
            .order_by(placed.c.first)
        ).all()
        found: list[bytes] = []
        for row in rows:
            assert (row.first, row.size) == (len(found), len(row.leaves) // 32), "a place is missing or given twice"
            found += merkle.hashes(row.leaves)
        return found

    return await database.read(read)


async def test_every_entry_gets_one_place_and_a_proof(ledger: Ledger, keys: KeyFile) -> None:
    """What was appended is in the tree once, the checkpoint is signed, and each entry's proof holds under it."""
    new = await grown(ledger, 0, 300)
    stored = [await ledger.get(one.tenant, one.id) for one in new]
    assert stored[0] is not None
    with pytest.raises(NotFound, match="no checkpoint covers"):
        await ledger.log.proof(stored[0])

    assert await ledger.log.place() == 300
    published = await ledger.log.publish(NOW)

    assert published is not None
    assert published == await ledger.log.latest()
    said = Checkpoint.read(open_note(published.note, [verifier(keys.signer)])[0])
    leaves = await leaves_of(ledger.database)
    assert (said.log, said.size, said.root) == (keys.signer.log, 300, merkle.root(leaves))
    assert sorted(leaves) == sorted(merkle.leaf_hash(one.leaf) for one in new)
    for one in stored:
        assert one is not None
        index, path, note = read_proof(await ledger.log.proof(one))
        assert note == published.note
        assert merkle.verify_inclusion(merkle.leaf_hash(one.entry.leaf), index, 300, path, said.root)
    assert await ledger.log.place() == 0
    assert await ledger.log.publish(NOW) is None


async def test_checkpoints_go_on_from_each_other(ledger: Ledger) -> None:
    """As the log grows, each checkpoint is proved to begin with every one before it."""
    signed = []
    for step in (1, 1, 255, 3, 400):
        await grown(ledger, sum(one.size for one in signed[-1:]), step)
        await ledger.log.place()
        published = await ledger.log.publish(NOW)
        assert published is not None
        signed.append(published.checkpoint)

    assert [one.size for one in signed] == [1, 2, 257, 260, 660]
    for at, new in enumerate(signed):
        for old in signed[: at + 1]:
            proof = await ledger.log.consistency(old.size, new.size)
            assert merkle.verify_consistency(old.size, new.size, proof, old.root, new.root)


async def test_the_entries_come_in_the_order_of_the_log_from_any_place_to_any_other(ledger: Ledger) -> None:
    """In pages of any size, with borders inside batches; the first that is missing is told."""
    for number in (0, 7, 9):
        await grown(ledger, number, 7 if number == 0 else 2)
        await ledger.log.place()
    leaves = await leaves_of(ledger.database)
    for first, end, size in ((0, 11, 2_000), (0, 11, 3), (2, 9, 4), (6, 8, 1), (5, 5, 3)):
        pages = [page async for page in ledger.log.entries(first, end, size)]
        found = [one for page in pages for one in page]
        assert [place for place, _ in found] == list(range(first, end))
        assert [merkle.leaf_hash(each.leaf) for _, each in found] == leaves[first:end]
        assert all(len(page) <= size for page in pages)
    with pytest.raises(LogBroken, match="positions 9 to 12 some are missing"):
        _ = [page async for page in ledger.log.entries(9, 12)]


async def test_two_that_place_at_once_give_no_place_twice(ledger_url: str, keys: KeyFile) -> None:
    """Four sequencers and publishers beside two writers: every entry once, no gap, one history."""
    async with AsyncExitStack() as stack:
        ledgers = [await stack.enter_async_context(opened(ledger_url, keys)) for _ in range(4)]
        done = asyncio.Event()

        async def sequence(ledger: Ledger) -> None:
            while not done.is_set():
                await ledger.log.place()
                await ledger.log.publish(NOW)

        async def write(ledger: Ledger, first: int) -> None:
            for number in range(first, first + 200, 10):
                await grown(ledger, number, 10)

        running = [asyncio.create_task(sequence(ledger)) for ledger in ledgers]
        await asyncio.gather(write(ledgers[0], 0), write(ledgers[1], 1_000))
        done.set()
        await asyncio.gather(*running)
        await ledgers[2].log.place()
        await ledgers[2].log.publish(NOW)

        leaves = await leaves_of(ledgers[0].database)
        expected = [an_entry(number).leaf for first in (0, 1_000) for number in range(first, first + 200)]
        assert sorted(leaves) == sorted(map(merkle.leaf_hash, expected))
        query = checkpoint.select().order_by(checkpoint.c.size)
        signed = await ledgers[0].database.read(lambda c: c.execute(query).all())
        assert signed[-1].size == 400
        for row in signed:
            assert row.root == merkle.root(leaves[: row.size])


async def test_a_clock_that_jumps_back_changes_nothing(ledger: Ledger) -> None:
    """Places and checkpoints go on in their order; only the time that the log says of itself is an earlier one."""
    for first, now in ((0, NOW), (3, NOW - 3_600_000_000), (6, NOW + 1)):
        await grown(ledger, first, 3)
        await ledger.log.place()
        published = await ledger.log.publish(now)
        assert published is not None
        assert (published.checkpoint.size, published.signed_at) == (first + 3, now)
    signed = [each async for each in ledger.log.checkpoints(1, 9)]
    leaves = await leaves_of(ledger.database)
    assert [(one.checkpoint.size, one.checkpoint.root) for one in signed] == [
        (size, merkle.root(leaves[:size])) for size in (3, 6, 9)
    ]


@pytest.mark.service
async def test_a_batch_that_becomes_visible_late_is_not_skipped(postgresql_ledger_url: str, keys: KeyFile) -> None:
    """A transaction that began first and commits last gets the later place, although its number is lower."""
    async with opened(postgresql_ledger_url, keys) as ledger:
        signer = keys.signer
        connection = await asyncpg.connect(postgresql_ledger_url)
        slow = connection.transaction()
        await slow.start()
        low = await connection.fetchval("SELECT nextval('batch_id')")
        hashed = merkle.leaf_hash(b"slow")
        insert = "INSERT INTO batch VALUES ($1, $2, 1, $2, $3, $4, $5, $6)"
        await connection.execute(insert, low, hashed, NOW, signer.log, signer.key_id, b"s")
        await connection.execute("INSERT INTO unplaced VALUES ($1, 1, 1)", low)
        await grown(ledger, 0, 3)
        assert await ledger.log.place() == 3
        assert await ledger.log.publish(NOW)

        await slow.commit()
        await connection.close()

        assert await ledger.log.place() == 1
        assert await ledger.log.publish(NOW)
        assert (await leaves_of(ledger.database))[3] == hashed
        (page,) = [page async for page in ledger.log.entries(0, 3)]
        assert [merkle.leaf_hash(each.leaf) for _, each in page] == (await leaves_of(ledger.database))[:3]


async def test_placing_ends_while_others_go_on_writing(ledger: Ledger) -> None:
    """Else nothing would ever be signed under load."""
    done, written = asyncio.Event(), asyncio.Event()

    async def write() -> None:
        number = 0
        while not done.is_set():
            await ledger.append(an_entry(number))
            written.set()
            number += 1

    writing = asyncio.create_task(write())
    try:
        async with asyncio.timeout(20):
            for _ in range(5):
                written.clear()
                await written.wait()
                assert await ledger.log.place()
                assert await ledger.log.publish(NOW)
    finally:
        done.set()
        await writing


async def test_more_than_fit_one_transaction_get_their_places_in_several(ledger: Ledger) -> None:
    """One batch at a time, and it is said that more may wait."""
    for number in range(3):
        await together(ledger, an_entry(number))
    told = [await ledger.database.write(partial(place, most=1)) for _ in range(4)]
    assert told == [(1, True), (1, True), (1, True), (0, False)]


async def test_whoever_is_killed_while_placing_leaves_nothing_behind(ledger: Ledger) -> None:
    """A transaction that does not end changes nothing, and the next one places all."""
    await grown(ledger, 0, 5)

    class Killed(BaseException):
        pass

    def half(connection: Connection) -> None:
        assert place(connection) == (5, False)
        raise Killed

    with pytest.raises(Killed):
        await ledger.database.write(half)
    assert await ledger.database.read(size_of) == 0
    assert await ledger.log.place() == 5


TAMPERED: dict[str, list[str]] = {
    "the last entry is taken out": ["UPDATE placed SET size = size - 1 WHERE first = (SELECT max(first) FROM placed)"],
    "the end is cut off": ["DELETE FROM placed WHERE first > 0"],
    "everything is gone": ["DELETE FROM placed", "DELETE FROM tile"],
    "a leaf is another one": ["UPDATE tile SET hashes = {other} WHERE level = 0 AND number = 0"],
    "the tree is lost": ["DELETE FROM tile"],
    "the root that was signed is another one": ["UPDATE checkpoint SET root = {other}"],
    "the note is another one": ["UPDATE checkpoint SET note = replace(note, 'A', 'B')"],
    "the size that was signed is another one": ["UPDATE checkpoint SET size = size + 1000"],
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_nothing_is_signed_that_does_not_go_on_from_what_was_signed(ledger: Ledger, what: str) -> None:
    """Whatever is done behind the log's back, the publisher finds it before it signs, says so, and signs nothing."""
    for first in (0, 5):
        await together(ledger, an_entry(first))
        await grown(ledger, first + 1, 4)
        await ledger.log.place()
    await ledger.log.publish(NOW)
    other = "x'" + "ab" * 320 + "'" if ledger.database.dialect == "sqlite" else "'\\x" + "ab" * 320 + "'"

    def tamper(connection: Connection) -> None:
        for table in ("placed", "checkpoint"):
            if connection.dialect.name == "sqlite":
                for verb in ("update", "delete"):
                    connection.execute(text(f"DROP TRIGGER {table}_no_{verb}"))
            else:
                connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
        for statement in TAMPERED[what]:
            connection.execute(text(statement.format(other=other).replace(":", "\\:")))

    await ledger.database.write(tamper)
    await grown(ledger, 10, 2)
    found = False
    for attempt in (ledger.log.place, partial(ledger.log.publish, NOW)):
        try:
            await attempt()
        except LogBroken:
            found = True
    assert found
    assert await ledger.database.read(lambda c: len(c.execute(checkpoint.select()).all())) == 1


async def test_the_append_only_tables_refuse_a_slip(ledger: Ledger) -> None:
    """What has a place, and what was signed, cannot be changed by an ordinary statement."""
    await grown(ledger, 0, 2)
    await ledger.log.place()
    await ledger.log.publish(NOW)
    for table in (placed, checkpoint):
        for statement in (table.update().values(size=7), table.delete()):
            with pytest.raises(Exception, match="append-only"):
                await ledger.database.write(partial(Connection.execute, statement=statement))


async def test_keeping_the_log_signs_what_is_written_and_says_when_it_cannot(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The background work places and signs by itself; a broken log is said once, and nothing more is signed."""
    monkeypatch.setattr("engine.ledger.log.PUBLISH_SECONDS", 0)
    monkeypatch.setattr("engine.ledger.log.PLACE_SECONDS", 0.01)
    keeping = asyncio.create_task(ledger.log.keep(lambda: NOW))
    try:
        await grown(ledger, 0, 3)
        await until(lambda: signed(ledger, 3))
        assert ledger.log.problem == ""

        await ledger.database.write(lambda c: c.execute(text("UPDATE tile SET hashes = substr(hashes, 1, 32)")))
        await grown(ledger, 3, 1)
        await until(lambda: asyncio.sleep(0.01, bool(ledger.log.problem)))
        assert await signed(ledger, 3)
        assert [record.levelname for record in caplog.records if "broken" in record.message] == ["ERROR"]
    finally:
        keeping.cancel()


async def test_a_mistake_of_ours_does_not_end_the_keeping_without_a_word(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, without what a database's message may repeat; and when it is over, the log goes on."""
    monkeypatch.setattr("engine.ledger.log.PUBLISH_SECONDS", 0)
    monkeypatch.setattr("engine.ledger.log.PLACE_SECONDS", 0.01)
    keeping = asyncio.create_task(ledger.log.keep(lambda: NOW))
    try:
        with monkeypatch.context() as broken:
            broken.setattr("engine.ledger.sequencing.oldest_waiting", lambda _: 1 / 0)
            await until(lambda: asyncio.sleep(0.01, ledger.log.problem.endswith("signed: ZeroDivisionError")))
        await grown(ledger, 0, 2)
        await until(lambda: signed(ledger, 2))
        assert ledger.log.problem == ""
    finally:
        keeping.cancel()


async def signed(ledger: Ledger, size: int) -> bool:
    """Whether the newest checkpoint has this size."""
    published = await ledger.log.latest()
    return published is not None and published.checkpoint.size == size


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Waits for it, ten seconds at most."""
    for _ in range(1_000):
        if await true():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def test_what_was_written_before_there_was_a_log_gets_its_place(sqlite_url: str, keys: KeyFile) -> None:
    """A ledger of the first schema is migrated: its entries are placed like new ones."""
    engine = create_engine(sqlite_url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(database.MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for number, size in ((1, 5), (2, 15)):
            rows = range(100 * number, 100 * number + size)
            leaves = [an_entry(row).leaf for row in rows]
            hashes = b"".join(map(merkle.leaf_hash, leaves))
            connection.execute(
                batch.insert().values(
                    id=number, root=b"", size=size, leaves=hashes, signed_at=NOW, log="l", key_id="k", signature=b""
                )
            )
            for index, row in enumerate(rows):
                new = an_entry(row)
                values = dict(zip(ENTRY_COLUMNS, ENTRY_VALUES(new), strict=True))
                place = {"batch": number, "batch_index": index, "created": NOW, "leaf_hash": b""}
                connection.execute(entry.insert().values(row=row, **values, **place))
    engine.dispose()

    migrate(sqlite_url)

    async with opened(sqlite_url, keys) as ledger:
        assert await ledger.log.place() == 20
        assert await ledger.log.publish(NOW)
        assert sorted(await leaves_of(ledger.database)) == sorted(
            merkle.leaf_hash(an_entry(row).leaf) for row in (*range(100, 105), *range(200, 215))
        )
