"""The keys of tenants: made once, open for a bounded time, gone when their service says so; and seals stay warm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from engine import database as db
from engine.assembly import Settings
from engine.errors import Unavailable, VaultError
from engine.ledger import Ledger, new_id
from engine.vault import KeyFile, Sealed, Services, TenantKeys, Vault, tenants
from engine.vault.services import FileService, transit
from tests.books import SMALL, Clock, judged, payment, running, write
from tests.keyservers import FakeTransit
from tests.test_ledger import an_entry
from tests.vaults import vault_over

pytestmark = pytest.mark.anyio

SUBJECT, PERSON = "ab" * 16, b"personal"


@pytest.fixture
async def database(ledger_url: str) -> AsyncIterator[db.Database]:
    made = db.Database(ledger_url)
    yield made
    await made.close()


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTransit]:
    monkeypatch.setattr(transit, "SECONDS", 0.4)
    monkeypatch.setattr(transit, "_PAUSE", 0.0)
    with FakeTransit() as server:
        yield server


@pytest.fixture
def services(remote: FakeTransit, keys: KeyFile) -> Iterator[Services]:
    service = transit.VaultTransit(remote.address, "transit", "arbiter", lambda: remote.token)
    with closing(Services(FileService(keys), service)) as made:
        yield made


class Time:
    """A monotonic clock that tests move."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return 1


@pytest.fixture
def moving(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(tenants, "time", made)
    return made


async def test_the_first_event_of_a_tenant_makes_its_key(database: db.Database, services: Services) -> None:
    """One row a tenant, however many ask at once and in however many processes; nothing of it in the clear."""
    vaults = [TenantKeys(database, services) for _ in range(3)]
    await asyncio.gather(*(keys.ready(tenant) for keys in vaults for tenant in ("shop-a", "shop-b") for _ in range(3)))

    rows = await db.Rows(database, db.tenant_key).find()
    assert [(row["tenant"], row["version"], row["service"]) for row in rows] == [
        ("shop-a", 1, "vault-transit:transit/arbiter/v1"),
        ("shop-b", 1, "vault-transit:transit/arbiter/v1"),
    ]
    assert len({keys.sealing("shop-a")[1] for keys in vaults}) == 1


async def test_what_one_process_seals_another_opens(
    database: db.Database, keys: KeyFile, services: Services, ledger_url: str
) -> None:
    one, two = (Vault(keys, TenantKeys(database, services)) for _ in range(2))
    await one.ready("shop")
    ledger = await Ledger.open(ledger_url, keys)
    new = replace(an_entry(), tenant="shop")
    await ledger.append(replace(new, sealed=(one.seal("shop", new.id, SUBJECT, PERSON),)))
    stored = await ledger.get("shop", new.id)
    await ledger.close()

    assert stored is not None
    await two.prepare(stored.entry.sealed)
    assert two.open(stored.entry.sealed[0]) == PERSON


async def test_seals_do_not_ask_the_service(database: db.Database, services: Services, remote: FakeTransit) -> None:
    """A thousand new subjects cost no call once the tenant's key is open."""
    vault = Vault(an_file(services), TenantKeys(database, services))
    await vault.ready("shop")
    asked = len(remote.calls)
    for number in range(1_000):
        await vault.ready("shop")
        vault.open(vault.seal("shop", new_id(), f"{number:032x}", PERSON))
    assert len(remote.calls) == asked


async def test_a_key_is_open_for_a_bounded_time(
    database: db.Database, services: Services, remote: FakeTransit, moving: Time
) -> None:
    """It is renewed behind the events; when that fails it works to its end, and then nothing is sealed or opened."""
    keys = TenantKeys(database, services)
    vault = Vault(an_file(services), keys)
    await vault.ready("shop")
    cell = vault.seal("shop", "r", SUBJECT, PERSON)
    remote.stop()

    moving.now += tenants.FRESH_SECONDS + 1
    await vault.ready("shop")
    await renewed(keys)
    vault.seal("shop", "r", "cd" * 16, PERSON)
    assert keys.problem != ""

    moving.now += tenants.SECONDS
    with pytest.raises(Unavailable) as caught:
        await vault.ready("shop")
    assert caught.value.reason == "keys_unavailable"
    with pytest.raises(Unavailable):
        vault.seal("shop", "r", "ef" * 16, PERSON)
    with pytest.raises(Unavailable):
        Vault(an_file(services), keys).open(cell)


async def test_a_key_is_renewed_before_its_time_is_over(
    database: db.Database, services: Services, remote: FakeTransit, moving: Time
) -> None:
    keys = TenantKeys(database, services)
    for _ in range(5):
        await keys.ready("shop")
        moving.now += tenants.FRESH_SECONDS + 1
        await keys.ready("shop")  # Nobody waits.
        await renewed(keys)
    assert remote.calls.count("decrypt") == 6
    assert keys.problem == ""


async def test_a_key_wraps_a_bounded_number_of_times(
    database: db.Database, services: Services, remote: FakeTransit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenants, "USES", 3)
    keys = TenantKeys(database, services)
    for _ in range(3):
        await keys.ready("shop")
        for _ in range(3):
            keys.sealing("shop")
        with pytest.raises(Unavailable):
            keys.sealing("shop")
    assert remote.calls.count("decrypt") == 3


async def test_a_service_that_is_away_is_not_asked_by_every_event(
    database: db.Database, services: Services, remote: FakeTransit
) -> None:
    """A hundred events that meet it at once cause one question; each of them fails, and none seals without a key."""
    keys = TenantKeys(database, services)
    remote.sealed = True
    results = await asyncio.gather(*(keys.ready("shop") for _ in range(100)), return_exceptions=True)
    assert {type(each) for each in results} == {Unavailable}
    with pytest.raises(Unavailable):
        await keys.ready("shop")
    assert len(remote.calls) == transit.ATTEMPTS
    assert await db.Rows(database, db.tenant_key).find() == []


async def test_a_deleted_key_stops_everything(
    database: db.Database, services: Services, remote: FakeTransit, moving: Time
) -> None:
    keys = TenantKeys(database, services)
    await keys.ready("shop")
    _, row = keys.sealing("shop")
    remote.keys.clear()
    moving.now += tenants.SECONDS
    with pytest.raises(VaultError, match="deleted"):
        await keys.ready("shop")
    with pytest.raises(VaultError, match="deleted"):
        keys.opening(row)


async def test_a_tenants_key_under_another_tenant_opens_nothing(database: db.Database, keys: KeyFile) -> None:
    """Swapped rows of `tenant_key`, by whoever can write to the database, fail closed."""
    vault = await vault_over(database, keys, "shop-a", "shop-b")
    cell: Sealed = vault.seal("shop-a", "r", SUBJECT, PERSON)
    rows = db.Rows(database, db.tenant_key)
    one, two = await rows.find()
    await rows.change({"tenant": "shop-a"}, wrapped=two["wrapped"])

    assert cell.key is not None
    assert cell.key.under is not None
    moved = replace(cell.key.under, wrapped=two["wrapped"])
    with pytest.raises(VaultError):
        Vault.unkept(keys).open(replace(cell, key=replace(cell.key, under=moved)))
    with pytest.raises(VaultError, match="another tenant"):
        Vault.unkept(keys).open(replace(cell, key=replace(cell.key, under=replace(cell.key.under, tenant="shop-b"))))
    with pytest.raises(VaultError):
        await vault_over(database, keys, "shop-a")
    await rows.change({"tenant": "shop-a"}, wrapped=one["wrapped"])
    assert (await vault_over(database, keys, "shop-a")).open(cell) == PERSON


async def test_a_server_without_its_key_service_says_so_and_keeps_nothing_open(
    ledger_url: str, key_path: Path, tmp_path: Path, remote: FakeTransit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict is refused as one that may be asked for again, and neither the ledger nor a window has the event; the
    server is not ready, with the reason; and once the service is back it decides."""
    for name, value in remote.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tenants, "AGAIN_SECONDS", 0.0)
    write(tmp_path, SMALL)
    given = Settings(
        ledger_url,
        key_file=key_path,
        rules=tmp_path / "rules",
        policies=tmp_path / "policies",
        key_service="vault-transit:transit/arbiter",
    )
    card = {"card": {"ref": "card-1"}}
    async with running(given, Clock()) as arbiter:
        remote.sealed = True
        for _ in range(3):
            with pytest.raises(Unavailable) as caught:
                await judged(arbiter, payment("e1", **card))
            assert caught.value.reason == "keys_unavailable"
        assert [each for each in arbiter.ready()["reasons"] if "key service vault-transit" in each]
        assert await arbiter._ledger.find("shop-a", "e1") is None
        remote.sealed = False
        answers = [await judged(arbiter, payment(f"e{number}", **card)) for number in (1, 2, 3)]
        # The third on this card: those that were refused are counted nowhere.
        assert ["card_testing" in each["signals"] for each in answers] == [False, False, True]
        assert arbiter.ready() == {"ready": True, "reasons": []}


def an_file(services: Services) -> KeyFile:
    """The key file behind services."""
    return services.file._keys


async def renewed(keys: TenantKeys) -> None:
    """Whatever was asked behind the events is answered."""
    await asyncio.wait(list(keys._asking.values()))
    await asyncio.sleep(0)
