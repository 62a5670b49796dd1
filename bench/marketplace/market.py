"""The town of the simulator: people, households, offices, shops and goods, and what an order leaves behind.

Everything here is as true of honest trade as of fraud: both place orders through `Market.order`, so that no field and
no habit of the writer gives fraud away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

ZONE = timezone(timedelta(hours=8))
START = datetime(2026, 7, 6, tzinfo=ZONE)
"""Midnight of a Monday in Shanghai: second 0 of the simulation."""
HOUR, DAY = 3600.0, 86400.0

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Goods:
    """A category: typical price in CNY and its spread (log-normal), weight in grams, share of orders sent back."""

    category: str
    price: float
    spread: float
    weight: float
    returned: float
    share: float
    """Of the shops, how many sell it (relative)."""

    @property
    def virtual(self) -> bool:
        """Nothing has to be shipped."""
        return self.weight == 0


GOODS = (
    Goods("apparel", 130, 0.6, 420, 0.16, 20),
    Goods("shoes", 280, 0.5, 950, 0.12, 8),
    Goods("electronics", 450, 0.9, 650, 0.05, 10),
    Goods("phones", 3200, 0.5, 480, 0.04, 3),
    Goods("cosmetics", 160, 0.6, 260, 0.03, 8),
    Goods("snacks", 48, 0.5, 800, 0.01, 12),
    Goods("household", 75, 0.7, 1400, 0.04, 14),
    Goods("toys", 80, 0.6, 600, 0.04, 7),
    Goods("books", 42, 0.4, 500, 0.02, 5),
    Goods("furniture", 1100, 0.7, 14_000, 0.06, 3),
    Goods("jewellery", 700, 0.9, 90, 0.07, 4),
    Goods("game_credit", 30, 0.9, 0, 0.0, 3),
    Goods("gift_card", 200, 0.6, 0, 0.0, 2),
)
PAPERS: Mapping[str, Body] = {
    "snacks": {"licences": [{"type": "food_operation", "number": "JY13301060012345"}]},
    "books": {"licences": [{"type": "publication_retail", "number": "新出发浙零字第0001号"}]},
    "toys": {"evidence": ["ccc"]},
    "cosmetics": {"registration": "G20260001"},
}
"""What shops show for goods of a category, honest ones and the others."""
PHRASES = ("很好", "不错", "好评", "物流很快", "和描述一致", "质量可以", "满意", "包装完好", "下次再来", "性价比高")
"""What people write who have nothing to say; a fingerprint cannot tell one from another."""


@dataclass(slots=True)
class Office:
    """A workplace, school or campus: many people, one network, one address."""

    address: str
    ip: str


@dataclass(slots=True)
class Household:
    """People who share a home, its network, and sometimes a tablet, a wallet and a refund account."""

    address: str
    ip: str
    city: int
    station: str
    """The pick-up station of the neighbourhood."""
    courier_loses: float
    """Share of parcels that never arrive here."""
    tablet: str | None = None
    members: list[Person] = field(default_factory=list)


@dataclass(slots=True)
class Person:
    """A buyer with one account."""

    account: str
    home: Household
    device: str
    payer: str
    cards: tuple[str, ...]
    payout: str
    signup: float
    """Seconds since the start; before it, below 0."""
    orders: int
    verified: bool
    email: str
    rate: float
    """Orders a day."""
    purse: float
    """Factor on prices."""
    office: Office | None = None
    by_card: bool = False
    to_station: float = 0.0
    fitting: float = 1.0
    """Factor on the share sent back."""
    says: float = 0.2
    """Share of orders that are reviewed."""
    favourites: tuple[Shop, ...] = ()

    def body(self, at: float) -> Body:
        """The fields that a shop knows of its buyer."""
        return {
            "account": self.account,
            "signup_at": stamp(self.signup),
            "email_domain": self.email,
            "verified": self.verified,
            "orders": self.orders,
            "payout_account": self.payout,
            "country": "CN",
        }


@dataclass(slots=True)
class Shop:
    """A seller: console devices, network, account that it is paid to, and how it works."""

    id: str
    goods: Goods
    weight: float
    devices: tuple[str, ...]
    ip: str
    address: str
    payout: str
    opened: float
    owner: Person
    level: float
    """Factor on the usual prices of the category."""
    praise: float = 1.0
    """Factor on how often buyers write."""
    local: bool = False
    """Delivered by its own riders, who scan nothing."""
    scale: float = 1.0
    """Catalogue weight by real weight: wrong in some shops, for `misweighed` of their orders."""
    misweighed: float = 0.0
    weighs: bool = True
    """Its couriers report weights."""
    days: float = 1.0
    """To ship."""

    def body(self) -> Body:
        """The fields that stand in every event of a shop."""
        return {
            "id": self.id,
            "category": self.goods.category,
            "country": "CN",
            "status": "active",
            "opened_at": stamp(self.opened),
            "payout_account": self.payout,
        }


@dataclass(slots=True)
class Place:
    """Where and with what somebody acts."""

    device: str
    ip: str
    network: str = "residential"
    country: str = "CN"
    emulator: bool = False

    def body(self) -> Body:
        """Device and network of an event."""
        device: Body = {"id": self.device, "os": "android", "language": "zh-CN"}
        if self.emulator:
            device["emulator"] = True
        return {"device": device, "ip": self.ip, "ip_country": self.country, "ip_type": self.network}


@dataclass(slots=True)
class Parcel:
    """What was really sent. None as weight: nobody weighed it."""

    weight: float | None
    scans: int


@dataclass(slots=True)
class Order:
    """One order, and all that will come of it."""

    buyer: Person
    shop: Shop
    place: Place
    at: float
    amount: float
    address: str
    pickup: bool = False
    landed: float = 200.0
    """Seconds from the first page to the order."""
    pages: int = 8
    channel: str = "app"
    room: str | None = None
    card: str | None = None
    """A card, or the buyer's wallet."""
    payer: str | None = None
    """Another's wallet."""
    declined: tuple[str | None, ...] = ()
    """Cards that were refused before, None for the wallet."""
    coupon: tuple[str, float, bool] | None = None
    """Campaign, value, newcomers only."""
    parcel: Parcel | None = None
    """Instead of the goods."""
    stars: int | None = None
    words: str | None = None
    """Fingerprint of the review; without one the platform praises by default when there are stars."""
    wrote_after: float = 3.0
    """Days between delivery and review."""
    theme: str | None = None
    id: str = ""
    event: str = ""
    delivered: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as a shop sends it, and the truth about it: the fraud it belongs to, who acts, at which shop."""

    at: float
    body: Body
    theme: str | None
    account: str | None
    shop: str | None


def stamp(seconds: float) -> str:
    """ISO 8601 of a second of the simulation."""
    return (START + timedelta(seconds=round(seconds, 3))).isoformat(timespec="milliseconds")


def money(value: float) -> str:
    """An amount as an event has it."""
    return f"{max(value, 0.01):.2f} CNY"


def card(ref: str | None) -> Body:
    """The card of an order or a step of its payment; nothing for a wallet."""
    return {"card": {"ref": ref, "bin": f"62{sum(map(ord, ref)) % 40 + 2200}", "country": "CN"}} if ref else {}


class Market:
    """All events of a simulation, as they are made. `end`: the last second."""

    def __init__(self, seed: int, days: int) -> None:
        self.seed = seed
        self.end = days * DAY
        self.entries: list[Entry] = []
        self.theme_of: dict[tuple[str, str], str] = {}
        """("account" or "shop", id) of whoever is not honest: the theme, or "accomplice"."""
        self._rng = Random(f"{seed}/market")
        self._count = 0

    def tell(
        self,
        kind: str,
        at: float,
        body: Body,
        *,
        theme: str | None = None,
        buyer: Person | None = None,
        shop: Shop | None = None,
    ) -> str:
        """Write an event down; its id. What lies after the end does not happen."""
        self._count += 1
        name = f"e{self.seed}-{self._count}"
        if 0 <= at < self.end:
            body = {"kind": kind, "event_id": name, "at": stamp(at), **body}
            if buyer is not None:
                body["buyer"] = {**buyer.body(at), **body.get("buyer", {})}
            if shop is not None:
                body["merchant"] = {**shop.body(), **body.get("merchant", {})}
            account, where = buyer.account if buyer else None, shop.id if shop else None
            self.entries.append(Entry(at, body, theme, account, where))
        return name

    def account(
        self, at: float, person: Person, place: Place, action: str, *, theme: str | None = None, **more: Any
    ) -> str:
        """Something done with an account."""
        body = {"account": {"action": action, "result": "success", **more}, **place.body()}
        return self.tell("account", at, body, theme=theme, buyer=person)

    def coupon(
        self, at: float, order: Order, action: str, coupon: tuple[str, float, bool], order_id: str | None = None
    ) -> None:
        """A coupon claimed or redeemed."""
        campaign, value, newcomer = coupon
        body: Body = {
            "promotion": {"action": action},
            "coupon": {"campaign": campaign, "value": money(value), "newcomer": newcomer},
            **order.place.body(),
        }
        buyer: Body = {} if order.card else {"payer": order.payer or order.buyer.payer}
        where = order.shop if order_id else None  # a coupon is claimed from the platform and redeemed at a shop
        if order_id:
            body["order_id"] = order_id
            body["shipping"] = {"address": order.address, "country": "CN", "pickup": order.pickup}
        self.tell("promotion", at, {**body, "buyer": buyer}, theme=order.theme, buyer=order.buyer, shop=where)

    def order(self, order: Order) -> Order:
        """Place it: coupon, order, payment, parcel, review. Its id and the second of its delivery are filled in."""
        rng, shop, buyer, theme = self._rng, order.shop, order.buyer, order.theme
        self._count += 1
        order.id = f"o{self.seed}-{self._count}"
        goods = shop.goods
        common = {"order_id": order.id}
        shipping = {"address": order.address, "country": "CN", "pickup": order.pickup}
        person: Body = {} if order.card else {"payer": order.payer or buyer.payer}
        body: Body = {
            **common,
            **card(order.card),
            **order.place.body(),
            "amount": money(order.amount),
            "buyer": person,
            "channel": order.channel,
            "items": [
                {"sku": f"{shop.id}-{int(rng.random() * 12)}", "category": goods.category, "price": money(order.amount)}
            ],
            "basket": {"quantity": 1, "virtual": goods.virtual},
            "payment": {"method": "card" if order.card else "wallet"},
            "session": {"since_landing": f"{max(order.landed, 1):.0f}s", "pages": order.pages},
        }
        if not goods.virtual:
            body["shipping"] = shipping
        if order.room:
            body["livestream"] = {"room": order.room}
        if order.coupon:
            campaign, value, newcomer = order.coupon
            body["coupon"] = {"campaign": campaign, "value": money(value), "newcomer": newcomer}
            body["discount"] = money(value)
            self.coupon(order.at - 20, order, "redeem", order.coupon, order.id)
        order.event = self.tell("transaction", order.at, body, theme=theme, buyer=buyer, shop=shop)
        for attempt, tried in enumerate((*order.declined, order.card), 1):
            result = "declined" if attempt <= len(order.declined) else "approved"
            step: Body = {
                **common,
                **card(tried),
                **order.place.body(),
                "amount": money(order.amount),
                "buyer": person,
                "payment": {"stage": "issuer_response", "result": result, "attempt": attempt},
            }
            self.tell("payment", order.at + 45 * attempt - 30, step, theme=theme, buyer=buyer, shop=shop)
        order.delivered = order.at + 60
        if not goods.virtual:
            self._parcel(order, rng)
        if order.stars is not None:
            self._review(order, rng)
        return order

    def _parcel(self, order: Order, rng: Random) -> None:
        shop, goods, theme = order.shop, order.shop.goods, order.theme
        shipped = order.at + shop.days * DAY * rng.uniform(0.3, 1.6)
        promised = order.at + 2 * DAY
        order.delivered = shipped + (rng.uniform(0.1, 0.5) if shop.local else rng.uniform(1.2, 4.5)) * DAY
        weight = goods.weight * rng.lognormvariate(0, 0.25)
        parcel = order.parcel or self._packed(shop, weight, rng)
        listed = weight * shop.scale if rng.random() < shop.misweighed else weight
        parcel_body: Body = {"scans": parcel.scans, "expected_weight": round(listed)}
        if parcel.weight is not None:
            parcel_body["weight"] = round(parcel.weight)
        base = {"order_id": order.id}
        told = {"stage": "shipped", "promised_at": stamp(promised), "shipped_at": stamp(shipped)}
        self.tell("fulfilment", shipped, {**base, "fulfilment": told}, theme=theme, buyer=order.buyer, shop=shop)
        told = {"stage": "delivered", "shipped_at": stamp(shipped)}
        body = {**base, "fulfilment": told, "parcel": parcel_body}
        self.tell("fulfilment", order.delivered, body, theme=theme, buyer=order.buyer, shop=shop)

    def _packed(self, shop: Shop, weight: float, rng: Random) -> Parcel:
        """The goods themselves: now and then in two parcels, of which one is told about, or past a broken scanner."""
        scans = 0 if shop.local else 3 + int(rng.random() * 5)
        part = rng.uniform(0.05, 0.6) if rng.random() < 0.01 else rng.uniform(0.92, 1.12)
        scans = 1 if rng.random() < 0.004 else scans
        return Parcel(weight * part if shop.weighs else None, scans)

    def _review(self, order: Order, rng: Random) -> None:
        review: Body = {"rating": order.stars, "default": order.words is None, "verified_purchase": True}
        review["fingerprint"] = order.words or "default"
        at = order.delivered + (order.wrote_after if order.words else 10.0) * DAY
        body: Body = {"order_id": order.id, "review": review}
        if order.words:
            body |= order.place.body()
        self.tell("review", at, body, theme=order.theme, buyer=order.buyer, shop=order.shop)

    def aftersale(
        self, order: Order, at: float, reason: str, action: str = "refund_asked", inspection: str | None = None
    ) -> None:
        """A refund or return that is asked for, and what the warehouse finds."""
        base: Body = {"order_id": order.id, "amount": money(order.amount), **order.place.body()}
        base["shipping"] = {"address": order.address, "country": "CN", "pickup": order.pickup}

        def told(when: float, **said: str) -> None:
            body = {**base, "aftersale": {"reason": reason, "delivered_at": stamp(order.delivered), **said}}
            self.tell("aftersale", when, body, theme=order.theme, buyer=order.buyer, shop=order.shop)

        told(at, action=action)
        if inspection:
            told(at + 5 * DAY, action="inspected", inspection=inspection)
        told(at + 6 * DAY, action="refused" if inspection in ("swapped", "empty") else "refunded")

    def payout(
        self, at: float, shop: Shop, amount: float, said: Body, order: Order | None = None, *, theme: str | None = None
    ) -> None:
        """Money that a shop gets or gives; for an order, to its buyer."""
        body: Body = {"amount": money(amount), "payout": {"action": "request", **said}}
        body |= {"device": {"id": shop.devices[0]}, "ip": shop.ip, "ip_country": "CN", "ip_type": "residential"}
        if order is not None:
            body["order_id"] = order.id
        self.tell("payout", at, body, theme=theme, buyer=order.buyer if order else None, shop=shop)

    def listing(
        self, at: float, shop: Shop, action: str, number: int, factor: float = 1.0, theme: str | None = None
    ) -> None:
        """Goods put up or changed, from the shop's console."""
        goods = shop.goods
        usual = goods.price * shop.level
        listing: Body = {
            "id": f"{shop.id}-{number}",
            "action": action,
            "title": f"{goods.category} {number}",
            "category": goods.category,
            "price": money(usual * factor),
            "peer_price": money(usual),
            "stock": 50,
            "condition": "new",
        }
        listing |= PAPERS.get(goods.category, {})
        console = self._rng.choice(shop.devices)
        body = {"listing": listing, "device": {"id": console}, "ip": shop.ip, "ip_country": "CN"}
        self.tell("listing", at, {**body, "ip_type": "residential"}, theme=theme, shop=shop)

    def stream(self) -> list[Entry]:
        """All events in the order of time. How many orders a buyer had before is known only now."""
        self.entries.sort(key=lambda entry: entry.at)
        done: dict[str, int] = {}
        for entry in self.entries:
            if entry.account is not None and "buyer" in entry.body:
                buyer = entry.body["buyer"]
                before = done.setdefault(entry.account, buyer["orders"])
                buyer["orders"] = before
                if entry.body["kind"] == "transaction":
                    done[entry.account] = before + 1
        return self.entries


def pick(rng: Random, rows: Sequence[T], weights: Sequence[float]) -> T:
    """One of some, by weight."""
    return rng.choices(rows, weights)[0]
