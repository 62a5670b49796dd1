"""Keys rotated at every level: all opens before, during and after, a killed rotation goes on, each is recorded."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from cli import main
from engine import database as db
from engine import rotation as module
from engine.callers import By
from engine.errors import NotFound, Unavailable, VaultError
from engine.journal import Journal
from engine.ledger import Entry, Filter, Ledger, new_id
from engine.rotation import Rotation
from engine.vault import KeyFile, Services, TenantKeys, Vault
from engine.vault.services import FileService, Wrapped
from tests.books import NOW, SMALL, judged, payment, running, write
from tests.test_erasure import MS_ZHANG, READER, Clock, Settings
from tests.test_vault import in_format_1
from tests.vaults import vault_over

pytestmark = pytest.mark.anyio

BY = By("li.si", "person", "li.si")
TENANT, PEOPLE, RECORDS = "shop-a", 7, 23


@pytest.fixture
def own_keys(key_path: Path, tmp_path: Path) -> Path:
    """A key file that a test may change; the ledger takes it for its own, as the identity keys are the same."""
    return Path(shutil.copy(key_path, tmp_path / "own.keys"))


@pytest.fixture
async def ledger(ledger_url: str, keys: KeyFile) -> AsyncIterator[Ledger]:
    made = await Ledger.open(ledger_url, keys)
    yield made
    await made.close()


def text_of(number: int) -> bytes:
    return b"record %d" % number


async def filled(ledger: Ledger, vault: Vault) -> list[str]:
    """Some records of some people, the first one in format 1; the ids of the records."""
    ids = []
    for number in range(RECORDS):
        id, subject = new_id(), f"{number % PEOPLE:032x}"
        cell = vault.seal(TENANT, id, subject, text_of(number))
        await ledger.append(Entry(id, TENANT, "decision", f"e{number}", "payment", 1, 1, b'{"n":%d}' % number, (cell,)))
        ids.append(id)
    return ids


async def opened(ledger: Ledger, vault: Vault, ids: list[str]) -> list[bytes]:
    texts = []
    for id in ids:
        stored = await ledger.get(TENANT, id)
        assert stored is not None
        texts += [vault.open(cell) for cell in stored.entry.sealed]
    return texts


async def changes(ledger: Ledger, tenant: str = TENANT) -> list[dict[str, Any]]:
    page = await ledger.page(tenant, Filter(kind="change"))
    return [orjson.loads(each.entry.leaf) for each in reversed(page.entries)]


def over(ledger: Ledger, path: Path) -> Vault:
    """A vault as another process has it: its own keys out of the file, nothing open."""
    keys = KeyFile.read(path)
    return Vault(keys, TenantKeys(ledger.database, Services(FileService(keys, path))))


def rotation_of(ledger: Ledger, vault: Vault) -> Rotation:
    return Rotation(ledger, vault, Journal(ledger, lambda: NOW))


async def wraps(ledger: Ledger) -> set[str]:
    return {row["kek_id"] for row in await db.Rows(ledger.database, db.subject_key).find()}


ALL = [text_of(number) for number in range(RECORDS)]


async def test_a_clock_that_was_set_back_leaves_no_tenant_under_the_old_key(
    ledger: Ledger, own_keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever retires the old key loses what is still under it."""
    server = over(ledger, own_keys)
    await server.ready(TENANT)
    await filled(ledger, server)
    monkeypatch.setattr("engine.rotation._now", lambda: NOW - 3_600_000_000)
    assert await rotation_of(ledger, over(ledger, own_keys)).kms(BY) == 1
    (row,) = await db.Rows(ledger.database, db.tenant_key).find()
    assert row["service"] == f"file:{KeyFile.read(own_keys).kek}"


async def test_the_key_file_gets_a_new_key_and_all_tenants_are_under_it(ledger: Ledger, own_keys: Path) -> None:
    """A server that runs beside opens what it meets, with the file it read before; the old key stays in the file."""
    server = over(ledger, own_keys)
    await server.ready(TENANT)
    await server.ready("shop-b")
    ids = await filled(ledger, server)
    before = KeyFile.read(own_keys)
    assert await rotation_of(ledger, over(ledger, own_keys)).kms(BY) == 2

    after = KeyFile.read(own_keys)
    assert after.kek not in before.keks
    assert {**after.keks, after.kek: b""} == {**before.keks, after.kek: b""}
    rows = await db.Rows(ledger.database, db.tenant_key).find()
    assert {row["service"] for row in rows} == {f"file:{after.kek}"}
    assert beside(own_keys) == [("own.keys", 0o600)]
    server.tenants._open.clear()
    server._opening._held.clear()
    await server.tenants.renew(TENANT)
    assert await opened(ledger, server, ids) == ALL
    assert await opened(ledger, over(ledger, own_keys), ids) == ALL
    (change,) = await changes(ledger, "*")
    assert (change["what"], change["object"], change["after"]) == ("key_rotated", "kms", f"file:{after.kek}")
    assert orjson.loads(change["before"]) == {"keys": [f"file:{before.kek}"], "count": 2}
    assert change["by"]["name"] == "li.si"


async def test_a_killed_rotation_of_the_first_key_goes_on(
    ledger: Ledger, own_keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same new key, and over what is left alone."""
    vault = over(ledger, own_keys)
    for tenant in ("a", "b", "c", "d"):
        await vault.ready(tenant)
    move, moved = Services.move, []

    def dying(self: Services, wrapped: Wrapped, context: Any) -> Wrapped:
        if len(moved) == 2:
            raise Unavailable("away", "keys_unavailable")
        moved.append(context["tenant"])
        return move(self, wrapped, context)

    monkeypatch.setattr(Services, "move", dying)
    with pytest.raises(Unavailable):
        await rotation_of(ledger, over(ledger, own_keys)).kms(BY)
    first = KeyFile.read(own_keys).kek
    monkeypatch.setattr(Services, "move", move)

    assert await rotation_of(ledger, over(ledger, own_keys)).kms(BY) == 2
    rows = await db.Rows(ledger.database, db.tenant_key).find()
    assert {row["service"] for row in rows} == {f"file:{first}"} == {f"file:{KeyFile.read(own_keys).kek}"}


async def test_a_tenant_gets_a_new_key_and_its_data_keys_with_it(
    ledger: Ledger, keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches; ciphertexts stay byte for byte, and a server seals under the old one until it reads anew."""
    monkeypatch.setattr(module, "AT_ONCE", 3)
    server = await vault_over(ledger.database, keys, TENANT)
    ids = await filled(ledger, server)
    cells = await db.Rows(ledger.database, db.sealed).find()
    told: list[int] = []
    done = await rotation_of(ledger, await vault_over(ledger.database, keys)).tenant(TENANT, BY, told.append)

    assert (done, told) == (PEOPLE, [3, 6, 7])
    assert await wraps(ledger) == {"tenant/2"}
    assert await db.Rows(ledger.database, db.sealed).find() == cells
    for vault in (server, await vault_over(ledger.database, keys)):
        assert await opened(ledger, vault, ids) == ALL
    id = new_id()
    late = server.seal(TENANT, id, "ff" * 16, b"late")
    await ledger.append(Entry(id, TENANT, "decision", "late", "payment", 1, 1, b"{}", (late,)))
    assert await wraps(ledger) == {"tenant/1", "tenant/2"}
    assert await opened(ledger, await vault_over(ledger.database, keys), [id]) == [b"late"]

    await rotation_of(ledger, await vault_over(ledger.database, keys)).tenant(TENANT, BY)
    assert await wraps(ledger) == {"tenant/3"}
    assert await opened(ledger, await vault_over(ledger.database, keys), [*ids, id]) == [*ALL, b"late"]
    assert [(each["what"], each["after"]) for each in await changes(ledger)] == [
        ("key_rotated", "tenant/2"),
        ("key_rotated", "tenant/3"),
    ]


async def test_a_killed_rotation_of_a_tenant_goes_on(
    ledger: Ledger, keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is killed: before the new key, after it, or between two batches. It ends with one new version."""
    monkeypatch.setattr(module, "AT_ONCE", 3)
    ids = await filled(ledger, await vault_over(ledger.database, keys, TENANT))
    for killed in ("make", "renew", "rewrap"):
        rotation = rotation_of(ledger, await vault_over(ledger.database, keys))
        where: Any = Vault if killed == "rewrap" else TenantKeys
        with monkeypatch.context() as patch:
            patch.setattr(where, killed, Dying(getattr(where, killed), 4 if killed == "rewrap" else 0))
            with pytest.raises(KeyboardInterrupt):
                await rotation.tenant(TENANT, BY)
        assert await opened(ledger, await vault_over(ledger.database, keys), ids) == ALL
    assert await wraps(ledger) == {"tenant/1", "tenant/2"}
    assert await rotation_of(ledger, await vault_over(ledger.database, keys)).tenant(TENANT, BY) == PEOPLE - 3
    assert await wraps(ledger) == {"tenant/2"}
    assert await opened(ledger, await vault_over(ledger.database, keys), ids) == ALL
    assert await db.Rows(ledger.database, db.setting).find(name=f"rotation tenant {TENANT}") == []


def beside(path: Path) -> list[tuple[str, int]]:
    """The files whose names begin like this one, and who may open them."""
    return [(each.name, each.stat().st_mode & 0o777) for each in path.parent.glob(f"{path.name}*")]


class Dying:
    """A method that ends its process at one call."""

    def __init__(self, method: Any, after: int) -> None:
        self.method, self.left = method, after

    def __get__(self, instance: Any, _: Any) -> Any:
        def call(*args: Any) -> Any:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            return self.method(instance, *args)

        return call


async def test_versions_that_wrap_nothing_go_when_nobody_has_them_open(
    ledger: Ledger, keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(ledger, await vault_over(ledger.database, keys, TENANT))
    rows = db.Rows(ledger.database, db.tenant_key)

    async def versions() -> list[int]:
        return [row["version"] for row in await rows.find()]

    for _ in range(2):
        await rotation_of(ledger, await vault_over(ledger.database, keys)).tenant(TENANT, BY)
    assert await versions() == [1, 2, 3]
    monkeypatch.setattr(module, "YOUNG", -1)
    await rotation_of(ledger, await vault_over(ledger.database, keys)).tenant(TENANT, BY)
    assert await versions() == [3, 4]


async def test_a_tenant_without_keys_is_not_there(ledger: Ledger, keys: KeyFile) -> None:
    with pytest.raises(NotFound, match="'nobody' has no keys"):
        await rotation_of(ledger, await vault_over(ledger.database, keys)).tenant("nobody", BY)


async def test_what_format_1_wrapped_moves_under_the_tenants_key(ledger: Ledger, keys: KeyFile) -> None:
    """A ledger from before tenant keys: its data keys, then its ciphertexts, come into the format of today."""
    id, subject = new_id(), "ab" * 16
    cell = in_format_1(keys, TENANT, id, subject, b"old")
    await ledger.append(Entry(id, TENANT, "decision", "e1", "payment", 1, 1, b"{}", (cell,)))
    vault = await vault_over(ledger.database, keys)
    assert await wraps(ledger) == {keys.kek}

    assert await rotation_of(ledger, vault).tenant(TENANT, BY) == 1
    assert await wraps(ledger) == {"tenant/1"}
    assert await opened(ledger, await vault_over(ledger.database, keys), [id]) == [b"old"]
    assert await rotation_of(ledger, vault).subjects(TENANT, BY) == 1
    (row,) = await db.Rows(ledger.database, db.sealed).find()
    assert row["ciphertext"][:2] == b"\x02\x01"
    assert await opened(ledger, await vault_over(ledger.database, keys), [id]) == [b"old"]


async def test_everything_is_sealed_anew_and_old_data_keys_are_destroyed(
    ledger: Ledger, keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 4)
    monkeypatch.setattr(module, "YOUNG", -1)
    ids = await filled(ledger, await vault_over(ledger.database, keys, TENANT))
    rows, cells = db.Rows(ledger.database, db.subject_key), db.Rows(ledger.database, db.sealed)
    old = {row["key_id"] for row in await rows.find()}
    before = {row["ciphertext"] for row in await cells.find()}
    assert await rotation_of(ledger, await vault_over(ledger.database, keys)).subjects(TENANT, BY) == RECORDS

    assert not old & {row["key_id"] for row in await rows.find()}
    assert len(await rows.find()) == PEOPLE
    assert not before & {row["ciphertext"] for row in await cells.find()}
    assert await opened(ledger, await vault_over(ledger.database, keys), ids) == ALL
    assert [(each["what"], each["object"]) for each in await changes(ledger)] == [("key_rotated", "subjects")]


async def test_a_killed_rotation_of_data_keys_goes_on(
    ledger: Ledger, keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sealed anew twice, and no old key goes before all is."""
    monkeypatch.setattr(module, "AT_ONCE", 4)
    monkeypatch.setattr(module, "YOUNG", -1)
    ids = await filled(ledger, await vault_over(ledger.database, keys, TENANT))
    with monkeypatch.context() as patch:
        patch.setattr(Vault, "reseal", Dying(Vault.reseal, 10))
        rotation = rotation_of(ledger, await vault_over(ledger.database, keys))
        with pytest.raises(KeyboardInterrupt):
            await rotation.subjects(TENANT, BY)
    assert await opened(ledger, await vault_over(ledger.database, keys), ids) == ALL
    assert await rotation_of(ledger, await vault_over(ledger.database, keys)).subjects(TENANT, BY) == RECORDS - 8
    assert await opened(ledger, await vault_over(ledger.database, keys), ids) == ALL
    kept = {row["key_id"] for row in await db.Rows(ledger.database, db.subject_key).find()}
    assert kept == {row["key_id"] for row in await db.Rows(ledger.database, db.sealed).find()}


async def test_keys_that_may_be_in_use_stay(ledger: Ledger, keys: KeyFile) -> None:
    """A server seals with a data key for an hour: one as young as that is left alone, and what it seals opens."""
    server = await vault_over(ledger.database, keys, TENANT)
    ids = await filled(ledger, server)
    assert await rotation_of(ledger, await vault_over(ledger.database, keys)).subjects(TENANT, BY) == 0
    id = new_id()
    cell = server.seal(TENANT, id, f"{0:032x}", b"later")
    await ledger.append(Entry(id, TENANT, "decision", "later", "payment", 1, 1, b"{}", (cell,)))
    assert await opened(ledger, await vault_over(ledger.database, keys), [*ids, id]) == [*ALL, b"later"]


async def test_a_text_that_does_not_open_stops_it_and_no_key_is_destroyed(
    ledger: Ledger, keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "YOUNG", -1)
    ids = await filled(ledger, await vault_over(ledger.database, keys, TENANT))
    rows, cells = db.Rows(ledger.database, db.subject_key), db.Rows(ledger.database, db.sealed)
    old = {row["key_id"] for row in await rows.find()}
    row = (await cells.find())[5]
    await cells.change({"entry": row["entry"]}, ciphertext=row["ciphertext"][:-1] + bytes((row["ciphertext"][-1] ^ 1,)))
    with pytest.raises(VaultError, match=f"a text of the record {ids[5]} does not open.*no old key is destroyed"):
        await rotation_of(ledger, await vault_over(ledger.database, keys)).subjects(TENANT, BY)
    assert old <= {row["key_id"] for row in await rows.find()}


async def test_what_was_erased_does_not_come_back(
    ledger: Ledger, keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An erasure between reading a batch and writing it: its rows are not there to be changed, nor is a key left."""
    monkeypatch.setattr(module, "YOUNG", -1)
    await filled(ledger, await vault_over(ledger.database, keys, TENANT))
    subject = bytes.fromhex(f"{3:032x}")
    rows, cells = db.Rows(ledger.database, db.subject_key), db.Rows(ledger.database, db.sealed)
    put = module.put_cells

    def erasing(changed: Any) -> Any:
        def work(connection: Any) -> int:
            for table in (db.sealed, db.subject_key):
                connection.execute(table.delete().where(table.c.subject == subject))
            return put(changed)(connection)

        return work

    monkeypatch.setattr(module, "put_cells", erasing)
    await rotation_of(ledger, await vault_over(ledger.database, keys)).subjects(TENANT, BY)
    assert await rows.find(subject=subject) == await cells.find(subject=subject) == []
    assert len(await rows.find()) == PEOPLE - 1


@pytest.fixture
def settings(ledger_url: str, own_keys: Path, tmp_path: Path) -> Settings:
    write(tmp_path, SMALL)
    return Settings(ledger_url, key_file=own_keys, rules=tmp_path / "rules", policies=tmp_path / "policies")


async def test_a_server_goes_on_while_every_level_is_rotated(settings: Settings) -> None:
    """The command in another process's place, the server deciding all the while: every answer is kept and opens."""
    async with running(settings, Clock()) as arbiter:
        answers: list[dict[str, Any]] = []
        ended = asyncio.Event()

        async def deciding() -> None:
            while not ended.is_set():
                person = {**MS_ZHANG, "buyer": {"account": f"u-{len(answers) % 50}", "name": "张三"}}
                answers.append(await judged(arbiter, payment(f"p{len(answers)}", **person)))
                await asyncio.sleep(0.002)

        work = asyncio.create_task(deciding())
        for args in (["kms"], ["tenant", "--tenant", "shop-a"], ["subjects"], ["tenant"]):
            done = await asyncio.to_thread(command, settings, *args)
            assert done.exit_code == 0, done.output
            assert "under new keys" in done.output
        ended.set()
        await work
        assert len(answers) > 10
        arbiter._vault.tenants._open.clear()
        arbiter._vault._opening._held.clear()
        for answer in answers:
            stored = await arbiter._ledger.get("shop-a", answer["id"])
            assert stored is not None
            assert all(orjson.loads(arbiter._vault.open(cell))["role"] == "buyer" for cell in stored.entry.sealed)
        await arbiter.explanation(answers[0]["id"], READER)


def command(settings: Settings, *args: str) -> Any:
    environ = {name: None for name in os.environ if name.startswith("ARBITER_")} | settings.environ()
    return CliRunner().invoke(main, ["keys", "rotate", *args], env=environ)


def test_the_key_of_the_service_is_of_no_tenant(settings: Settings) -> None:
    done = command(settings, "kms", "--tenant", "shop-a")
    assert (done.exit_code, "leave --tenant out" in done.output) == (2, True)
    assert replace(settings, key_service="file") == settings


def lose(path: Path) -> None:
    """Another key-encryption key stands in the file, alone."""
    text = orjson.loads(path.read_bytes())
    path.write_bytes(orjson.dumps({**text, "kek": "kek-new", "keks": {"kek-new": text["digest_key"]}}))


async def test_a_key_that_is_lost_for_good_is_replaced(ledger: Ledger, keys: KeyFile, own_keys: Path) -> None:
    """The rotation says that old data keys do not open, and new data is sealed again all the same."""
    ids = await filled(ledger, await vault_over(ledger.database, keys, TENANT))
    lose(own_keys)
    with pytest.raises(VaultError, match="deleted"):
        await over(ledger, own_keys).ready(TENANT)
    with pytest.raises(VaultError, match="deleted"):
        await rotation_of(ledger, over(ledger, own_keys)).tenant(TENANT, BY)
    vault = over(ledger, own_keys)
    await vault.ready(TENANT)
    assert vault.open(vault.seal(TENANT, "r", "ab" * 16, b"new")) == b"new"
    with pytest.raises(VaultError):
        await opened(ledger, vault, ids)
