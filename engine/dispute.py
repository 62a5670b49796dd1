"""What a chargeback dispute needs of one decision: the order, 3-D Secure, the delivery, and earlier undisputed orders.

    pack = await Disputes(ledger, vault, library.find).pack(stored, disputed_on, now)

Everything personal in it comes out of the vault, so whoever makes one records an access first (`engine.journal`). What
the ledger does not hold is named in `missing`, never left out without a word.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import orjson

from engine.cases import Case
from engine.ledger import Filter, Ledger, Stored
from engine.money import Money
from engine.records import ByHash, Records
from engine.rulebook import Rulebook
from engine.schema import FRAUD, FieldDef, at_path, decode
from engine.vault import Vault

FORMAT = 1

ELEMENTS: Mapping[str, str] = {
    "card.ref": "card",
    "buyer.account": "account",
    "device.id": "device",
    "ip": "ip",
    "shipping.address": "address",
}
"""The identities by which orders are linked, by the path of their field."""

_SEARCHED = ("card.ref", "buyer.account", "device.id", "shipping.address")
"""An address of the network alone links nobody: half a city may share it."""

DAY = 86_400_000_000
LOOK_BACK = 730 * DAY
"""µs before the order in which earlier ones are looked for."""
MOST = 500
"""Earlier orders that are looked at for each identity, the newest first."""

CONDITION = "10.4"
YOUNGEST, OLDEST, ENOUGH = 120, 365, 2
"""Visa Compelling Evidence 3.0 (condition 10.4, since April 2023): two earlier undisputed transactions with the same
card, 120 to 365 days before the dispute, that share two of account, address, device and ip with it, one of them device
or ip. In the words of acquirers: the rules themselves are for members of the scheme."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier order that is linked: what it shares (`ELEMENTS`), how many days before the dispute, whether a
    chargeback or fraud was reported on it, the verdict as it stands, and whether it went through: it was captured or,
    where nobody said what was done, let through."""

    record: Mapping[str, Any]
    shared: tuple[str, ...]
    days: int
    disputed: bool
    verdict: str
    through: bool


class Disputes:
    """Gathers what there is about one decision and its order."""

    def __init__(self, ledger: Ledger, vault: Vault, rulebook: ByHash) -> None:
        self._ledger = ledger
        self._vault = vault
        self._rulebook = rulebook
        self._records = Records(ledger, vault, rulebook)

    async def pack(self, stored: Stored, disputed_on: int | None, now: int) -> dict[str, Any]:
        """The pack of a decision. `disputed_on` (UTC µs) is when the dispute was raised; without it, when a chargeback
        on the order became known, and else `now`."""
        record = orjson.loads(stored.entry.leaf)
        rulebook = await self._rulebook(record["pins"]["rulebook"])
        beside = [each async for each in self._of_order(stored)]
        outcomes = await self._outcomes(stored, beside)
        if disputed_on is None:
            disputed_on = min((each.entry.at for each in outcomes if _result(each) in FRAUD), default=now)
        policy = rulebook.kinds[record["event"]["kind"]].policy
        assert policy is not None, "a decision had a policy"
        earlier, more = await self._earlier(stored, disputed_on, policy.verdicts[0])
        case = await self._records.case(stored)
        await self._vault.prepare(stored.entry.sealed)
        order = self._event(stored, rulebook)
        steps = [self._event(await self._whole(each), rulebook) for each in beside if _kind(each) == "payment"]
        parcels = [self._event(await self._whole(each), rulebook) for each in beside if _kind(each) == "fulfilment"]
        after = [self._event(await self._whole(each), rulebook) for each in beside if _kind(each) == "aftersale"]
        found: dict[str, Any] = {
            "format": FORMAT,
            "disputed_on": _iso(disputed_on),
            "decision": _decision(case, stored),
            "order": order,
            "payments": steps,
            "three_ds": [each for each in (order, *steps) if "payment.three_ds" in each["fields"]],
            "delivery": parcels,
            "after_sale": after,
            "outcomes": [self._event(await self._whole(each), rulebook) for each in outcomes],
            "earlier": [_shown(each) for each in earlier],
            "visa_ce_3": {},
        }
        found["visa_ce_3"] = _compelling(earlier, list(_not_for(found)))
        return {**found, "missing": list(_missing(found, more, linked=bool(stored.entry.keys)))}

    async def stands(self, tenant: str, found: Mapping[str, Any]) -> bool:
        """Whether all that was opened for a pack of this tenant can still be opened."""
        for event in events_of(found):
            stored = await self._ledger.get(tenant, event["id"])
            assert stored is not None, "entries are never deleted"
            whose = orjson.loads(stored.entry.leaf)["sealed"]
            if sum(cell.readable for cell in stored.entry.sealed) + len(event["erased"]) < len(whose):
                return False
        return True

    async def _whole(self, stored: Stored) -> Stored:
        """The entry with its sealed data; a page has none."""
        found = await self._ledger.get(stored.entry.tenant, stored.entry.id)
        assert found is not None, "it was on a page just now, and the ledger forgets nothing"
        await self._vault.prepare(found.entry.sealed)
        return found

    async def _of_order(self, stored: Stored) -> AsyncIterator[Stored]:
        """The other events of the same order, the first one first; without an order, none."""
        entry = stored.entry
        if entry.order_id is None:
            return
        found = [each async for each in self._records.all(entry.tenant, Filter(order_id=entry.order_id))]
        for each in sorted(found, key=_when):
            if each.entry.kind in ("decision", "event") and each.entry.id != entry.id:
                yield each

    async def _outcomes(self, stored: Stored, beside: Iterable[Stored]) -> list[Stored]:
        """What became known of the event, the first one first. An outcome may name no order: it has the pseudonyms of
        the event that it is about."""
        found = {each.entry.id: each for each in beside}
        for pseudonym in {each for path, each in stored.entry.keys if path in _SEARCHED}:
            wanted = Filter(kind="event", event_kind="outcome", pseudonym=pseudonym)
            found |= {each.entry.id: each async for each in self._records.all(stored.entry.tenant, wanted)}
        about = [each for each in found.values() if _kind(each) == "outcome" and _about(each) == stored.entry.event_id]
        return sorted(about, key=_when)

    def _event(self, stored: Stored, rulebook: Rulebook) -> dict[str, Any]:
        """An event with its fields, personal ones too, and whose were erased."""
        record = orjson.loads(stored.entry.leaf)
        event = record["event"]
        fields = rulebook.schema.fields(event["kind"])
        opened: dict[str, Any] = {}
        subjects = []
        for cell in stored.entry.sealed:
            if cell.readable:
                text = orjson.loads(self._vault.open(cell))
                subjects.append(text["role"])
                opened |= decode(text["fields"])
        public = decode(event["public"])
        values = {path: at_path(public, path) for path, field in fields.items() if field.privacy == "public"} | opened
        return {
            "id": stored.entry.id,
            "event_id": event["id"],
            "kind": event["kind"],
            "at": _iso(event["at"]),
            "fields": {path: _plain(value, fields.get(path)) for path, value in values.items() if _said(value)},
            "erased": [each["subject"] for each in record["sealed"] if each["subject"] not in subjects],
        }

    # Earlier orders

    async def _earlier(self, stored: Stored, disputed_on: int, mildest: str) -> tuple[list[Earlier], bool]:
        """Earlier decisions of the same kind that share an identity, the newest first; and whether there may be more
        than were looked at. `mildest` is the verdict that lets through."""
        entry, keys = stored.entry, dict(stored.entry.keys)
        found: dict[str, Stored] = {}
        more = False
        for path in _SEARCHED:
            if path not in keys:
                continue
            wanted = Filter(
                kind="decision",
                event_kind=entry.event_kind,
                pseudonym=keys[path],
                since=entry.received_at - LOOK_BACK,
                until=entry.received_at,
            )
            count = 0
            async for each in self._records.all(entry.tenant, wanted):
                count += 1
                if count > MOST:
                    more = True
                    break
                if each.entry.at < entry.at and each.entry.id != entry.id:
                    found.setdefault(each.entry.id, await self._whole(each))
        disputed = await self._disputed(entry.tenant, {keys[path] for path in _SEARCHED if path in keys})
        earlier = []
        for each in sorted(found.values(), key=lambda one: -one.entry.at):
            shared = tuple(name for path, name in ELEMENTS.items() if path in keys and _same(each, path, keys[path]))
            if shared:  # A card of today may be the recipient's phone of then: that links nothing.
                case = await self._records.case(each)
                days, reported = (disputed_on - each.entry.at) // DAY, each.entry.event_id in disputed
                earlier.append(Earlier(case.first, shared, days, reported, case.verdict, _through(case, mildest)))
        return earlier, more

    async def _disputed(self, tenant: str, pseudonyms: Iterable[str]) -> set[str]:
        """The events of these identities on which a chargeback or fraud was reported: an outcome has the keys of the
        event it is about."""
        found = set()
        for pseudonym in pseudonyms:
            wanted = Filter(kind="event", event_kind="outcome", pseudonym=pseudonym)
            async for each in self._records.all(tenant, wanted):
                if _result(each) in FRAUD:
                    found.add(_about(each))
        return found


def events_of(pack: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The events that are opened for a pack."""
    return [pack["order"], *pack["payments"], *pack["delivery"], *pack["after_sale"], *pack["outcomes"]]


def _when(stored: Stored) -> tuple[int, int]:
    """By the event's own time, and in one moment as they came."""
    return stored.entry.at, stored.arrival


def _through(case: Case, mildest: str) -> bool:
    enforced = [each["said"] for each in case.later if each["what"] == "enforced"]
    return "captured" in enforced if enforced else case.verdict == mildest


def _same(stored: Stored, path: str, pseudonym: str) -> bool:
    return dict(stored.entry.keys).get(path) == pseudonym


def _kind(stored: Stored) -> str:
    return stored.entry.event_kind


def _outcome(stored: Stored) -> Mapping[str, str]:
    found: Mapping[str, str] = orjson.loads(stored.entry.leaf)["event"]["public"]["outcome"]
    return found


def _about(stored: Stored) -> str:
    return _outcome(stored)["refers_to"]


def _result(stored: Stored) -> str:
    return _outcome(stored)["result"]


def _decision(case: Case, stored: Stored) -> dict[str, Any]:
    record = case.first
    return {
        "id": record["id"],
        "event_id": record["event"]["id"],
        "order_id": record["event"]["order"],
        "decided_at": _iso(record["decided_at"]),
        "verdict": record["verdict"],
        "verdict_now": case.verdict,
        "score": record["score"],
        "reasons": [{"rule": each["rule"], "message": each["message"]} for each in record["reasons"]],
        "afterwards": [
            {"what": each["what"], "said": each["said"], "at": _iso(each["decided_at"]), "verdict": each["verdict"]}
            for each in case.later
        ],
        "receipt": stored.receipt.json(),
    }


def _shown(each: Earlier) -> dict[str, Any]:
    event = each.record["event"]
    return {
        "id": each.record["id"],
        "event_id": event["id"],
        "order_id": event["order"],
        "at": _iso(event["at"]),
        "amount": _plain(decode(event["public"]).get("amount"), None),
        "verdict": each.verdict,
        "went_through": each.through,
        "shares": list(each.shared),
        "days_before_the_dispute": each.days,
        "disputed": each.disputed,
    }


def _not_for(found: Mapping[str, Any]) -> Iterator[str]:
    """Why Visa Compelling Evidence 3.0 is not for this dispute, as far as it is known."""
    scheme = found["order"]["fields"].get("card.scheme")
    if scheme not in (None, "visa"):
        yield f"the card is of another scheme: {scheme}"
    said = [each["fields"] for each in found["outcomes"] if each["fields"].get("outcome.result") in FRAUD]
    reasons = sorted({each["outcome.reason"] for each in said if "outcome.reason" in each})
    if reasons and CONDITION not in reasons:
        yield f"the dispute has another reason than {CONDITION}: {', '.join(reasons)}"


def _compelling(earlier: Sequence[Earlier], not_for: Sequence[str]) -> dict[str, Any]:
    """Whether two earlier orders are what Visa Compelling Evidence 3.0 asks for, and which (`YOUNGEST` …); `not_for`
    says why it is not asked."""
    if not_for:
        return {"met": False, "earlier": [], "shared": [], "not_for": not_for}
    good = [each for each in earlier if each.through and not each.disputed]
    fit = [each for each in good if "card" in each.shared and YOUNGEST <= each.days <= OLDEST]
    for pair in combinations(fit, ENOUGH):
        common = set.intersection(*({*each.shared} for each in pair)) - {"card"}
        if len(common) >= ENOUGH and common & {"device", "ip"}:
            ids = [each.record["id"] for each in pair]
            return {"met": True, "earlier": ids, "shared": sorted(common), "not_for": []}
    return {"met": False, "earlier": [each.record["id"] for each in fit], "shared": [], "not_for": []}


def _missing(found: Mapping[str, Any], more: bool, *, linked: bool) -> Iterator[str]:
    """What a dispute asks for and the ledger does not hold."""
    if found["decision"]["order_id"] is None:
        yield "the event names no order: its payments, parcels and after-sale cases cannot be found"
    events = [found["order"], *found["payments"], *found["delivery"], *found["after_sale"]]
    for subject in dict.fromkeys(subject for event in events for subject in event["erased"]):
        yield f"personal data of the {subject} was erased"
    fields = found["order"]["fields"]
    for path, name in ELEMENTS.items():
        if path not in fields and not found["order"]["erased"]:  # Else it was there, perhaps.
            yield f"the order has no {name} ({path})"
    if not any(path.startswith("items.") for path in fields):
        yield "the order has no description of what was bought (items)"
    if not found["three_ds"]:
        yield "no result of 3-D Secure was sent (payment.three_ds)"
    if not any(each["fields"].get("fulfilment.stage") == "delivered" for each in found["delivery"]):
        yield "no proof of delivery was sent (fulfilment.stage delivered)"
    yield from _unlinked(found, linked=linked)
    if more:
        yield f"of some identity only the newest {MOST} earlier orders were looked at"


def _unlinked(found: Mapping[str, Any], *, linked: bool) -> Iterator[str]:
    """Why no earlier orders speak for this one."""
    if not linked:
        yield "the pseudonyms of the order were erased, or it never had any: earlier orders cannot be found"
    elif not any(each["went_through"] and not each["disputed"] for each in found["earlier"]):
        yield "no earlier undisputed order shares a card, an account, a device or an address"
    elif found["visa_ce_3"]["not_for"]:
        yield f"Visa Compelling Evidence 3.0 is not for it: {'; '.join(found['visa_ce_3']['not_for'])}"
    elif not found["visa_ce_3"]["met"]:
        yield "no two earlier orders are what Visa Compelling Evidence 3.0 asks for"


def _said(value: Any) -> bool:
    return value is not None and value != []


def _plain(value: Any, field: FieldDef | None) -> Any:
    """A value as people and JSON have it: amounts as text, instants in ISO 8601."""
    if isinstance(value, list):
        return [_plain(item, field) for item in value]
    if isinstance(value, Money):
        return str(value)
    if field is not None and field.type == "instant" and isinstance(value, int):
        return _iso(value)
    return value if value is None or isinstance(value, str | bool | int) else str(value)


def _iso(at: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)).isoformat().replace("+00:00", "Z")
