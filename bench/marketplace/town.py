"""Who lives and sells in the town, and how an honest order is placed."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from bench.marketplace.market import (
    DAY,
    GOODS,
    HOUR,
    PHRASES,
    Body,
    Household,
    Market,
    Office,
    Order,
    Person,
    Place,
    Shop,
    pick,
)

CITIES = 12
HOURS = (2, 1, 1, 0.5, 0.5, 1, 2, 4, 6, 7, 8, 8, 9, 8, 7, 7, 7, 7, 8, 10, 13, 14, 11, 6)
"""When people order, by the hour."""
NEWCOMER = ("newcomer", 20.0, True)
SEASON = ("summer", 10.0, False)


@dataclass(slots=True)
class Town:
    """Everybody and everything at the beginning."""

    market: Market
    people: list[Person] = field(default_factory=list)
    households: list[Household] = field(default_factory=list)
    shops: list[Shop] = field(default_factory=list)
    offices: list[Office] = field(default_factory=list)
    mobile: list[list[str]] = field(default_factory=list)
    """By city: addresses of the mobile network, each shared by thousands of phones."""
    tunnels: list[str] = field(default_factory=list)
    """Exits of the VPNs that some people always use."""

    def street(self, rng: Random, person: Person) -> Place:
        """The person's phone on the mobile network."""
        return Place(person.device, rng.choice(self.mobile[person.home.city]), "mobile")


def address_ip(rng: Random) -> str:
    """An address of the internet."""
    return f"{rng.randrange(11, 200)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"


def populate(market: Market, people: int, shops: int) -> Town:
    """The town of a seed."""
    town = Town(market)
    rng = Random(f"{market.seed}/town")
    town.mobile = [[address_ip(rng) for _ in range(25)] for _ in range(CITIES)]
    town.tunnels = [address_ip(rng) for _ in range(15)]
    town.offices = [Office(f"office-{n}", address_ip(rng)) for n in range(people // 40)]
    sizes = [rng.lognormvariate(0, 1) for _ in town.offices]
    while len(town.people) < people:
        _household(town, rng, sizes)
    owners = rng.sample([person for person in town.people if person.signup < 0], shops)
    for number, owner in enumerate(owners):
        town.shops.append(_shop(town, rng, number, owner))
    weights = [shop.weight for shop in town.shops]
    for person in town.people:
        person.favourites = tuple(rng.choices(town.shops, weights, k=5))
    return town


def _household(town: Town, rng: Random, sizes: list[float]) -> None:
    number = len(town.households)
    city = rng.randrange(CITIES)
    home = Household(
        address=f"home-{number}",
        ip=address_ip(rng),
        city=city,
        station=f"station-{city}-{number // CITIES // 25}",
        courier_loses=pick(rng, (0.004, 0.05, 0.2), (96, 3, 1)),
        tablet=f"tablet-{number}" if rng.random() < 0.25 else None,
    )
    town.households.append(home)
    wallet = f"payer-h{number}" if rng.random() < 0.1 else None
    for _ in range(pick(rng, (1, 2, 3, 4, 5), (35, 30, 20, 10, 5))):
        person = _person(town, rng, home, wallet, sizes)
        home.members.append(person)
        town.people.append(person)


def _person(town: Town, rng: Random, home: Household, wallet: str | None, sizes: list[float]) -> Person:
    number = len(town.people)
    new = rng.random() < 0.08
    signup = rng.uniform(0, town.market.end) if new else -rng.uniform(20, 2200) * DAY
    rate = min(rng.lognormvariate(-2.9, 0.8), 0.6)
    family = home.members[0].payout if home.members and rng.random() < 0.15 else f"acc-{number}"
    cards = tuple(f"card-{number}-{n}" for n in range(pick(rng, (1, 2, 3, 25), (69, 22, 8, 1))))  # 25: one an order
    return Person(
        account=f"u{number}",
        home=home,
        device=f"d{number}",
        payer=wallet if wallet and rng.random() < 0.7 else f"payer-{number}",
        cards=cards,
        payout=family,
        signup=signup,
        orders=0 if new else int(-signup / DAY * rate * rng.uniform(0.2, 1)),
        verified=not new and rng.random() < 0.8,
        email=pick(rng, ("qq.com", "163.com", "outlook.com", "gmail.com", "mailinator.com"), (500, 300, 120, 75, 5)),
        rate=rate,
        purse=rng.lognormvariate(0, 0.35),
        office=pick(rng, town.offices, sizes) if rng.random() < 0.55 else None,
        by_card=rng.random() < 0.25,
        to_station=rng.choice((0.0, 0.1, 0.5, 0.9)),
        fitting=5.0 if rng.random() < 0.015 else rng.lognormvariate(-0.2, 0.5),
        says=rng.betavariate(1.2, 4),
    )


def _shop(town: Town, rng: Random, number: int, owner: Person) -> Shop:
    small = rng.random() < 0.4
    goods = pick(rng, GOODS, [each.share for each in GOODS])
    console = owner.device if small and rng.random() < 0.3 else f"console-{number}"
    opened = rng.uniform(-1500, -100) * DAY if rng.random() < 0.85 else rng.uniform(-90, 20) * DAY
    return Shop(
        id=f"m{number}",
        goods=goods,
        weight=rng.lognormvariate(0, 1.1) * (0.3 if small else 1),
        devices=(console,) if small else (console, f"console-{number}-b"),
        ip=owner.home.ip if small else address_ip(rng),
        address=owner.home.address if small else f"depot-{number}",
        payout=owner.payout if small else f"acc-m{number}",
        opened=opened,
        owner=owner,
        level=rng.lognormvariate(0, 0.3),
        praise=rng.lognormvariate(0, 0.4),
        local=not goods.virtual and rng.random() < 0.04,
        scale=rng.choice((0.2, 3.0, 10.0)),
        misweighed=rng.choice((0.1, 0.3, 1.0)) if rng.random() < 0.03 else 0.0,
        weighs=rng.random() < 0.9,
        days=rng.lognormvariate(-0.1, 0.4),
    )


def hour(rng: Random, day: float) -> float:
    """A second of that day, when people order."""
    return day * DAY + (rng.choices(range(24), HOURS)[0] + rng.random()) * HOUR


def price(rng: Random, shop: Shop) -> float:
    """What an order at a shop costs; sometimes a large one."""
    amount = shop.goods.price * shop.level * rng.lognormvariate(0, shop.goods.spread)
    return min(amount * (rng.uniform(3, 8) if rng.random() < 0.01 else 1), 40_000)


def pick_shop(town: Town, rng: Random) -> Shop:
    """Larger shops have more buyers."""
    return pick(rng, town.shops, [shop.weight for shop in town.shops])


def pay(rng: Random, order: Order) -> None:
    """How an honest buyer pays: a wallet or a card, which is sometimes empty."""
    person = order.buyer
    others = [each for each in person.home.members if each is not person]
    tries = pick(rng, (1, 2, 3, 5), (70, 20, 8, 2)) if rng.random() < 0.03 else 0
    if person.by_card:
        borrowed = others and rng.random() < 0.04
        order.card = rng.choice(others).cards[0] if borrowed else person.cards[0]
        if len(person.cards) > 3 or rng.random() < 0.2:
            order.card = rng.choice(person.cards)
        order.declined = tuple(rng.choice(person.cards) for _ in range(tries))
    elif others and rng.random() < 0.03:
        order.payer = rng.choice(others).payer
    if not person.by_card:
        order.declined = (None,) * tries


def follow(market: Market, rng: Random, order: Order) -> None:
    """Place it; then the buyer writes or not, and keeps it or not."""
    person, goods = order.buyer, order.shop.goods
    lost = not goods.virtual and rng.random() < person.home.courier_loses
    sent_back = min(goods.returned * person.fitting, 0.75)
    back = rng.random() < sent_back
    if not lost and rng.random() < min(person.says * order.shop.praise, 0.9):
        order.stars = pick(rng, (1, 2, 3, 4, 5), (20, 10, 10, 10, 50) if back else (1, 1, 3, 15, 80))
        order.words = f"s-{rng.getrandbits(40):x}" if rng.random() < 0.85 else f"short-{rng.randrange(len(PHRASES))}"
        order.wrote_after = rng.expovariate(0.3)
    elif rng.random() < 0.3:
        order.stars = 5
    market.order(order)
    if lost:
        market.aftersale(order, order.delivered + rng.uniform(1, 4) * DAY, "not_received")
    elif back:
        reasons = ("changed_mind", "not_as_described", "damaged", "wrong_item", "price")
        reason = pick(rng, reasons, (60, 18, 10, 7, 5))
        found = pick(rng, ("ok", "used", "damaged", "missing_parts", "empty"), (930, 40, 20, 9, 1))
        at = order.delivered + rng.uniform(0.2, 5) * DAY
        market.aftersale(order, at, reason, "return_asked", found)
        if reason in ("damaged", "wrong_item") and rng.random() < 0.25:
            market.payout(at + DAY, order.shop, order.amount * 0.1, compensation(order), order)
    if rng.random() < 0.0015:
        body = {"complaint": {"by": "buyer", "reason": "not_as_described"}, "order_id": order.id}
        market.tell("complaint", order.delivered + 2 * DAY, body, buyer=person, shop=order.shop)


def compensation(order: Order, purpose: str = "compensation") -> Body:
    """What a payout says that a shop makes to a buyer."""
    return {"to": "buyer", "purpose": purpose, "account": order.buyer.payout, "country": "CN"}
