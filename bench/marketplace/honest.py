"""Honest trade: what people and shops do in some weeks."""

from __future__ import annotations

from random import Random

from bench.marketplace.market import DAY, HOUR, Household, Order, Person, Place, Shop, pick, stamp
from bench.marketplace.town import (
    CITIES,
    NEWCOMER,
    SEASON,
    Town,
    address_ip,
    compensation,
    follow,
    hour,
    pay,
    pick_shop,
    price,
)


def live(town: Town) -> None:
    """What honest people and shops do."""
    market = town.market
    for person in town.people:
        Life(town, person, Random(f"{market.seed}/person/{person.account}")).run()
    for shop in town.shops:
        _keep(town, shop, Random(f"{market.seed}/shop/{shop.id}"))
    rng = Random(f"{market.seed}/crowds")
    _livestreams(town, rng)
    _groups(town, rng)
    _coffee(town, rng)
    _freshmen(town, rng)


class Life:
    """One buyer: orders at their own pace, a new phone, a journey, a move, a forgotten password."""

    def __init__(self, town: Town, person: Person, rng: Random) -> None:
        self.town, self.market, self.person, self.rng = town, town.market, person, rng
        end = self.market.end
        self.new_phone = rng.uniform(0, end) if rng.random() < 0.08 else None
        self.move = rng.uniform(0, end) if rng.random() < 0.02 else None
        away = rng.uniform(0, end) if rng.random() < 0.06 else end
        self.away = away, away + rng.uniform(3, 12) * DAY
        self.abroad = rng.choice(("JP", "TH", "SG", "FR")) if rng.random() < 0.3 else "CN"
        self.hotel = Place("", address_ip(rng), rng.choice(("residential", "residential", "vpn")), self.abroad)
        self.hotel_address = f"hotel-{person.account}"
        self.address = person.home.address
        self.tunnel = rng.choice(town.tunnels) if rng.random() < 0.025 else None
        self.seen: set[str] = {person.device}
        if person.home.tablet:
            self.seen.add(person.home.tablet)

    def run(self) -> None:
        """All orders, in time."""
        person, rng = self.person, self.rng
        at = max(person.signup, 0.0)
        if person.signup >= 0:
            at = self._sign_up(at)
        while (at := at + rng.expovariate(person.rate) * DAY) < self.market.end:
            at = max(at, hour(rng, at // DAY)) if rng.random() < 0.9 else at
            self._days(at)
            for _ in range(pick(rng, (1, 2, 3), (84, 12, 4))):
                self._buy(at)
                at += rng.uniform(60, 1500)

    def _days(self, at: float) -> None:
        """What changed since the last order."""
        person, rng = self.person, self.rng
        if self.new_phone is not None and at > self.new_phone:
            self.new_phone = None
            person.device += "-n"
            if rng.random() < 0.25:
                self._forget(at - rng.uniform(120, 3000))
            if rng.random() < 0.06:
                self.market.account(at - 100, person, self.town.street(rng, person), "phone_change")
        elif rng.random() < 0.01:
            self._forget(at - rng.uniform(120, 3000))
        if self.move is not None and at > self.move:
            self.move = None
            self.address = f"{person.home.address}-new"
            if rng.random() < 0.7:
                self.market.account(at - 90, person, self._place(at), "address_change")

    def _forget(self, at: float) -> None:
        place = self.town.street(self.rng, self.person)
        tries = min(int(self.rng.expovariate(0.5)) + 1, 9)
        for n in range(tries):
            self.market.account(at - 30 * (tries - n), self.person, place, "login", result="failure")
        if self.rng.random() < 0.7:
            self.market.account(at, self.person, place, "password_reset")

    def _sign_up(self, at: float) -> float:
        person, rng = self.person, self.rng
        place = self._place(at)
        if rng.random() < 0.12:  # at a stand in the street, where helpers do it with the new customers
            place = Place(person.device, f"198.51.100.{int(at // (7 * DAY)) + 1}")
            at = (at // (7 * DAY)) * 7 * DAY + 5 * DAY + rng.uniform(9, 18) * HOUR
        self.market.account(at, person, place, "signup", new_device=True)
        person.signup = at
        if rng.random() < 0.7:
            if rng.random() < 0.35 and len(person.home.members) > 1:
                self._referred(at + 40, place)
            order = Order(person, person.favourites[0], place, at + rng.uniform(0, 3) * DAY, 1.0, self.address)
            self.market.coupon(at + 60, order, "claim", NEWCOMER)
            self._buy(order.at, coupon=NEWCOMER)
            at = order.at
        return at

    def _referred(self, at: float, place: Place) -> None:
        friend = self.rng.choice([each for each in self.person.home.members if each is not self.person])
        referrer = {"account": friend.account, "payer": friend.payer, "device": friend.device}
        body = {"promotion": {"action": "refer"}, "referrer": referrer, **place.body()}
        self.market.tell("promotion", at, {**body, "buyer": {"payer": self.person.payer}}, buyer=self.person)

    def _place(self, at: float) -> Place:
        person, rng = self.person, self.rng
        if self.away[0] <= at < self.away[1]:
            return Place(person.device, self.hotel.ip, self.hotel.network, self.hotel.country)
        device = person.home.tablet if person.home.tablet and rng.random() < 0.2 else person.device
        working = 9 <= at % DAY / HOUR < 18
        if person.office and working and rng.random() < 0.5:
            return Place(person.device, person.office.ip)
        if self.tunnel and rng.random() < 0.5:
            return Place(device, self.tunnel, "vpn", rng.choice(("CN", "HK", "SG")))
        if rng.random() < 0.5:
            if rng.random() < 0.03:  # on the phone that lies on the table
                device = rng.choice(person.home.members).device
            return Place(device, person.home.ip)
        return self.town.street(rng, person)

    def _where(self, at: float) -> tuple[str, bool]:
        person, rng = self.person, self.rng
        if self.away[0] <= at < self.away[1] and rng.random() < 0.4:
            return self.hotel_address, False
        if rng.random() < 0.05:  # a present
            return rng.choice(self.town.people).home.address, False
        if person.office and rng.random() < 0.15:
            return person.office.address, False
        if rng.random() < person.to_station:
            return person.home.station, True
        return self.address, False

    def _buy(self, at: float, coupon: tuple[str, float, bool] | None = None) -> None:
        person, rng = self.person, self.rng
        shop = rng.choice(person.favourites) if rng.random() < 0.5 else pick_shop(self.town, rng)
        place = self._place(at)
        if rng.random() < 0.003:  # on the phone of somebody else
            place = Place(rng.choice(self.town.people).device, place.ip, place.network, place.country)
        if place.device not in self.seen or rng.random() < 0.2:
            new = place.device not in self.seen
            self.seen.add(place.device)
            self.market.account(at - 60, person, place, "login", new_device=new, method="sms" if new else "password")
        address, pickup = self._where(at)
        amount = price(rng, shop) * person.purse
        if coupon is None and rng.random() < 0.1:
            coupon = SEASON
        order = Order(person, shop, place, at, amount, address, pickup, coupon=coupon)
        order.landed, order.pages = rng.lognormvariate(5.2, 0.9), int(rng.lognormvariate(1.8, 0.7)) + 1
        if shop.goods.category == "game_credit" and rng.random() < 0.2:  # a few small ones in a row
            for n in range(1, int(rng.expovariate(0.5)) + 1):
                again = Order(person, shop, place, at + 90 * n, amount, address, pickup, landed=15.0)
                pay(rng, again)
                self.market.order(again)
        pay(rng, order)
        follow(self.market, rng, order)


def _keep(town: Town, shop: Shop, rng: Random) -> None:
    """The work of a seller: listings, settlements, sometimes a new bank, a test order or a helper who buys."""
    market = town.market
    weeks = int(market.end // (7 * DAY))
    changed = rng.uniform(0, market.end) if rng.random() < 0.02 else -400 * DAY
    for number in range(rng.randrange(2, 9)):
        for _ in range(rng.randrange(1, 4)):
            at = rng.uniform(0, market.end)
            market.listing(at, shop, rng.choice(("created", "changed")), number, rng.lognormvariate(0, 0.15))
    if changed > 0:
        said = {"action": "account_change", "to": "seller", "holder_matches": True, "country": "CN"}
        market.payout(changed, shop, 0, {**said, "account": shop.payout})
    for week in range(weeks):
        at = (week * 7 + 1) * DAY + 10 * HOUR + rng.random() * HOUR
        since = changed if at > changed else -400 * DAY
        settled = {"to": "seller", "purpose": "settlement", "account": shop.payout, "holder_matches": True}
        market.payout(at, shop, 1000, {**settled, "country": "CN", "account_changed_at": stamp(since)})
    _own_orders(town, shop, rng)
    if shop.opened > -30 * DAY:
        _friends(town, shop, rng)
    if rng.random() < 0.05:
        _rebate_week(town, shop, rng)


def _own_orders(town: Town, shop: Shop, rng: Random) -> None:
    """A seller who tries the checkout once, helpers who buy at a discount, a spouse who likes the goods."""
    market, owner = town.market, shop.owner
    if rng.random() < 0.04:
        place = Place(shop.devices[0], shop.ip)
        at = hour(rng, rng.uniform(0, market.end / DAY - 1) // 1)
        market.order(Order(owner, shop, place, at, price(rng, shop) * 0.2, shop.address))
    if rng.random() < 0.06:
        helper = rng.choice(town.people)
        for _ in range(rng.randrange(1, 4)):
            at = hour(rng, rng.randrange(int(market.end // DAY)))
            order = Order(helper, shop, Place(helper.device, shop.ip), at, price(rng, shop) * 0.7, helper.home.address)
            pay(rng, order)
            if at > helper.signup:
                follow(market, rng, order)
    if len(owner.home.members) > 1 and rng.random() < 0.05:
        other = next(each for each in owner.home.members if each is not owner)
        at = hour(rng, rng.randrange(int(market.end // DAY)))
        if at > other.signup:
            follow(
                market, rng, Order(other, shop, Place(other.device, owner.home.ip), at, price(rng, shop), shop.address)
            )


def _friends(town: Town, shop: Shop, rng: Random) -> None:
    """The first orders of a new shop are from people who know its owner, and who write kindly."""
    market, owner = town.market, shop.owner
    know = [each for each in town.people if owner.office and each.office is owner.office] + owner.home.members
    know = [each for each in know if each is not owner and each.signup < 0]
    for friend in rng.sample(know, min(len(know), rng.randrange(2, 9))):
        at = hour(rng, max(shop.opened, 0) // DAY + rng.randrange(14))
        office = friend.office
        place = Place(friend.device, office.ip) if office and rng.random() < 0.4 else town.street(rng, friend)
        order = Order(friend, shop, place, at, price(rng, shop), friend.home.address)
        pay(rng, order)
        if rng.random() < 0.7:
            order.stars, order.words, order.wrote_after = 5, f"s-{rng.getrandbits(40):x}", rng.uniform(0.1, 4)
        market.order(order)


def _rebate_week(town: Town, shop: Shop, rng: Random) -> None:
    """An announced campaign: whoever spends enough in this week gets a little of it back."""
    market = town.market
    begin = rng.uniform(20, market.end / DAY - 10) * DAY
    for person in rng.sample(town.people, int(shop.weight * 12) + 2):
        at = hour(rng, (begin + rng.uniform(0, 7) * DAY) // DAY)
        if at < person.signup:
            continue
        order = Order(person, shop, town.street(rng, person), at, price(rng, shop) * 1.3, person.home.address)
        pay(rng, order)
        follow(market, rng, order)
        market.payout(order.delivered + 8 * DAY, shop, order.amount * 0.08, compensation(order, "cashback"), order)


def _livestreams(town: Town, rng: Random) -> None:
    """An evening on which many buy one thing in one shop within two hours, most of them for the first time."""
    market = town.market
    hosts = [shop for shop in town.shops if not shop.goods.virtual and rng.random() < 0.12]
    for shop in hosts:
        for _ in range(rng.randrange(1, 4)):
            begin = rng.randrange(int(market.end // DAY)) * DAY + 20 * HOUR
            amount = price(rng, shop)
            for person in rng.sample(town.people, rng.randrange(20, 80)):
                at = begin + rng.betavariate(1.5, 3) * 2.5 * HOUR
                if at < person.signup:
                    continue
                home = person.home
                place = Place(person.device, home.ip) if rng.random() < 0.6 else town.street(rng, person)
                order = Order(
                    person, shop, place, at, amount, home.address, channel="livestream", room=f"room-{shop.id}"
                )
                order.landed, order.pages = rng.uniform(3, 60), 1
                pay(rng, order)
                follow(market, rng, order)


def _groups(town: Town, rng: Random) -> None:
    """Neighbours who buy together; one of them takes the parcels for all."""
    market = town.market
    food = [shop for shop in town.shops if shop.goods.category in ("snacks", "household", "books", "toys")]
    for _ in range(len(town.households) // 120):
        leader = rng.choice(town.households)
        near = [each for each in town.people if each.home.city == leader.city and each.signup < 0]
        group = rng.sample(near, min(rng.randrange(8, 25), len(near)))
        station = rng.random() < 0.8
        address = f"group-{leader.address}" if station else leader.address
        for week in range(int(market.end // (7 * DAY))):
            if rng.random() < 0.6:
                shop, day = rng.choice(food), week * 7 + rng.randrange(7)
                amount = price(rng, shop)
                for person in group:
                    if rng.random() < 0.4:
                        place = Place(person.device, person.home.ip) if rng.random() < 0.5 else town.street(rng, person)
                        order = Order(person, shop, place, hour(rng, day), amount, address, station)
                        order.channel, order.landed, order.pages = "mini_program", rng.uniform(8, 120), 2
                        pay(rng, order)
                        follow(market, rng, order)


def _coffee(town: Town, rng: Random) -> None:
    """Colleagues who order together to the office, from its network."""
    market = town.market
    food = [shop for shop in town.shops if shop.goods.category == "snacks"]
    for office in rng.sample(town.offices, len(town.offices) // 4):
        staff = [each for each in town.people if each.office is office and each.signup < 0]
        shop = rng.choice(food)
        for day in range(int(market.end // DAY)):
            if day % 7 < 5 and rng.random() < 0.15:
                for person in staff:
                    if rng.random() < 0.3:
                        at = day * DAY + (14 + rng.random()) * HOUR
                        place = Place(person.device, office.ip)
                        order = Order(person, shop, place, at, price(rng, shop), office.address, landed=30.0, pages=2)
                        pay(rng, order)
                        follow(market, rng, order)


def _freshmen(town: Town, rng: Random) -> None:
    """A week at a campus: many open an account on one network and take the newcomers' offer to one dormitory."""
    market = town.market
    campus = rng.choice(town.offices)
    city, week = rng.randrange(CITIES), rng.uniform(30, market.end / DAY - 10)
    for n in range(rng.randrange(15, 30)):
        home = Household(f"dorm-{n % 2}", campus.ip, city, f"station-{campus.address}", 0.004)
        who = Person(
            account=f"f{n}",
            home=home,
            device=f"df{n}",
            payer=f"payer-f{n}",
            cards=(f"card-f{n}",),
            payout=f"acc-f{n}",
            signup=(week + rng.uniform(0, 6)) * DAY,
            orders=0,
            verified=False,
            email="qq.com",
            rate=rng.uniform(0.05, 0.2),
            purse=rng.lognormvariate(-0.3, 0.3),
            office=campus,
            to_station=0.6,
            says=rng.betavariate(1.2, 4),
            favourites=tuple(rng.choice(town.shops) for _ in range(5)),
        )
        home.members.append(who)
        town.people.append(who)
        Life(town, who, Random(f"{market.seed}/freshman/{n}")).run()
