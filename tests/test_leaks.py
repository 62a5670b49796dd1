"""Marked personal data goes through everything a caller can do; then every place that could keep it is searched.

Searched are the database (tables, and the raw files of SQLite with its write-ahead log), the log, standard error,
/metrics, an export, snapshots, temporary files and all answers. Each marker is looked for as text, in hex and base64,
and as a plain hash, which would be as good as the value. Only the vault may hold it: opened with the keys, it holds all
of them.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from hashlib import md5, sha256
from pathlib import Path
from random import Random
from typing import Any

import httpx
import orjson
import pytest
from ahocorasick_rs import BytesAhoCorasick
from click.testing import CliRunner
from sqlalchemy import Connection

from cli import main
from engine import database
from engine.schema import FieldDef
from engine.schema.kinds import LISTS
from engine.vault import KeyFile, Vault
from tests.books import shipped
from tests.daemon import ROOT, TENANT, Daemon
from tests.load import everything, opened
from tests.test_personal import resident_id

pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]

CARD = "4111111111111111"
AT = "2026-11-20T08:30:00+08:00"


@pytest.fixture
def daemon(tmp_path: Path, database_url: str, key_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, database_url, key_path) as daemon:
        yield daemon


class Markers:
    """Personal values that exist nowhere else, and the texts to search for."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._turn = 0
        self.texts: dict[str, str] = {}
        """What to search for → where it was put."""

    def value(self, of: FieldDef) -> Any:
        """A marked value for a field; its example where the field takes none."""
        made = self._made(of)
        if made is None:
            return of.example
        value, text = made
        self.texts[text] = of.path
        return value

    def typed(self, where: str) -> str:
        """A marked phone number, e-mail address or identity number, in turn, as people type them."""
        digits = "".join(self._random.choices("123456789", k=8))
        born = date(1950, 1, 1) + timedelta(days=self._random.randrange(20_000))
        made = (f"13{self._random.choice('356789')}{digits}", f"mk{digits}@example.com",
                resident_id("330106", born, int(digits[:3])))[self._turn % 3]  # fmt: skip
        self._turn += 1
        self.texts[made] = where
        return made

    def word(self, where: str) -> str:
        """A marked word."""
        word = f"mk{self._random.getrandbits(52):013x}"
        self.texts[word] = where
        return word

    def _made(self, of: FieldDef) -> tuple[Any, str] | None:
        digits = "".join(self._random.choices("123456789", k=12))
        word = f"mk{self._random.getrandbits(52):013x}"
        match of.type.removeprefix("list[").removesuffix("]"), of.form.name:
            case ("bool", _) | (_, "digits"):
                return None
            case "instant", _:
                return f"2021-03-04T05:06:07.{digits[:6]}Z", f"07.{digits[:6]}"
            case "money", _:
                return f"{digits}.12 CNY", digits
            case "text", "email":
                return f"{word}@{word}.example.com", word  # A domain of one's own names its owner.
            case "text", "phone":
                return f"139{digits[:8]}", f"139{digits[:8]}"
            case "text", "ip":
                address = "2001:db8:" + ":".join(f"{self._random.randrange(0x1000, 0xFFFF):x}" for _ in range(6))
                return address, address
            case "text", "url":
                return f"https://img.example.com/{word}.jpg", word
            case "text", "free" | "line":
                return f"标记{word}"[: of.form.size], word[: of.form.size - 2]
            case "text", "id" | "code":
                return word, word
        assert of.choices, of
        return None


def an_event(kind: str, markers: Markers) -> dict[str, Any]:
    """An event of this kind with every field it may have; the personal ones marked."""
    body: dict[str, Any] = {"kind": kind}
    for path, field in shipped().schema.fields(kind).items():
        if field.derived or field.found or path in ("kind", "event_id", "order_id"):
            continue
        value = field.example if field.privacy == "public" else markers.value(field)
        *parents, name = path.split(".")
        at: Any = body
        for parent in parents:
            at = at.setdefault(parent, {})
        plain_list = field.many and ".".join(parents) not in LISTS
        at[name] = [value] if plain_list and not isinstance(value, list) else value
    for path in LISTS:  # lists of objects, each here with one
        *parents, name = path.split(".")
        at = body
        for parent in parents:
            at = at.get(parent, {})
        if name in at:
            at[name] = [at[name]]
    return {**body, "at": AT, "event_id": f"ev-{kind}", "order_id": f"order-{kind}"}


def forms(text: str) -> Iterator[bytes]:
    """What `text` may look like where it was kept in the clear, or as good as that."""
    raw = text.encode()
    yield from (raw, raw.hex().encode())
    for lead in range(3):
        # The letters of base64 that depend on this text alone, wherever it begins.
        yield b64encode(b"\0" * lead + raw)[(0, 2, 3)[lead] : -4 or None][:-1]
    for digest in (sha256(raw), md5(raw)):
        yield from (digest.digest(), digest.hexdigest().encode())


def found(markers: Mapping[str, str], places: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """(what, where) of every marker that is somewhere."""
    looks = [(form, f"{path}: {text}") for text, path in markers.items() for form in dict.fromkeys(forms(text))]
    automaton = BytesAhoCorasick([form for form, _ in looks])
    return [
        (what, name)
        for name, content in places.items()
        for what in dict.fromkeys(
            looks[hit][1] for hit, *_ in automaton.find_matches_as_indexes(content, overlapping=True)
        )
    ]


async def tables(url: str) -> dict[str, bytes]:
    """All rows of all tables but the ciphertexts, by table."""
    opened = database.Database(url)
    kept = [table for table in database.metadata.sorted_tables if table.name != "sealed"]

    def everything(connection: Connection) -> dict[str, bytes]:
        rows = {table.name: connection.execute(table.select()).all() for table in kept}
        return {name: b"\n".join(plain(value) for row in found for value in row) for name, found in rows.items()}

    try:
        return await opened.read(everything)
    finally:
        await opened.close()


def plain(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def kept(daemon: Daemon) -> dict[str, bytes]:
    """Everything that outlives the process, by place. The server must have ended."""
    places = {"log": daemon.log().encode(), "errors": daemon.errors().encode()}
    for file in daemon.folder.glob("arbiter.db*"):  # before anybody opens it, which would tidy it up
        places[file.name] = file.read_bytes()
    return places | asyncio.run(tables(daemon.url))


async def vault_of(url: str, keys: KeyFile) -> bytes:
    """All that the vault holds, opened."""
    vault, texts = Vault.unkept(keys), []
    async with opened(url, keys) as ledger:
        for stored in await everything(ledger):
            whole = await ledger.get(TENANT, stored.entry.id)
            assert whole is not None
            texts += [vault.open(cell) for cell in whole.entry.sealed]
    return b"\n".join(texts)


def test_personal_data_is_nowhere_but_in_the_vault(daemon: Daemon, keys: KeyFile) -> None:
    markers, answers = Markers(1), {}

    def call(method: str, path: str, key: str, **more: Any) -> httpx.Response:
        response = daemon.call(method, path, key, **more)
        assert response.status_code < 500, response.text
        answers[f"{method} {path} #{len(answers)}"] = response.content
        return response

    decided = send_all(call, markers)
    in_the_vault = dict(markers.texts)
    for id in decided:
        reason = f"客服说 {markers.word('resolution.reason')} 先生来过电话"
        in_the_vault = dict(markers.texts)
        report = {"what": "enforced", "result": "overridden", "reason": reason}
        assert call("POST", f"/v1/decisions/{id}/resolution", "person", json=report).status_code == 200
        for path in ("", "/explanation"):
            assert call("GET", f"/v1/decisions/{id}{path}", "audit").status_code == 200
    send_wrong(call, markers, decided[0])
    call("GET", "/v1/decisions", "audit")
    call("GET", "/metrics", "audit")
    daemon.kill()  # so that nothing is tidied up

    places = kept(daemon)
    assert found({"order-transaction": "order_id"}, places), "the search finds nothing at all"
    assert found(markers.texts, places) == []
    assert found(markers.texts, answers) == []
    vault = asyncio.run(vault_of(daemon.url, keys))
    instants = [text for text in in_the_vault if text.startswith("07.")]  # held as microseconds there
    lost = {text: of for text, of in in_the_vault.items() if text not in instants and text.encode() not in vault}
    assert lost == {}
    assert len(in_the_vault) > 100


@pytest.fixture
def snapshotting(tmp_path: Path, database_url: str, key_path: Path) -> Iterator[Daemon]:
    with Daemon(
        tmp_path, database_url, key_path, environ={"ARBITER_SNAPSHOT_DIR": str(tmp_path / "snapshots")}
    ) as daemon:
        yield daemon


def test_what_is_typed_where_it_does_not_belong_is_nowhere_but_in_the_vault(
    snapshotting: Daemon, keys: KeyFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Phone numbers, e-mail addresses and identity numbers in titles, memos, reasons, order ids and all public text."""
    markers, refused, answers, daemon = Markers(2), Markers(3), {}, snapshotting

    def call(method: str, path: str, key: str, status: int = 200, **more: Any) -> httpx.Response:
        response = daemon.call(method, path, key, **more)
        assert response.status_code == status, response.text
        answers[f"{method} {path} #{len(answers)}"] = response.content
        return response

    decided, words = send_typed(call, markers)
    assert words > 100
    report = {"what": "enforced", "result": "overridden", "reason": f"客服说 {markers.typed('a report')} 来过电话"}
    call("POST", f"/v1/decisions/{decided[0]}/resolution", "person", json=report)
    for path in ("", "/explanation"):
        call("GET", f"/v1/decisions/{decided[0]}{path}", "audit")
    tier = {"tier": "watched", "reason": f"店主电话{markers.typed('a tier')}"}
    assert call("PUT", "/v1/merchants/m-1", "person", json=tier).json()["reason"].startswith("店主电话[")
    entry = {"value": "mk.example", "reason": f"问过{markers.typed('an entry')}"}
    call("POST", "/v1/lists/disposable-domains/entries", "person", 201, json=entry)

    refuse_typed(call, refused, decided[0])
    call("GET", "/v1/decisions", "audit")
    call("GET", "/v1/lists/disposable-domains/entries", "audit")
    looked = daemon.call("GET", f"/v1/decisions/{decided[0]}/explanation?purpose=audit", "auditor")
    assert looked.json()["personal"]["shown"]
    assert found(markers.texts, {"what was shown": looked.content})
    answers["metrics"] = daemon.client.get("/metrics").content
    daemon.stop()
    account = an_event("transaction", Markers(0))["buyer"]["account"]
    copy = tmp_path / "copy"
    asked = ["subject", "access", "--tenant", TENANT, "--account", account, "--out", str(copy)]
    run(daemon, monkeypatch, *asked)
    markers.texts[account] = "the account of who asked for a copy"
    assert found(markers.texts, files(copy)), "the copy for the person holds what is theirs"
    for number in range(2):
        sent = tmp_path / f"dispute-{number}"
        run(daemon, monkeypatch, "dispute", "pack", decided[number], "--out", str(sent))
        assert found(markers.texts, files(sent)), "what is sent in a dispute holds it, and a copy is kept"
    run(daemon, monkeypatch, "dispute", "close", decided[1], "--reason", f"买家{markers.typed('a dispute')}认了")
    places = kept(daemon) | exported(daemon, tmp_path / "export", monkeypatch)
    places |= files(daemon.temporary) | files(tmp_path / "snapshots")
    assert any(name.startswith("snapshots/") for name in places)
    assert b"[mobile]" in places["entry"]
    assert found(markers.texts, places) == []
    assert found(markers.texts, answers) == []
    assert found(refused.texts, places | answers) == []
    vault = asyncio.run(vault_of(daemon.url, keys))
    assert {text: of for text, of in markers.texts.items() if text.encode() not in vault} == {}


def send_typed(call: Any, markers: Markers) -> tuple[list[str], int]:
    """An event of each kind with something personal in each text that is no identifier; the decisions, and how many
    texts that were."""
    decided = []
    for kind in (kind for kind in shipped().schema.kinds if kind != "outcome"):
        body = an_event(kind, Markers(0))
        for path, field in shipped().schema.fields(kind).items():
            free = field.form.name in ("line", "free") or (field.typed and field.form.name in ("code", "digits"))
            if field.identifier or not free or field.derived or field.found or field.form.size < 32:
                continue
            put(body, path, markers, field.form.name in ("code", "digits"))
        judged = shipped().kinds[kind].policy is not None
        response = call("POST", "/v1/decisions" if judged else "/v1/events", "score", json=body)
        decided += [response.json()["id"]] if judged else []
        outcome = {"kind": "outcome", "event_id": f"out-{kind}", "at": AT}
        outcome["outcome"] = {"refers_to": f"ev-{kind}", "result": "chargeback"}
        call("POST", "/v1/events", "outcome", json=outcome)
    return decided, len(markers.texts)


def put(body: dict[str, Any], path: str, markers: Markers, bare: bool) -> None:
    """Add something personal to the text at `path`, among other words where they fit."""
    *parents, name = path.split(".")
    at: Any = body
    for parent in parents:
        at = at[parent][0] if isinstance(at[parent], list) else at[parent]
    text = markers.typed(path)
    while bare and "@" in text:
        del markers.texts[text]
        text = markers.typed(path)
    text = text if bare else f"联系{text}吧"
    at[name] = [text] if isinstance(at[name], list) else text


def refuse_typed(call: Any, markers: Markers, decision: str) -> None:
    """Identifiers that name a person, and persons who are named by a number, are refused."""
    sample = orjson.loads((ROOT / "docs/examples/order.json").read_bytes())
    for name in ("event_id", "order_id"):
        for _ in range(3):
            call("POST", "/v1/decisions", "score", 422, json={**sample, "event_id": "x", name: markers.typed(name)})
    for _ in range(3):
        bad = {**sample, "event_id": "x", "items": [{**sample["items"][0], "sku": markers.typed("items.sku")}]}
        call("POST", "/v1/decisions", "score", 422, json=bad)
        call(
            "PUT",
            f"/v1/merchants/{markers.typed('a merchant')}",
            "person",
            400,
            json={"tier": "watched", "reason": "r"},
        )
        value = {"value": markers.typed("a value"), "reason": "r"}
        call("POST", "/v1/lists/disposable-domains/entries", "person", 422, json=value)
    for _ in range(2):
        number = markers.typed("a person")
        while "@" in number:  # an e-mail address of work names a member of staff
            del markers.texts[number]
            number = markers.typed("a person")
        report = {"what": "review", "result": "approved", "reason": "fine", "person": number}
        call("POST", f"/v1/decisions/{decision}/resolution", "outcome", 422, json=report)


def exported(daemon: Daemon, out: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files of an export of everything, and a table for research."""
    run(daemon, monkeypatch, "audit", "export", "--out", str(out))
    days = ("--from", "2026-01-01", "--to", "2036-12-31", "--tenant", TENANT, "--k", "2", "--l", "1")
    columns = ("--quasi", "session.source", "--quasi", "time", "--sensitive", "verdict", "--most-left-out", "1")
    table = CliRunner().invoke(main, ["audit", "research", *days, *columns, "--out", str(out / "table.csv")])
    assert "1 of 1 rows are in classes" in table.output, table.output
    return files(out)


def run(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, *args: str) -> None:
    """A command over the daemon's ledger."""
    for name in ("database_url", "key_file", "rules", "policies"):
        value = {"database_url": daemon.url, "key_file": daemon.key_file}.get(name, ROOT / name)
        monkeypatch.setenv(f"ARBITER_{name.upper()}", str(value))
    done = CliRunner().invoke(main, list(args))
    assert done.exit_code == 0, done.output


def files(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, by its name there."""
    return {f"{folder.name}/{each.name}": each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def send_all(call: Any, markers: Markers) -> list[str]:
    """An event of each kind with everything in it, and an outcome of each; the ids of the decisions."""
    decided = []
    kinds = [kind for kind in shipped().schema.kinds if kind != "outcome"]
    for kind in kinds:
        body = an_event(kind, markers)
        judged = shipped().kinds[kind].policy is not None
        path = "/v1/decisions" if judged else "/v1/events"
        response = call("POST", path, "score", json=body)
        assert response.status_code == 200, response.text
        assert call("POST", path, "score", json=body).content == response.content
        assert call("POST", path, "score", json={**body, "at": "2026-11-20T08:31:00Z"}).status_code == 409
        decided += [response.json()["id"]] if judged else []
        outcome = {"kind": "outcome", "event_id": f"out-{kind}", "at": AT}
        outcome["outcome"] = {"refers_to": f"ev-{kind}", "result": "chargeback"}
        assert call("POST", "/v1/events", "outcome", json=outcome).status_code == 200
    return decided


def send_wrong(call: Any, markers: Markers, decision: str) -> None:
    """Bodies, queries and headers that are refused or make no sense, all of them marked."""
    word = markers.word
    whole = an_event("transaction", markers)
    for number, (name, value) in enumerate(whole.items()):
        if name not in ("kind", "event_id", "at", "order_id"):
            for wrong in ([[value]], {"x": value}, word(f"{name} of a wrong type")):
                call("POST", "/v1/decisions", "score", json={**whole, "event_id": f"w{number}", name: wrong})
    for field in ("name", "email", "phone", "payer"):
        buyer = {field: word(field) + "\u0007" * 300}
        call("POST", "/v1/decisions", "score", json={**whole, "event_id": "w", "buyer": buyer})
    texts = (b'{"buyer": "%b"', b"%b", b'{"kind": "%b"}', b'{"kind": "transaction", "at": "%b"}', b'["%b"]')
    for text in texts:
        broken = text % word("a broken body").encode()
        call("POST", "/v1/decisions", "score", content=broken)
        call("POST", "/v1/events", "score", content=broken)
        call("POST", f"/v1/decisions/{decision}/resolution", "person", content=broken)
        call("POST", "/v1/lists/tor-exits/entries", "person", content=broken)
        call("PUT", "/v1/merchants/m-1", "person", content=broken)
        lines = broken + b"\n" + orjson.dumps({**whole, "event_id": "", "note": word("an unknown field")}) + b"\n"
        ndjson = {"content-type": "application/x-ndjson"}
        call("POST", "/v1/decisions/batch", "score", content=lines, headers=ndjson)
    reports = ({"what": word("what")}, {"what": "review", "result": word("result"), "reason": word("reason")})
    for report in (*reports, {"what": "enforced", "result": "captured", word("a key"): word("a value")}):
        call("POST", f"/v1/decisions/{decision}/resolution", "person", json=report)
    for path in ("/v1/decisions/{}", "/v1/decisions?cursor={}", "/v1/decisions?order_id={}", "/v1/decisions?since={}",
                 "/v1/merchants/{}", "/v1/lists/{}/entries", "/nowhere/{}", "/livez?{}"):  # fmt: skip
        call("GET", path.format(word("a path or query")), "audit")
        call("GET", path.format(word("a path or query")), "rules")
    for header in ("user-agent", "x-request-id", "traceparent", "x-forwarded-for", "authorization", "content-type",
                   "arbiter-deadline-ms", "cookie", "referer"):  # fmt: skip
        call("POST", "/v1/decisions", "score", content=b"{}", headers={header: word(header)})


CARDS = (
    CARD,
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "４１１１１１１１１１１１１１１１",
    "4111\u00a01111\u20091111 1111",
)


def test_a_full_card_number_is_refused_everywhere_and_kept_nowhere(
    tmp_path: Path, sqlite_url: str, key_path: Path
) -> None:
    """However it is written."""
    with Daemon(tmp_path, sqlite_url, key_path) as daemon:
        sample = orjson.loads((ROOT / "docs/examples/order.json").read_bytes())
        decision = daemon.call("POST", "/v1/decisions", "score", json=sample).json()["id"]
        answered = {card: send_card(daemon, sample, decision, card) for card in CARDS}
        metrics = daemon.client.get("/metrics").content
        daemon.kill()
        places = kept(daemon)

    for card, (answers, lines) in answered.items():
        assert [one.status_code for one in answers] == [422] * len(answers), [one.text[:200] for one in answers]
        assert lines.content.count(b'"pan_in_payload"') >= lines.content.count(b"\n") == 7, card
        places |= {f"{card}: lines": lines.content, f"{card}: answers": b"".join(one.content for one in answers)}
    assert found(dict.fromkeys(CARDS, "a card"), places | {"metrics": metrics}) == []


def send_card(
    daemon: Daemon, sample: dict[str, Any], decision: str, card: str
) -> tuple[list[httpx.Response], httpx.Response]:
    """A card number in everything that takes text: the answers, and that to a batch."""
    base = {**sample, "event_id": "with-a-card"}
    events = [
        {**base, "buyer": {**sample["buyer"], "name": f"张三 {card}"}},
        {**base, "shipping": {**sample["shipping"], "street": f"卡号{card}。"}},
        {**base, "items": [{**sample["items"][0], "title": card}]},
        {**base, "coupon": {"campaign": card}},
        {**base, card: "x"},
        {**base, "buyer": {card: "x"}},
        {**base, "card": {"number": card, "cvv": "123"}},
    ]
    answers = [
        daemon.call("POST", path, "score", json=one) for one in events for path in ("/v1/decisions", "/v1/events")
    ]
    note, entries = f"called, card {card}", "/v1/lists/disposable-domains/entries"
    answers += [
        daemon.call("POST", f"/v1/decisions/{decision}/resolution", "person",
                    json={"what": "enforced", "result": "captured", "reason": note}),
        daemon.call("POST", f"/v1/decisions/{decision}/resolution", "outcome",
                    json={"what": "review", "result": "approved", "reason": "fine", "person": note}),
        daemon.call("POST", entries, "person", json={"value": card, "reason": "new"}),
        daemon.call("POST", entries, "person", json={"value": "a.example", "reason": note}),
        daemon.call("PUT", "/v1/merchants/m-1", "person", json={"tier": "watched", "reason": note}),
    ]  # fmt: skip
    batch = b"".join(orjson.dumps(one) + b"\n" for one in events)
    ndjson = {"content-type": "application/x-ndjson"}
    lines = daemon.call("POST", "/v1/decisions/batch", "score", content=batch, headers=ndjson)
    daemon.call("GET", f"/v1/decisions?order_id={card}", "audit")
    daemon.call("GET", f"/v1/decisions/{card}", "audit")
    return answers, lines
