"""What the ledger and the vault hold about one person, for that person (PIPL 44, 45 and 50; GDPR 15).

    found = await collect(ledger, vault, "shop-a", {"account": ["u-1"], "phone": ["13800138000"]})
    record = await note_access(journal, vault, "shop-a", found, by)      # before anything is written
    as_json(found, record), as_html(found, record)

An entry is the person's when one of its pseudonyms is that of an identifier that was given. Opened is the data of the
subject that has this identifier in that entry, and of no other: of an order that came to somebody's door the recipient
gets the address and not the buyer's name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from typing import Any, NamedTuple

import orjson

from engine.callers import By
from engine.errors import RequestRefused
from engine.jcs import canonical
from engine.journal import Journal, sealed_note
from engine.ledger import Filter, Ledger, Stored
from engine.ledger.reading import EVIDENCE, listed_under
from engine.packs.moments import BEIJING, DAY
from engine.replay import REPLAY
from engine.retention import Retention
from engine.reveals import REVEAL
from engine.schema import SUBJECTS, FieldDef, decode, normal, schema
from engine.vault import Vault, subject_of

FORMAT = 1
IDENTIFIERS = ("account", "phone", "email", "card", "payer", "person", "device", "payout_account")
"""What a person can be looked up by: namespaces of identities (`schema.ENTITIES`)."""

SUBJECT_ACCESS = "subject_access"
PURPOSE = "subject_request"
LOOKS = (REVEAL, EVIDENCE, REPLAY)
"""The accesses that open single entries."""

MOST = 100_000
"""Entries about one person that are read at most; more are no person."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An identifier that was given: its namespace, its value, its pseudonym, and in how many entries it is."""

    kind: str
    value: str
    pseudonym: str
    found: int


@dataclass(frozen=True, slots=True)
class Held:
    """One entry about the person. `personal` are its opened values by path; `erased` whether some have no key any more;
    `subjects` the keys' subjects behind what was opened; `later` the records that refer to it, with opened reasons."""

    record: Mapping[str, Any]
    personal: Mapping[str, Any]
    erased: bool
    subjects: frozenset[str]
    later: tuple[tuple[Mapping[str, Any], str | None], ...] = ()


class Listing(NamedTuple):
    """An identifier on a list: which, how it stands, and since and until when (UTC microseconds)."""

    name: str
    state: str
    added: int
    expires: int | None


@dataclass(frozen=True, slots=True)
class Found:
    """All of it: what was asked for, the entries by time, the recorded looks at them, and the entries of lists that are
    one of the identifiers."""

    tenant: str
    asked: tuple[Asked, ...]
    entries: tuple[Held, ...]
    looks: tuple[Mapping[str, Any], ...] = field(default=())
    listed: tuple[Listing, ...] = field(default=())

    @property
    def missing(self) -> tuple[Asked, ...]:
        """The identifiers under which nothing is held."""
        return tuple(each for each in self.asked if not each.found)


async def collect(ledger: Ledger, vault: Vault, tenant: str, given: Mapping[str, Sequence[str]]) -> Found:
    """What is held under these identifiers, namespace → values. Raises RequestRefused for one that names nobody, and
    VaultError for data that does not open.
    """
    names = _names(vault, tenant, given)
    ids: dict[str, dict[str, None]] = {pseudonym: {} for _, _, pseudonym in names}
    subjects = {pseudonym: {subject_of(role, pseudonym) for role in SUBJECTS} for pseudonym in ids}
    for pseudonym, entries in ids.items():
        # By the subjects too: they are what leads to sealed data when the pseudonyms are past their term.
        for name in (pseudonym, *sorted(subjects[pseudonym])):
            async for stored in ledger.all(tenant, Filter(pseudonym=name)):
                if stored.entry.kind in ("decision", "event"):
                    entries[stored.entry.id] = None
                if len(entries) > MOST:
                    raise RequestRefused(f"more than {MOST:,} entries have this identifier: it is not one person's")
    held = []
    theirs = frozenset().union(*subjects.values())
    for id in dict.fromkeys(id for entries in ids.values() for id in entries):
        stored_whole = await ledger.get(tenant, id)
        assert stored_whole is not None, "it was just listed, and nothing is deleted from the ledger"
        held.append(await _held(ledger, vault, stored_whole, frozenset(ids), theirs))
    held.sort(key=lambda each: int(each.record["event"]["arrival"]))
    asked = tuple(Asked(kind, value, pseudonym, len(ids[pseudonym])) for kind, value, pseudonym in names)
    rows = await ledger.database.read(lambda connection: listed_under(connection, tenant, ids))
    listed = tuple(Listing(row.list, row.state, row.added, row.expires) for row in rows)
    return Found(tenant, asked, tuple(held), await _looks(ledger, tenant, held), listed)


def _names(vault: Vault, tenant: str, given: Mapping[str, Sequence[str]]) -> list[tuple[str, str, str]]:
    found = []
    for kind, values in given.items():
        assert kind in IDENTIFIERS, kind
        for value in values:
            form = normal(kind, value)
            if not form.strip("+"):
                raise RequestRefused(f"an empty {kind} names nobody")
            found.append((kind, value, vault.pseudonym(tenant, kind, form)))
    if not found:
        raise RequestRefused(f"name the person by at least one of: {', '.join(IDENTIFIERS)}")
    return found


async def _held(
    ledger: Ledger, vault: Vault, stored: Stored, pseudonyms: frozenset[str], theirs: frozenset[str]
) -> Held:
    entry = stored.entry
    paths = {path for path, pseudonym in entry.keys if pseudonym in pseudonyms}
    personal: dict[str, Any] = {}
    subjects = set()
    await vault.prepare(entry.sealed)
    for cell in entry.sealed:
        if cell.readable:
            fields = orjson.loads(vault.open(cell))["fields"]
            if cell.subject in theirs or not paths.isdisjoint(fields):
                personal |= fields
                subjects.add(cell.subject)
    later: list[tuple[Mapping[str, Any], str | None]] = []
    if entry.kind == "decision":
        about = Filter(refers_to=entry.id)
        later = [
            await _later(ledger, vault, each, frozenset(subjects)) async for each in ledger.all(entry.tenant, about)
        ]
    erased = not all(cell.readable for cell in entry.sealed)
    return Held(orjson.loads(entry.leaf), personal, erased, frozenset(subjects), tuple(reversed(later)))


async def _later(
    ledger: Ledger, vault: Vault, listed: Stored, subjects: frozenset[str]
) -> tuple[Mapping[str, Any], str | None]:
    """A record that refers to one of the person's, and the reason in it where it is sealed under the person's key."""
    stored = await ledger.get(listed.entry.tenant, listed.entry.id)
    assert stored is not None, "it was just listed"
    cells = [cell for cell in stored.entry.sealed if cell.readable and cell.subject in subjects]
    await vault.prepare(cells)
    reason = orjson.loads(vault.open(cells[0]))["fields"]["note"] if cells else None
    return orjson.loads(stored.entry.leaf), reason


async def _looks(ledger: Ledger, tenant: str, held: Iterable[Held]) -> tuple[Mapping[str, Any], ...]:
    """The recorded looks at these entries: revealed, sent in a dispute, computed again from their values."""
    ids = {each.record["id"] for each in held} | {one["id"] for each in held for one, _ in each.later}
    leaves = [leaf for what in LOOKS for leaf in await ledger.accesses(tenant, what, 0)]
    records = [record for record in map(orjson.loads, leaves) if record["object"] in ids]
    return tuple(sorted(records, key=lambda record: int(record["decided_at"])))


async def note_access(journal: Journal, vault: Vault, found: Found, by: By) -> str:
    """Record that this person's data was taken out; the record's id.

    The leaf says by how many identifiers of which sorts; which they were is sealed under the person's own key where the
    vault has one, so that it goes with an erasure.
    """
    sorts = {kind: sum(each.kind == kind for each in found.asked) for kind in {each.kind for each in found.asked}}
    # Where nothing is held, under what an erasure by the same identifier will look for.
    nobody = subject_of(SUBJECTS[0], found.asked[0].pseudonym)
    subject = next((name for held in found.entries for name in sorted(held.subjects)), nobody)
    told = ", ".join(f"{each.kind} {each.value}" for each in found.asked)
    await vault.ready(found.tenant)
    return await journal.access(
        *(found.tenant, SUBJECT_ACCESS, canonical(sorts).decode(), PURPOSE, len(found.entries), by),
        lambda record: sealed_note(vault, found.tenant, record, subject, told),
    )


# -- For the person --------------------------------------------------------------------------------------------

ABOUT = {
    "purpose": {
        "en": "To decide on orders, payments, listings and accounts: whether they are likely to be fraud, abuse or "
        "against the law. Rules written by people compute each verdict from the values shown here and from counts of "
        "earlier events; each rule that fired is named with its reason.",
        "zh": "判断订单、支付、商品和账户是否涉嫌欺诈、滥用或违法。由人编写的规则根据本文件所列数据"
        "及既往事件的计数得出结论; 命中的每条规则及其理由均已列出。",
    },
    "method": {
        "en": "Personal values are encrypted under a key of this person alone; the permanent log holds none of them.",
        "zh": "个人信息以该个人专用密钥加密保存; 永久日志不含个人信息。",
    },
    "recipients": {
        "en": "Arbiter passes personal data to nobody by itself; the answer to an event goes to the shop that sent "
        "it. Looks at the data are listed below. To whom the shop passed data otherwise, the shop must say.",
        "zh": "系统本身不向任何第三方提供个人信息; 结论仅返回发送事件的商家。查阅记录见下。"
        "商家另行对外提供的情况由商家说明。",
    },
    "retention": {
        "en": "Sealed values and pseudonyms are kept until they are erased or their term is over; the terms are below. "
        "For what no term is told, the shop must say it. What a law keeps of persons who were erased, and what was "
        "sent in disputes about them, is found by no identifier any more, and is not in this file.",
        "zh": "加密数据与假名保存至被删除或期限届满; 期限见下。未列明者由商家说明。"
        "已删除人员依法留存的数据及争议中提交的材料不再能以任何标识检索, 不在本文件中。",
    },
    "rights": {
        "en": "You may ask the shop for correction, erasure, an explanation, and a decision by a person "
        "(PIPL 24, 46, 47, 48).",
        "zh": "您可以要求商家更正、删除、解释说明, 并可拒绝仅由自动化方式作出的决定"
        "(个人信息保护法第24、46、47、48条)。",
    },
}
"""What is processed and why, as far as Arbiter knows (PIPL 17)."""


def shown(found: Found, retention: Retention, record: str, made_at: int) -> dict[str, Any]:
    """All of it as plain values. `record` is the access as it was recorded, `retention` the terms in force."""
    kinds = dict.fromkeys(held.record["event"]["kind"] for held in found.entries)
    return {
        "format": FORMAT,
        "tenant": found.tenant,
        "made_at": _time(made_at),
        "record": record,
        "asked": [{"by": each.kind, "value": each.value, "entries": each.found} for each in found.asked],
        "not_found": [{"by": each.kind, "value": each.value} for each in found.missing],
        "processing": ABOUT,
        "terms": [_term(kind, retention) for kind in kinds if kind in retention.classes],
        "entries": [_entry(held) for held in found.entries],
        "looks": [_look(each) for each in found.looks],
        "lists": [_listed(each) for each in found.listed],
    }


def _term(kind: str, retention: Retention) -> dict[str, Any]:
    """How long data of a kind of event is kept, in days, and why."""
    of = retention.classes[kind]
    return {"kind": kind, "days": of.personal // DAY, "pseudonyms_days": of.pseudonyms // DAY, "because": of.because}


def _listed(each: Listing) -> dict[str, Any]:
    expires = None if each.expires is None else _time(each.expires)
    return {"list": each.name, "state": each.state, "added": _time(each.added), "expires": expires}


def _entry(held: Held) -> dict[str, Any]:
    record, event = held.record, held.record["event"]
    fields = schema().fields(event["kind"])
    personal = [
        {"field": path, "what": fields[path].doc if path in fields else "", "value": _readable(fields, path, value)}
        for path, value in sorted(held.personal.items())
    ]
    told = {
        "id": record["id"],
        "event": event["id"],
        "kind": event["kind"],
        "order": event["order"],
        "at": _time(event["at"]),
        "received_at": _time(event["received_at"]),
        "personal": personal,
        "some_erased": held.erased,
        "public": dict(_flat(fields, event["public"])),
    }
    if record["type"] == "decision":
        told |= _verdict(record)
        told["later"] = [_later_shown(later, reason) for later, reason in held.later]
    return told


def _verdict(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "verdict": record["verdict"],
        "score": record["score"],
        "reasons": [
            {"rule": each["rule"], "message": each["message"], "law": each["law"]} for each in record["reasons"]
        ],
        "anomaly": record["anomaly"],
        "unusual": record["unusual"],
        "actions": record["actions"],
        "asks": record["asks"],
    }


def _later_shown(record: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
    by = "a person" if record["by"]["person"] else "automatic"
    told = {"at": _time(record["decided_at"]), "what": record["what"], "result": record["said"], "by": by}
    return {**told, "verdict": record["verdict"], "reason": reason}


def _look(record: Mapping[str, Any]) -> dict[str, Any]:
    """Who looked is the shop's staff: it is said that it was one, and the shop knows which."""
    service = record["by"]["kind"] == "service"
    by = record["by"]["name"] if service else "a member of staff"
    return {"at": _time(record["decided_at"]), "entry": record["object"], "purpose": record["purpose"], "by": by}


def _flat(fields: Mapping[str, FieldDef], value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Path → recorded value as people write it."""
    for name, item in value.items():
        here = path + name
        if isinstance(item, Mapping) and here not in fields:
            yield from _flat(fields, item, f"{here}.")
        elif isinstance(item, list) and here not in fields:
            yield here, [dict(_flat(fields, row, f"{here}.")) for row in item]
        else:
            yield here, _readable(fields, here, item)


def _readable(fields: Mapping[str, FieldDef], path: str, value: Any) -> Any:
    """A recorded value as people write it."""
    if isinstance(value, list):
        return [_readable(fields, path, item) for item in value]
    kind = fields[path].type if path in fields else ""
    if kind == "instant" and value is not None:
        return _time(value)
    if kind == "duration" and value is not None:
        return f"{value / 1_000_000:g} s"
    found = decode(value)
    return found if found is None or isinstance(found, bool | int) else str(found)


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / 1_000_000, BEIJING).isoformat(timespec="seconds")


def as_json(told: Mapping[str, Any]) -> bytes:
    """The values of `shown` as JSON, for machines."""
    return (json.dumps(told, ensure_ascii=False, indent=2) + "\n").encode()


# -- As a page -------------------------------------------------------------------------------------------------

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem;border-top:1px solid #ccc;padding-top:1rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.25rem .6rem;
border-bottom:1px solid #e5e5e5;overflow-wrap:anywhere}th{width:30%;font-weight:600}.what{color:#666;font-size:.9em}"""

_WORDS = {
    "purpose": "Purpose 目的",
    "method": "Method 方式",
    "recipients": "Recipients 接收方",
    "rights": "Rights 权利",
    "retention": "Retention 保存期限",
}


def as_html(told: Mapping[str, Any]) -> bytes:
    """The values of `shown` as one page that loads nothing, with everything escaped."""
    return ("\n".join(_page(told)) + "\n").encode()


def _page(told: Mapping[str, Any]) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    yield f"<title>Personal data held 个人信息副本</title><style>{_STYLE}</style></head><body>"
    yield "<h1>Personal data held about you 您的个人信息副本</h1>"
    yield from _table(
        [("Held by 处理者", told["tenant"]), ("Made 制作时间", told["made_at"]), ("Record 记录编号", told["record"])]
    )
    yield "<h2>Looked up by 查询依据</h2>"
    yield from _table([(each["by"], f"{each['value']}: {each['entries']} entries 条") for each in told["asked"]])
    yield "<h2>What is processed and why 处理说明</h2>"
    yield from _table([(_WORDS[name], f"{text['en']}\n{text['zh']}") for name, text in told["processing"].items()])
    yield from _table([(each["kind"], _kept(each)) for each in told["terms"]])
    for entry in told["entries"]:
        yield from _entry_page(entry)
    yield "<h2>Who looked at it 查阅记录</h2>"
    if not told["looks"]:
        yield "<p>Nobody so far, by the records. 暂无记录。</p>"
    yield from _table([(each["at"], f"{each['by']}, {each['purpose']}: {each['entry']}") for each in told["looks"]])
    if told["lists"]:
        yield "<h2>Lists 名单</h2>"
        yield from _table([(each["list"], f"{each['state']} {each['added']}") for each in told["lists"]])
    yield "</body></html>"


def _kept(term: Mapping[str, Any]) -> str:
    because = term["because"]
    return f"{term['days']} days 日\n{because.get('en', '')}\n{because.get('zh', '')}"


def _entry_page(entry: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2>{_text(entry['kind'])} {_text(entry['at'])}</h2>"
    rows = [("Event 事件", entry["event"]), ("Order 订单", entry["order"] or "–"), ("Entry 记录", entry["id"])]
    if "verdict" in entry:
        rows.append(("Verdict 结论", f"{entry['verdict']} ({entry['score']})"))
        rows += [
            ("Reason 理由", f"{r['message'].get('en', '')}\n{r['message'].get('zh', '')}") for r in entry["reasons"]
        ]
        rows += [
            (f"{each['at']}", f"{each['what']}: {each['result']} ({each['by']}) {each['reason'] or ''}")
            for each in entry["later"]
        ]
    if entry["some_erased"]:
        rows.append(("Erased 已删除", "Some data of this entry was erased. 部分数据已删除。"))
    yield from _table(rows)
    yield "<p><b>Personal data 个人信息</b></p>"
    yield from _table([(each["field"], _shown_value(each["value"]), each["what"]) for each in entry["personal"]])
    yield "<p><b>Other data 其他数据</b></p>"
    yield from _table([(path, _shown_value(value)) for path, value in entry["public"].items()])


def _shown_value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def _table(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield "<table>"
    for name, value, *what in rows:
        under = f'<div class="what">{_text(what[0])}</div>' if what and what[0] else ""
        yield f"<tr><th>{_text(name)}{under}</th><td>{_text(value)}</td></tr>"
    yield "</table>"


def _text(value: Any) -> str:
    return escape(str(value)).replace("\n", "<br>")
