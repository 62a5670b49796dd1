"""Fraud: seven trades, each by crews that differ in how careful they are.

A crew's care is drawn once; each precaution costs money or time, and is taken with a chance that grows with the care.
What they do follows from what they want (rank, subsidies, goods, money), not from what anybody looks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from bench.marketplace.market import DAY, HOUR, Household, Market, Order, Parcel, Person, Place, Shop
from bench.marketplace.town import NEWCOMER, Town, address_ip, compensation, hour, price

BRUSHING = "brushing"
SELF_DEALING = "self-dealing"
CASHBACK = "cashback-loop"
COUPONS = "coupon-farm"
REFUNDS = "refund-abuse"
TAKEOVER = "takeover"
TESTING = "card-testing"
ACCOMPLICE = "accomplice"
THEMES = (BRUSHING, SELF_DEALING, CASHBACK, COUPONS, REFUNDS, TAKEOVER, TESTING)


@dataclass(slots=True)
class Crew:
    """People who work together: their care from 0 to 1, devices, networks, addresses and accounts for money."""

    town: Town
    theme: str
    rng: Random
    name: str
    begin: float
    """Second from which on they work."""
    care: float = 0.0
    hidden: list[str] = field(default_factory=list)
    base: str = ""
    city: int = 0

    def __post_init__(self) -> None:
        self.care = self.rng.betavariate(1.6, 1.6)
        self.hidden = [address_ip(self.rng) for _ in range(self.rng.randrange(2, 12))]
        self.base = address_ip(self.rng)
        self.city = self.rng.randrange(len(self.town.mobile))

    @property
    def market(self) -> Market:
        """Where they work."""
        return self.town.market

    def careful(self, cost: float = 1.0) -> bool:
        """Whether a precaution is taken; `cost` above 1 makes it rarer."""
        return bool(self.rng.random() < self.care**cost)

    def network(self, device: str, *, emulator: bool = False) -> Place:
        """Where an action comes from: the crew's own line, or something that hides it."""
        if not self.careful(0.7):
            return Place(device, self.base, "residential", emulator=emulator)
        kind = self.rng.choice(("mobile", "mobile", "residential", "proxy", "vpn", "hosting"))
        if kind == "mobile":
            return Place(device, self.rng.choice(self.town.mobile[self.city]), kind, emulator=emulator)
        return Place(device, self.rng.choice(self.hidden), kind, emulator=emulator)

    def puppets(self, count: int, *, fresh: bool) -> list[Person]:
        """Accounts of the crew: made for the purpose, or bought with a past."""
        rng = self.rng
        per_device = 1 if self.careful() else rng.randrange(2, 8)
        collectors = count if self.careful() else rng.randrange(1, 4)
        wallets = count if self.careful(0.5) else rng.randrange(2, 6)
        homes = max(1, count // 2) if self.careful() else rng.randrange(1, 5)
        domains = (
            ("qq.com", "163.com", "gmail.com") if self.careful(0.4) else ("mailinator.com", "qq.com", "yopmail.com")
        )
        found = []
        for n in range(count):
            key = f"{self.name}-{n}"
            home = Household(f"{self.name}-home-{n % homes}", self.base, self.city, f"{self.name}-station", 0.0)
            age = 0.0 if fresh else rng.uniform(30, 900) * DAY
            found.append(
                Person(
                    account=f"u-{key}",
                    home=home,
                    device=f"d-{self.name}-{n // per_device}",
                    payer=f"payer-{self.name}-{n % wallets}",
                    cards=(f"card-{key}",),
                    payout=f"acc-{self.name}-{n % collectors}",
                    signup=self.begin - age,
                    orders=0 if fresh else int(rng.expovariate(0.15)),
                    verified=not fresh and rng.random() < 0.5,
                    email=rng.choice(domains),
                    rate=0.0,
                    purse=1.0,
                )
            )
        return found

    def mark(self, people: list[Person], theme: str = ACCOMPLICE) -> None:
        """From here on these accounts are not honest."""
        for person in people:
            self.market.theme_of.setdefault(("account", person.account), theme)

    def take(self, shop: Shop) -> None:
        """The shop belongs to the crew."""
        self.market.theme_of["shop", shop.id] = self.theme
        self.mark([shop.owner])


def loot(town: Town, feed: float, scale: float = 1.0) -> None:
    """Let all crews work, from second `feed` on; `scale` makes fewer or more of them."""
    rng = Random(f"{town.market.seed}/crews")
    shops = [shop for shop in town.shops if not shop.goods.virtual]
    shops.sort(key=lambda shop: shop.weight)
    poor = rng.sample(shops[: len(shops) * 3 // 4], len(shops) * 3 // 4)  # who sells well has no need of it
    end = town.market.end
    for theme, count, work in TRADES:
        for n in range(max(1, round(count * scale))):
            own = Random(f"{town.market.seed}/{theme}/{n}")
            begin = own.uniform(feed, feed + (end - feed) * 0.55)
            crew = Crew(town, theme, own, f"{theme}-{n}", begin)
            work(crew, poor)


def brush(crew: Crew, poor: list[Shop]) -> None:
    """A ring that makes sales for shops that want a better rank: with accounts of its own, or by paying people."""
    rng, market, town = crew.rng, crew.market, crew.town
    shops = [poor.pop() for _ in range(rng.randrange(1, 4))]
    tasks = rng.random() < 0.4
    if tasks:
        buyers = rng.sample([each for each in town.people if each.signup < 0], rng.randrange(40, 120))
    else:
        buyers = crew.puppets(rng.randrange(12, 60), fresh=False)
    crew.mark(buyers)
    for shop in shops:
        crew.take(shop)
        parcels = _parcels(crew)
        looks = tasks or crew.careful()
        templates = None if crew.careful(1.5) else [f"t-{rng.getrandbits(40):x}" for _ in range(rng.randrange(3, 13))]
        praise = rng.uniform(0.5, 1.0)
        orders, last = rng.uniform(2, 8), rng.uniform(10, 30)
        if rng.random() < 0.2:  # a bait link: sales are cheap to make at a price nobody asks
            market.listing(crew.begin - DAY, shop, "created", 77, rng.choice((0.05, 0.2)), theme=BRUSHING)
        for day in range(int(last)):
            for _ in range(_count(rng, orders)):
                buyer = rng.choice(buyers)
                at = hour(rng, crew.begin // DAY + day)
                if tasks:
                    place = Place(buyer.device, buyer.home.ip) if rng.random() < 0.6 else town.street(rng, buyer)
                else:
                    place = crew.network(buyer.device)
                order = Order(buyer, shop, place, at, price(rng, shop), buyer.home.address, theme=BRUSHING)
                order.landed = rng.lognormvariate(5, 0.6) if looks else rng.uniform(2, 12)
                order.pages = rng.randrange(4, 12) if looks else 1
                order.parcel = _parcel(crew, shop, parcels)
                if rng.random() < praise:
                    order.stars, order.wrote_after = 5, rng.uniform(0.05, 2)
                    order.words = rng.choice(templates) if templates else f"s-{rng.getrandbits(40):x}"
                market.order(order)


def _parcels(crew: Crew) -> str:
    """What goes into the post: only a number, a small thing, or something as heavy as the goods."""
    if crew.careful(2):
        return "filler"
    return crew.rng.choice(("number", "small", "small"))


def _parcel(crew: Crew, shop: Shop, kind: str) -> Parcel:
    rng = crew.rng
    if kind == "number":
        return Parcel(None, rng.choice((0, 0, 1, 1, 2)))
    scans = 3 + int(rng.random() * 5)
    if kind == "small":
        return Parcel(rng.uniform(5, 60), scans)
    return Parcel(shop.goods.weight * rng.uniform(0.5, 1.4), scans)


def _count(rng: Random, mean: float) -> int:
    """A whole number around the mean."""
    return int(mean * rng.lognormvariate(0, 0.4) + rng.random())


def deal(crew: Crew, poor: list[Shop]) -> None:
    """A seller who buys from itself with the accounts of family and staff."""
    rng, market = crew.rng, crew.market
    shop = poor.pop()
    crew.take(shop)
    buyers = crew.puppets(rng.randrange(1, 7), fresh=False)
    crew.mark(buyers)
    same_account, same_device = not crew.careful(), not crew.careful(0.6)
    at_shop, to_shop = (0.2 if crew.careful() else 0.8), not crew.careful()
    parcels = _parcels(crew)
    words = rng.random()
    for person in buyers:
        if same_account and rng.random() < 0.5:
            person.payout = shop.payout
        if same_device and rng.random() < 0.7:
            person.device = rng.choice(shop.devices)
    for day in range(int(rng.uniform(10, 35))):
        for _ in range(_count(rng, rng.uniform(0.4, 2.5))):
            buyer = rng.choice(buyers)
            place = Place(buyer.device, shop.ip) if rng.random() < at_shop else crew.network(buyer.device)
            address = shop.address if to_shop else buyer.home.address
            at = hour(rng, crew.begin // DAY + day)
            order = Order(buyer, shop, place, at, price(rng, shop), address, theme=SELF_DEALING)
            order.landed, order.pages = rng.lognormvariate(4, 1), rng.randrange(1, 8)
            order.parcel = _parcel(crew, shop, parcels)
            if rng.random() < words:
                order.stars, order.words = 5, f"s-{rng.getrandbits(40):x}"
                order.wrote_after = rng.uniform(0.05, 3)
            market.order(order)


def loop(crew: Crew, poor: list[Shop]) -> None:
    """A shop that sells, and pays its buyers back when the sale counts: for rank, or for a subsidy on turnover."""
    rng, market, town = crew.rng, crew.market, crew.town
    shop = poor.pop()
    crew.take(shop)
    if rng.random() < 0.5:
        buyers = crew.puppets(rng.randrange(6, 40), fresh=False)
    else:
        buyers = rng.sample([each for each in town.people if each.signup < 0], rng.randrange(15, 60))
    crew.mark(buyers)
    dear = rng.choice((1.0, 1.0, 3.0))
    if dear > 1:
        market.listing(crew.begin - DAY, shop, "created", 77, dear, theme=CASHBACK)
    purpose = "compensation" if crew.careful() else "cashback"
    back, paid = rng.uniform(0.6, 1.02), rng.uniform(0.6, 1)
    real = rng.random() < 0.5
    parcels = _parcels(crew)
    for day in range(int(rng.uniform(12, 30))):
        for _ in range(_count(rng, rng.uniform(1.2, 6))):
            buyer = rng.choice(buyers)
            place = crew.network(buyer.device) if buyer.rate == 0 else town.street(rng, buyer)
            at = hour(rng, crew.begin // DAY + day)
            order = Order(buyer, shop, place, at, price(rng, shop) * dear, buyer.home.address, theme=CASHBACK)
            order.landed, order.pages = rng.lognormvariate(4.5, 1), rng.randrange(1, 10)
            order.parcel = None if real else _parcel(crew, shop, parcels)
            if rng.random() < 0.5:
                order.stars, order.words, order.wrote_after = 5, f"s-{rng.getrandbits(40):x}", rng.uniform(0.1, 3)
            market.order(order)
            if rng.random() < paid:
                when = order.delivered + rng.uniform(0.1, 4) * DAY
                market.payout(when, shop, order.amount * back, compensation(order, purpose), order, theme=CASHBACK)


def farm(crew: Crew, poor: list[Shop]) -> None:
    """Accounts made for an offer to newcomers; the goods go to a few addresses and are sold on."""
    rng, market, town = crew.rng, crew.market, crew.town
    people = crew.puppets(rng.randrange(8, 26), fresh=True)
    crew.mark(people, COUPONS)
    emulator = not crew.careful(0.8)
    shops = rng.sample([shop for shop in town.shops if shop.goods.price < 500], rng.randrange(1, 4))
    spread = rng.uniform(0.1, 4) * DAY if crew.careful() else rng.uniform(1, 5) * HOUR
    wait = rng.uniform(0.5, 4) * DAY if crew.careful() else rng.uniform(0.1, 3) * HOUR
    station = rng.random() < 0.25
    for person in people:
        place = crew.network(person.device, emulator=emulator)
        at = crew.begin + rng.uniform(0, spread)
        person.signup = at
        market.account(at, person, place, "signup", theme=COUPONS, new_device=True)
        later = at + wait * rng.uniform(0.5, 1.5) + (spread if rng.random() < 0.6 else 0)
        shop = rng.choice(shops)
        order = Order(person, shop, place, later, price(rng, shop), person.home.address, theme=COUPONS)
        if station:
            order.address, order.pickup = person.home.station, True
        order.coupon, order.landed, order.pages = NEWCOMER, rng.uniform(5, 90), rng.randrange(1, 4)
        market.coupon(at + rng.uniform(30, 900), order, "claim", NEWCOMER)
        market.order(order)
        if rng.random() < 0.3:
            market.aftersale(order, order.at + HOUR, "changed_mind")


def refund(crew: Crew, poor: list[Shop]) -> None:
    """A buyer who keeps the goods and gets the money back; some divide it among accounts of the family."""
    rng, market, town = crew.rng, crew.market, crew.town
    people = crew.puppets(rng.choice((1, 1, 1, 2, 3)), fresh=False)
    crew.mark(people, REFUNDS)
    often = rng.uniform(0.35, 0.9)
    trick = rng.choice(("not_received", "empty", "mixed"))
    pace = rng.uniform(0.18, 0.5) * len(people) ** 0.7
    at = crew.begin
    shops = [shop for shop in town.shops if not shop.goods.virtual]
    while (at := at + rng.expovariate(pace) * DAY) < market.end:
        person, shop = rng.choice(people), rng.choice(shops)
        order = Order(person, shop, crew.network(person.device), at, price(rng, shop), person.home.address)
        order.landed, order.theme = rng.lognormvariate(5, 0.8), REFUNDS
        if rng.random() < 0.1:
            order.stars = 5
        market.order(order)
        if rng.random() < often:
            when = order.delivered + rng.uniform(0.1, 4) * DAY
            if trick == "not_received" or (trick == "mixed" and rng.random() < 0.6):
                reasons = (
                    ("not_received", "damaged", "wrong_item", "counterfeit") if crew.careful() else ("not_received",)
                )
                market.aftersale(order, when, rng.choice(reasons))
            else:
                found = rng.choice(("empty", "swapped", "used", "ok"))
                market.aftersale(order, when, "not_as_described", "return_asked", found)


def take_over(crew: Crew, poor: list[Shop]) -> None:
    """Thieves with other people's passwords: they order what sells fast, to an address of theirs or to none."""
    rng, market, town = crew.rng, crew.market, crew.town
    known = market.theme_of
    honest = [each for each in town.people if each.signup < crew.begin - 30 * DAY]
    honest = [each for each in honest if ("account", each.account) not in known and each.orders >= 2]
    victims = rng.sample(honest, rng.randrange(2, 9))
    crew.mark(victims, TAKEOVER)
    stuffing = not crew.careful(0.8)
    dear = [shop for shop in town.shops if shop.goods.category in ("phones", "electronics", "jewellery", "gift_card")]
    mules = [f"{crew.name}-mule-{n}" for n in range(rng.randrange(1, 5))]
    own_devices = crew.careful()
    at = crew.begin
    for number, victim in enumerate(victims):
        at += rng.expovariate(1) * DAY * 1.5
        device = f"d-{crew.name}-{number if own_devices else number // 4}"
        place = crew.network(device)
        if stuffing:
            tries = rng.sample(town.people, rng.randrange(3, 40))
            for n, other in enumerate(tries):
                when = at - 20 * (len(tries) - n)
                market.account(when, other, place, "login", theme=TAKEOVER, result="failure", new_device=True)
        if rng.random() < 0.85:
            market.account(at, victim, place, "login", theme=TAKEOVER, new_device=True)
        change = rng.choice(("password_reset", "password_change", "phone_change", "email_change", None, None))
        if change:
            market.account(at + rng.uniform(60, 900), victim, place, change, theme=TAKEOVER)
        when = at + (rng.uniform(0.5, 3) * DAY if crew.careful() else rng.uniform(300, 4 * HOUR))
        for _ in range(rng.randrange(1, 4)):
            shop = rng.choice(dear)
            amount = price(rng, shop) * (rng.uniform(0.6, 1.2) if crew.careful() else rng.uniform(1, 3))
            order = Order(victim, shop, place, when, amount, rng.choice(mules), theme=TAKEOVER)
            order.landed, order.pages = rng.uniform(10, 200), rng.randrange(1, 5)
            order.card = victim.cards[0] if victim.by_card else None
            market.order(order)
            when += rng.uniform(120, 5000)
            if rng.random() < 0.5:  # the bank says so weeks later
                outcome = {"refers_to": order.event, "result": "chargeback", "source": "acquirer"}
                market.tell("outcome", order.at + rng.uniform(15, 40) * DAY, {"outcome": outcome}, theme=TAKEOVER)


def try_cards(crew: Crew, poor: list[Shop]) -> None:
    """A list of stolen cards, tried with small orders; what lives is sold or spent."""
    rng, market, town = crew.rng, crew.market, crew.town
    people = crew.puppets(rng.randrange(1, 6), fresh=rng.random() < 0.6)
    crew.mark(people, TESTING)
    shops = [shop for shop in town.shops if shop.goods.price < 100]
    cards = rng.randrange(8, 60)
    pause = rng.uniform(900, 7200) if crew.careful() else rng.uniform(15, 240)
    rotate = crew.careful()
    alive = rng.uniform(0.1, 0.4)
    at = crew.begin
    for person in people:
        if person.signup >= crew.begin - DAY:
            market.account(
                at - rng.uniform(0.2, 20) * HOUR, person, crew.network(person.device), "signup", theme=TESTING
            )
    for n in range(cards):
        person = people[n % len(people)]
        place = crew.network(f"{person.device}-{n // 3}" if rotate else person.device)
        at += rng.expovariate(1 / pause)
        shop = rng.choice(shops)
        card = {"ref": f"card-{crew.name}-{n}", "bin": f"4{rng.randrange(10) if rotate else 1}2345", "country": "CN"}
        result = "approved" if rng.random() < alive else "declined"
        for attempt in range(1 if result == "approved" else rng.randrange(1, 4)):
            body = {
                "card": card,
                "amount": f"{rng.uniform(1, 30):.2f} CNY",
                "payment": {
                    "stage": "issuer_response",
                    "result": result,
                    "attempt": attempt + 1,
                },
                **place.body(),
            }
            market.tell("payment", at + 20 * attempt, body, theme=TESTING, buyer=person, shop=shop)


TRADES: tuple[tuple[str, int, Callable[[Crew, list[Shop]], None]], ...] = (
    (BRUSHING, 5, brush),
    (SELF_DEALING, 8, deal),
    (CASHBACK, 8, loop),
    (COUPONS, 4, farm),
    (REFUNDS, 18, refund),
    (TAKEOVER, 6, take_over),
    (TESTING, 5, try_cards),
)
"""Theme, crews in a seed, what they do."""
