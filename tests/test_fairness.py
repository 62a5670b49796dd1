"""Different prices for the same goods: found where they were planted, and not told where chance alone did it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from itertools import permutations
from math import erfc, exp, log, sqrt
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli import main
from engine.fairness import FEWEST, FEWEST_STRATA, Comparison, Sold, compared
from tests import books

MEMBERS = ("gold", "silver", "none")
SYSTEMS = ("ios", "android", "web")


def shop(
    rng: random.Random,
    planted: Callable[[dict[str, str]], float] = lambda _: 1.0,
    goods: int = 40,
    days: int = 8,
    taste: float = 0.0,
) -> list[Sold]:
    """What a made-up shop sold. Prices wander within a day, as promotions begin and end, whoever buys. With `taste`
    members buy dearer goods; `planted` multiplies what a person pays."""
    sold = []
    for article in range(goods):
        dear = article / goods
        base = 1_000 * (1 + 9 * dear)
        for day in range(days):
            for number in range(rng.randrange(3, 10)):
                groups = {
                    "buyer.membership": rng.choices(MEMBERS, (1 + taste * dear, 1, 3 - taste * dear))[0],
                    "device.os": rng.choice(SYSTEMS),
                    "new": rng.choice(("new", "known")),
                }
                promotion = rng.choice((1.0, 1.0, 0.95, 0.9))
                price = base * promotion * planted(groups)
                sold.append(Sold((f"sku-{article}", f"day-{day}"), f"u-{article}-{day}-{number}", price, groups))
    return sold


def differing(found: Sequence[Comparison]) -> list[tuple[str, str]]:
    return [(each.trait, each.group) for each in found if each.differs]


def test_a_price_that_depends_on_the_device_is_found_with_its_size() -> None:
    found = compared(shop(random.Random(20261130), lambda groups: 1.03 if groups["device.os"] == "ios" else 1.0))
    (worst, *_) = found
    assert (worst.trait, worst.group) == ("device.os", "ios")
    assert worst.differs
    assert worst.difference is not None
    assert worst.low is not None
    assert worst.high is not None
    assert abs(worst.difference - 0.03) < 0.01
    assert worst.low < 0.03 < worst.high
    assert all(trait == "device.os" for trait, _ in differing(found))


def test_old_customers_who_pay_more_are_found_as_new_ones_who_pay_less() -> None:
    found = compared(shop(random.Random(7), lambda groups: 1.04 if groups["new"] == "known" else 1.0))
    assert ("new", "known") in differing(found)
    (pair,) = [each for each in found if each.trait == "new"]
    assert pair.difference is not None
    assert abs(pair.difference - 0.04) < 0.015


def test_prices_of_chance_are_no_difference() -> None:
    assert differing(compared(shop(random.Random(20261130)))) == []


def test_who_buys_dearer_goods_is_not_treated_otherwise() -> None:
    sold = shop(random.Random(3), taste=2.5)
    gold, rest = (
        [log(each.price) for each in sold if (each.groups["buyer.membership"] == "gold") == is_gold]
        for is_gold in (True, False)
    )
    plain = exp(sum(gold) / len(gold) - sum(rest) / len(rest)) - 1
    assert plain > 0.1, "who compares means of all goods would cry out"
    assert differing(compared(sold)) == []


def test_a_difference_that_is_not_worth_knowing_is_not_told() -> None:
    sold = shop(random.Random(5), lambda groups: 1.012 if groups["device.os"] == "ios" else 1.0, goods=300)
    assert ("device.os", "ios") in differing(compared(sold, least=0.005))
    assert differing(compared(sold, least=0.05)) == []


@pytest.mark.slow
def test_a_report_of_a_fair_shop_tells_a_difference_in_no_more_than_one_of_twenty() -> None:
    runs = 600
    wrong = sum(bool(differing(compared(shop(random.Random(seed), goods=15), least=0.0001))) for seed in range(runs))
    assert wrong / runs < 0.05 + 3 * sqrt(0.05 * 0.95 / runs)


@pytest.mark.slow
def test_a_planted_difference_of_three_percent_is_found_nearly_always_and_its_interval_holds_it() -> None:
    runs, found, held = 200, 0, 0
    for seed in range(runs):
        sold = shop(random.Random(seed), lambda groups: 1.03 if groups["device.os"] == "ios" else 1.0)
        (ios,) = [each for each in compared(sold) if each.group == "ios"]
        assert ios.low is not None
        assert ios.high is not None
        found += ios.differs
        held += ios.low <= 0.03 <= ios.high
    assert found / runs > 0.95
    assert held / runs > 0.95 - 3 * sqrt(0.05 * 0.95 / runs)


# The test itself


def test_the_variance_under_exchange_is_that_of_all_permutations() -> None:
    """In one stratum, the sum of squares over every order of the labels, beside the formula that the test uses."""
    prices = [log(value) for value in (10.0, 12.0, 12.5, 18.0, 11.0)]
    labels = (1, 1, 0, 0, 0)
    mean = sum(prices) / 5
    sums = [
        sum(label * (price - mean) for label, price in zip(order, prices, strict=True))
        for order in permutations(labels)
    ]
    exact = sum(each**2 for each in sums) / len(sums)
    dd, yy = sum((label - 2 / 5) ** 2 for label in labels), sum((price - mean) ** 2 for price in prices)
    assert abs(exact - dd * yy / 4) < 1e-12


def test_the_p_value_of_one_group_is_that_of_drawing_the_labels_anew() -> None:
    rng = random.Random(11)
    sold = [
        each._replace(groups={"device.os": "ios" if each.groups["device.os"] == "ios" else "other"})
        for each in shop(rng, goods=12)
    ]
    sold = [each._replace(price=each.price * (1.006 if each.groups["device.os"] == "ios" else 1.0)) for each in sold]
    (found,) = compared(sold)
    strata: dict[tuple[str, ...], list[tuple[bool, float]]] = {}
    for each in sold:
        strata.setdefault(each.stratum, []).append((each.groups["device.os"] == "ios", log(each.price)))
    centred = [
        ([label for label, _ in of], [price - sum(p for _, p in of) / len(of) for _, price in of])
        for of in strata.values()
    ]

    def total(shuffled: bool) -> float:
        whole = 0.0
        for labels, prices in centred:
            order = rng.sample(labels, len(labels)) if shuffled else labels
            whole += sum(price for label, price in zip(order, prices, strict=True) if label)
        return whole

    observed, runs = abs(total(False)), 1_500
    drawn = (1 + sum(abs(total(True)) >= observed for _ in range(runs))) / (1 + runs)
    assert found.p is not None
    assert 0.02 < drawn < 0.98, "the case must not be at an end"
    assert abs(found.p - drawn) < 4 * sqrt(drawn * (1 - drawn) / runs) + 0.01


def test_p_values_are_corrected_for_all_groups_together() -> None:
    sold = shop(random.Random(20261130))
    alone = compared([each._replace(groups={"new": each.groups["new"]}) for each in sold])
    together = next(each for each in compared(sold) if each.trait == "new")
    assert alone[0].p is not None
    assert together.p is not None
    assert alone[0].p < together.p


@pytest.mark.parametrize(
    ("strata", "each", "tested"),
    [(FEWEST, 2, True), (FEWEST - 1, 2, False), (FEWEST_STRATA, 6, True), (FEWEST_STRATA - 1, 8, False)],
)
def test_fewer_cases_or_days_are_not_tested(strata: int, each: int, tested: bool) -> None:
    sold = [
        Sold((str(day),), f"{day}-{number}", 100.0 + number, {"os": "ios" if number % 2 else "web"})
        for day in range(strata)
        for number in range(each)
    ]
    (found,) = compared(sold)
    assert (found.p is not None) == tested


def test_where_prices_are_the_same_or_one_group_alone_bought_nothing_is_told() -> None:
    sold = [
        Sold((str(day),), f"{day}-{n}", 100.0, {"os": "ios" if n else "web"}) for day in range(50) for n in range(2)
    ]
    sold += [Sold((f"w{day}",), f"w{day}-{n}", 100.0 + n, {"os": "web"}) for day in range(50) for n in range(2)]
    (found,) = compared(sold)
    assert (found.prices, found.p, found.difference) == (0, None, None)
    assert compared([]) == []
    assert compared(sold[-4:]) == [], "one group is none to compare"


def test_a_buyer_who_buys_again_and_again_is_one_case() -> None:
    sold = shop(random.Random(2), goods=10)
    often = [*sold, *(each for each in sold for _ in range(5) if each.groups["device.os"] == "ios")]
    assert [each.prices for each in compared(often)] == [each.prices for each in compared(sold)]


def test_the_normal_tail_is_that_of_the_library() -> None:
    assert abs(erfc(1.959964 / sqrt(2)) - 0.05) < 1e-6


# The command

MAP = """\
map: orders
kind: transaction
zone: Asia/Shanghai
fields:
  event_id: order
  at: paid
  amount: {column: amount, currency: CNY}
  buyer.account: account
  buyer.membership: level
  items.sku: {column: sku, split: ","}
  device.os: os
"""


def table(folder: Path, factor: float) -> list[str]:
    rng = random.Random(20261130)
    rows = ["order,paid,amount,account,level,sku,os"]
    sold = shop(rng, lambda groups: factor if groups["buyer.membership"] == "none" else 1.0, goods=20, days=6)
    for number, each in enumerate(sold):
        day = int(each.stratum[1].removeprefix("day-")) + 1
        groups = each.groups
        row = (f"o{number}", f"2026-10-{day:02d}T12:00:00+08:00", f"{each.price / 100:.2f}", each.buyer)
        rows.append(",".join((*row, groups["buyer.membership"], each.stratum[0], groups["device.os"])))
    rows.append('two,2026-10-01T12:00:00+08:00,10.00,u,gold,"a,b",ios')
    (folder / "orders.csv").write_text("\n".join(rows) + "\n", "utf-8")
    (folder / "orders.map.yaml").write_text(MAP, "utf-8")
    return [f"--data={folder / 'orders.csv'}", f"--map={folder / 'orders.map.yaml'}"]


def run(*words: str) -> Any:
    return CliRunner().invoke(
        main, ["fairness", *words, f"--rules={books.ROOT / 'rules'}", f"--policies={books.ROOT / 'policies'}"]
    )


def test_the_command_tells_who_pays_more_and_which_law_asks(tmp_path: Path) -> None:
    given = table(tmp_path, 1.05)
    found = run(*given, "--json")
    assert found.exit_code == 1, found.output
    told = json.loads(found.stdout)
    assert told["rows_without_a_price"] == 1
    worst = told["groups"][0]
    assert (worst["trait"], worst["group"], worst["differs"]) == ("buyer.membership", "none", True)
    assert 0.03 < float(worst["difference"]) < 0.07
    shown = run(*given)
    assert "differs" in shown.stdout
    assert "cn.pipl.24, cn.cir.9" in shown.stdout


def test_the_command_is_quiet_about_a_fair_shop(tmp_path: Path) -> None:
    found = run(*table(tmp_path, 1.0))
    assert found.exit_code == 0, found.output
    assert "no difference was shown" in found.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--by", "buyer.membershp"], 1, "did you mean 'buyer.membership'?"),
        (["--by", "amount"], 1, "'amount' is no field with groups"),
        (["--least", "half"], 2, "--least: write a share"),
        (["--by", "buyer.country"], 2, "no field tells groups of buyers apart"),
    ],
)
def test_wrong_words_are_told(words: list[str], code: int, said: str, tmp_path: Path) -> None:
    found = run(*table(tmp_path, 1.0), *words)
    assert (found.exit_code, said in found.output) == (code, True), found.output


def test_rows_without_prices_pass_for_nothing(tmp_path: Path) -> None:
    given = table(tmp_path, 1.0)
    head, *rows = (tmp_path / "orders.csv").read_text("utf-8").splitlines()
    (tmp_path / "orders.csv").write_text(
        "\n".join([head, *(row for row in rows if row.startswith("two"))]) + "\n", "utf-8"
    )
    found = run(*given)
    assert (found.exit_code, "no row says what one article cost" in found.stdout) == (2, True), found.output


def test_too_few_prices_pass_for_nothing(tmp_path: Path) -> None:
    given = table(tmp_path, 1.0)
    lines = (tmp_path / "orders.csv").read_text("utf-8").splitlines()
    (tmp_path / "orders.csv").write_text("\n".join(lines[:6]) + "\n", "utf-8")
    found = run(*given)
    assert (found.exit_code, "too few to tell" in found.stdout) == (2, True), found.output
