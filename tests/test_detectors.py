"""engine.detectors: the file that declares a model's features, and a model in a running Arbiter."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from cli import main
from engine.anomaly import read_model
from engine.arbiter import Caller
from engine.assembly import Settings
from engine.decide import conclude
from engine.detectors import read_models, unseen
from engine.errors import PackError
from engine.explain import exact
from engine.expr import Env
from engine.ledger import Filter
from engine.money import Money
from engine.rulebook import Rulebook, load
from engine.trial import try_rules
from engine.vault import KeyFile
from tests import models
from tests.books import LI, RULES, SHOP, SMALL, Clock, book, judged, payment, record_of, running, told, write

pytestmark = pytest.mark.anyio

AUDITOR = Caller("auditor", "person", "shop-a", frozenset({"audit"}))
NAME = "a" * 64


def asked(more: str = "", **lines: str) -> dict[str, str]:
    """The small rulebook with another feature, or with lines of the detector's file replaced."""
    text = models.DETECTOR + more
    for key, line in lines.items():
        text = "".join(f"{line}\n" if each.startswith(f"{key}:") else each for each in text.splitlines(keepends=True))
    return {**models.files(), "policies/anomaly.yaml": text}


def feature(value: str, more: str = "") -> str:
    return f"  odd: {{value: {value}{more}, label: {{en: odd, zh: 异常}}}}\n"


WRONG = [
    ("an unknown field", asked(feature("amonut > 1 CNY")), ["unknown name 'amonut'", "did you mean 'amount'?"]),
    ("text", asked(feature("card.country")), ["a feature is a number; this is text", "compare it"]),
    ("an instant", asked(feature("at")), ["a feature is a number; this is instant", "take a time from 'now'"]),
    ("money without a currency", asked(feature("amount")), ["names the currency it is compared in", "add unit: CNY"]),
    ("no currency", asked(feature("amount", ", unit: CNYY")), ["names the currency it is compared in", "'CNY'"]),
    ("personal data", asked(feature('buyer.name == "x"')), ["looks at personal data (buyer.name)", "shown and logged"]),
    ("a list", asked(feature("card.bin in list bad-bins")), ["looks into a list (bad-bins)", "leave that to a rule"]),
    ("the anomaly itself", asked(feature("anomaly")), ["unknown name 'anomaly'"]),
    ("a kind that is none", asked(**{"for": "for: paymnet"}), ["no kind of event 'paymnet'", "'payment'"]),
    ("a pin that is no hash", asked("model: latest\n"), ["policies/anomaly.yaml:8:8", "the 64 digits"]),
    (
        "a champion that challenges itself",
        asked(f"model: {NAME}\nchallengers: [{NAME}]\n"),
        ["cannot challenge itself"],
    ),
    ("segments by a number", asked("segment: {by: amount}\n"), ["must be text, it is money"]),
    ("too few trees", asked("trees: 3\n"), ["policies/anomaly.yaml:8:8", "10"]),
    ("no features", asked(features="features: {}") | {}, ["policies/anomaly.yaml"]),
    (
        "two for one kind",
        {**models.files(), "policies/second.yaml": models.DETECTOR.replace("anomaly: till", "anomaly: other")},
        ["a payment has the detector 'till' already", "one kind has one detector"],
    ),
    (
        "the anomaly where no detector is",
        {**SMALL, "rules/small.yaml": RULES.replace("amount == 41 CNY", "anomaly > 99")},
        ["unknown name 'anomaly'"],
    ),
    (
        "a window over the anomaly",
        {
            **models.files(),
            "rules/small.yaml": RULES.replace("where", "where anomaly > 99 and").replace(
                "card.ref, including", "card.ref where anomaly > 99, including"
            ),
        },
        ["unknown name 'anomaly'"],
    ),
]


@pytest.mark.parametrize(("files", "says"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_is_wrong_with_a_detector_is_told_with_its_place_and_cure(
    tmp_path: Path, files: Mapping[str, str], says: list[str]
) -> None:
    text = "\n".join(told(tmp_path, files))
    for each in says:
        assert each in text


def env(at: int = 0) -> Env:
    def convert(money: Money, currency: str, _at: int) -> Money | None:
        if money.currency == currency:
            return money
        return Money(money.minor * 7, currency) if (money.currency, currency) == ("USD", "CNY") else None

    return Env(at, at, {}, convert)


GIVEN = {"amount": Money.of("12.50", "CNY"), "buyer": {"guest": True}}
READ = [
    ("money in its unit", "amount", ", unit: CNY", GIVEN, 12.5),
    ("money of another currency at the day's rate", "amount", ", unit: CNY", {"amount": Money.of("2", "USD")}, 14.0),
    ("money without a rate", "amount", ", unit: CNY", {"amount": Money.of("2", "EUR")}, math.nan),
    ("a number", "10 / 4", "", {}, 2.5),
    ("yes", "buyer.guest", "", GIVEN, 1.0),
    ("no", "not buyer.guest", "", GIVEN, 0.0),
    ("a duration in seconds", "now - at", "", {"at": 0}, 90.0),
    ("what is missing", "amount", ", unit: CNY", {}, math.nan),
]


@pytest.mark.parametrize(("value", "more", "values", "number"), [row[1:] for row in READ], ids=[row[0] for row in READ])
def test_a_feature_is_a_number_in_its_unit(
    tmp_path: Path, value: str, more: str, values: dict[str, Any], number: float
) -> None:
    made = book(tmp_path, asked(feature(value, more)))
    read = made.kinds["payment"].row
    assert read is not None
    row = read(values, [None] * len(made.windows), env(90_000_000))
    assert row.values[-1] == pytest.approx(number, nan_ok=True)
    assert row.segment is None


ODD = RULES + (
    "  - id: small.odd\n"
    "    when: anomaly >= 99.5 and amount > 10 CNY\n"
    "    signal: odd_one\n"
    '    because: {en: "odder than {anomaly} % of payments", zh: "比 {anomaly}% 的支付更异常"}\n'
    "    basis: {kind: house-policy, review_by: 2027-05-31}\n"
    "    tests:\n"
    "      - {it: fires, event: {anomaly: 99.5, amount: 20 CNY}, expect: fires}\n"
    "      - {it: stays quiet, event: {anomaly: 99.4, amount: 20 CNY}, expect: quiet}\n"
    "      - {it: cannot know without a model, event: {amount: 20 CNY}, expect: unknown}\n"
)


def test_a_rule_may_ask_for_the_anomaly_and_its_tests_say_what_it_is(tmp_path: Path) -> None:
    made = book(tmp_path, {**models.files(), "rules/small.yaml": ODD})
    trials = list(try_rules(made))
    assert [(trial.it, trial.problem) for trial in trials] == [
        ("fires", None),
        ("stays quiet", None),
        ("cannot know without a model", None),
    ]
    wrong = ODD.replace("anomaly: 99.5,", "anomaly: 101,")
    (problem,) = [
        t.problem for t in try_rules(book(tmp_path, {**models.files(), "rules/small.yaml": wrong})) if t.problem
    ]
    assert "a number from 0 to 100" in str(problem)


# ------------------------------------------------------------------------------- in a running Arbiter


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A folder with two models of the small detector: the folder, and their names."""
    folder = tmp_path_factory.mktemp("shelf")
    made = book(folder / "packs", models.files())
    return folder / "models", models.trained(made, folder / "models"), models.trained(made, folder / "models", seed=2)


@pytest.fixture
def start(tmp_path: Path, shelf: tuple[Path, str, str]) -> Callable[..., Any]:
    """An Arbiter over the small rulebook with these pins."""
    clock = Clock()
    key_file = tmp_path / "keys.json"
    KeyFile.create(key_file)

    def started(*pins: str | None, folder: Path | None = shelf[0], counted: bool = True, rules: str = RULES) -> Any:
        write(tmp_path, {**models.files(*pins, counted=counted), "rules/small.yaml": rules})
        settings = Settings(
            database_url=f"sqlite:///{tmp_path / 'ledger.db'}",
            key_file=key_file,
            rules=tmp_path / "rules",
            policies=tmp_path / "policies",
            model_dir=folder,
        )
        return running(settings, clock)

    return started


async def test_an_odd_payment_is_challenged_and_told_why(start: Any, shelf: tuple[Path, str, str]) -> None:
    async with start(shelf[1]) as arbiter:
        plain = await judged(arbiter, payment("p-1", 20, card={"ref": "c-1"}))
        odd = await judged(arbiter, payment("p-2", 4980, card={"ref": "c-2"}))
        record = await record_of(arbiter, odd)
        shown = await arbiter.explanation(odd["id"], AUDITOR)

    assert (plain["verdict"], plain["unusual"]) == ("approve", [])
    assert 0 <= Decimal(plain["anomaly"]) < 99
    assert Decimal(odd["anomaly"]) > 99
    first = odd["unusual"][0]
    assert (first["feature"], first["value"], first["unit"]) == ("amount", "4980", "CNY")
    assert first["label"] == {"en": "amount", "zh": "金额"}
    assert 3 < float(first["usual"][0]) < float(first["usual"][1]) < 200
    assert 50 < first["share"] <= 100
    assert record["pins"]["model"] == shelf[1]
    assert {"by": "anomaly", "name": odd["anomaly"], "before": "85", "after": "100"} in record["steps"]
    assert shown["anomaly"] == {
        "model": shelf[1],
        "percentile": odd["anomaly"],
        "challengers": [],
        "unusual": odd["unusual"],
    }


def test_explain_shows_a_rule_that_asks_for_the_anomaly(
    start: Any, shelf: tuple[Path, str, str], tmp_path: Path
) -> None:
    async def decide() -> dict[str, Any]:
        async with start(shelf[1], rules=ODD) as arbiter:
            return await judged(arbiter, payment("p-1", 4980))

    anomaly = asyncio.run(decide())["anomaly"]
    environ = {
        "ARBITER_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}",
        "ARBITER_KEY_FILE": str(tmp_path / "keys.json"),
        "ARBITER_MODEL_DIR": str(shelf[0]),
    }
    for asked in (["p-1"], ["p-1", "--exact"]):
        shown = CliRunner().invoke(main, ["explain", *asked], env=environ)
        assert shown.exit_code == 0, shown.output
        assert f"true    anomaly >= 99.5    [anomaly = {anomaly}]" in shown.output


async def test_a_recorded_decision_concludes_the_same_without_the_model(
    start: Any, shelf: tuple[Path, str, str]
) -> None:
    async with start(shelf[1]) as arbiter:
        odd = await judged(arbiter, payment("p-1", 3000))
        record = await record_of(arbiter, odd)
        made: Rulebook = arbiter._live.rulebook
    assert conclude(made.kinds["payment"], record).verdict == odd["verdict"]
    assert conclude(made.kinds["payment"], record).score == odd["score"]


async def test_a_challenger_is_recorded_beside_the_champion_and_changes_nothing(
    start: Any, shelf: tuple[Path, str, str]
) -> None:
    async with start(shelf[1]) as arbiter:
        alone = await judged(arbiter, payment("p-1", 20))
    async with start(shelf[1], shelf[2]) as arbiter:
        beside = await judged(arbiter, payment("p-2", 20))
        record = await record_of(arbiter, beside)
    assert beside["anomaly"] == alone["anomaly"]
    assert [each["model"] for each in record["challengers"]] == [shelf[2]]
    assert 0 <= Decimal(record["challengers"][0]["anomaly"]) <= 100


MISSING = [
    ("no folder of models", lambda shelf: ((shelf[1],), None)),
    ("a folder without it", lambda shelf: (("b" * 64,), shelf[0])),
    ("nothing pinned yet", lambda shelf: ((None,), shelf[0])),
]


@pytest.mark.parametrize("given", [row[1] for row in MISSING], ids=[row[0] for row in MISSING])
async def test_without_its_model_an_arbiter_starts_says_so_and_lets_the_policy_decide(
    start: Any, shelf: tuple[Path, str, str], given: Any
) -> None:
    pins, folder = given(shelf)
    async with start(*pins, folder=folder) as arbiter:
        answer = await judged(arbiter, payment("p-1", 20))
        (info,) = arbiter.rulebook_info()["models"]
    assert (answer["verdict"], answer["anomaly"], answer["degraded"]) == ("review", None, ["model_unavailable"])
    assert "model_unavailable" in answer["signals"]
    assert info["problem"]


async def test_a_detector_that_nothing_counts_on_does_not_degrade_anything(start: Any) -> None:
    async with start(None, counted=False) as arbiter:
        answer = await judged(arbiter, payment("p-1", 20))
    assert (answer["verdict"], answer["anomaly"], answer["degraded"]) == ("approve", None, [])


async def test_promoting_and_rolling_back_are_recorded_with_who_did_it(
    start: Any, tmp_path: Path, shelf: tuple[Path, str, str]
) -> None:
    async with start(shelf[1]) as arbiter:
        for pin in (shelf[2], shelf[1]):
            write(tmp_path, models.files(pin))
            await arbiter.reload(LI)
            answer = await judged(arbiter, payment(f"p-{pin[:4]}", 20))
            assert (await record_of(arbiter, answer))["pins"]["model"] == pin
        entries = await changes(arbiter)
    acts = [
        (each["object"], each["before"], each["after"], each["by"]["name"])
        for each in entries
        if each["what"] == "model"
    ]
    assert acts == [("till", shelf[1], shelf[2], "li.si"), ("till", shelf[2], shelf[1], "li.si")]


async def changes(arbiter: Any) -> list[Any]:
    page = await arbiter._ledger.page(LI.tenant, Filter(kind="change"))
    return [orjson.loads(each.entry.leaf) for each in reversed(page.entries)]


async def test_a_reload_with_a_model_that_cannot_be_used_is_refused_at_the_pin(
    start: Any, tmp_path: Path, shelf: tuple[Path, str, str]
) -> None:
    async with start(shelf[1]) as arbiter:
        before = arbiter.rulebook_info()["hash"]
        write(tmp_path, models.files("b" * 64))
        with pytest.raises(PackError) as refused:
            await arbiter.reload(LI)
        assert arbiter.rulebook_info()["hash"] == before
    (problem,) = refused.value.problems
    assert (problem.file, problem.line, problem.column) == ("policies/anomaly.yaml", 8, 8)
    assert "the model cannot be used" in problem.what


async def test_a_model_that_came_or_went_is_seen_by_a_reload_though_no_pack_changed(
    start: Any, tmp_path: Path, shelf: tuple[Path, str, str]
) -> None:
    """One that came is recorded, once: from then on it decides."""
    async with start(shelf[1], folder=tmp_path / "models") as arbiter:
        assert (await judged(arbiter, payment("p-1", 20)))["degraded"] == ["model_unavailable"]
        shutil.copytree(shelf[0], tmp_path / "models")
        await arbiter.reload(LI)
        await arbiter.reload(LI)
        acts = [(each["what"], each["object"], each["before"], each["after"]) for each in await changes(arbiter)]
        assert [act for act in acts if act[0] == "model"] == [("model", "till", None, shelf[1])]
        assert (await judged(arbiter, payment("p-2", 20)))["degraded"] == []
        shutil.rmtree(tmp_path / "models")
        with pytest.raises(PackError, match="the model cannot be used"):
            await arbiter.reload(LI)
        assert (await judged(arbiter, payment("p-3", 20)))["degraded"] == []  # the good one goes on


async def test_a_promotion_that_comes_with_a_start_is_recorded(start: Any, shelf: tuple[Path, str, str]) -> None:
    async with start(shelf[1]) as arbiter:
        await judged(arbiter, payment("p-1", 20))
    async with start(shelf[2]) as arbiter:
        page = await arbiter._ledger.page("*", Filter(kind="change"))
    records = [orjson.loads(each.entry.leaf) for each in page.entries]
    acts = [(each["what"], each["object"], each["before"], each["after"], each["by"]["name"]) for each in records]
    assert ("model", "till", shelf[1], shelf[2], "start") in acts


def wider(pin: str, *challengers: str) -> dict[str, str]:
    """The small rulebook whose detector declares a feature more, before and behind those of the models."""
    files = models.files(pin, *challengers)
    early = "  early: {value: 'hour(at) < 6', label: {en: early, zh: 清晨}}\n"
    text = files["policies/anomaly.yaml"].replace("features:\n", "features:\n" + early)
    return {**files, "policies/anomaly.yaml": text}


async def test_a_champion_goes_on_beside_a_challenger_that_looks_at_a_feature_more(
    start: Any, tmp_path: Path, shelf: tuple[Path, str, str]
) -> None:
    folder = shutil.copytree(shelf[0], tmp_path / "shelf")
    more = models.rows()
    early = np.column_stack([np.random.default_rng(5).random(2000) < 0.2, more.values])
    other = models.trained(book(tmp_path / "wider", wider(shelf[1])), folder, of=replace(more, values=early))
    async with start(shelf[1], folder=folder) as arbiter:
        alone = await judged(arbiter, payment("p-1", 4980, card={"ref": "c-1"}))
        write(tmp_path, wider(shelf[1], other))
        await arbiter.reload(LI)
        beside = await judged(arbiter, payment("p-2", 4980, card={"ref": "c-2"}))
        record = await record_of(arbiter, beside)
        (info,) = arbiter.rulebook_info()["models"]
        made: Rulebook = arbiter._live.rulebook
        drifts = arbiter._live.drifts["payment"]
    assert (beside["anomaly"], beside["unusual"]) == (alone["anomaly"], alone["unusual"])
    assert [each["model"] for each in record["challengers"]] == [other]
    assert info["problem"] is None
    assert drifts.model == shelf[1]
    assert {each["feature"] for each in exact(record, made, read_model(folder, shelf[1]))} == {"amount", "tries"}
    (detector,) = made.detectors
    assert unseen(detector, read_models(folder, made.detectors, strict=True)) == []
    write(tmp_path, wider(shelf[1]))
    (detector,) = load(tmp_path / "rules", tmp_path / "policies").detectors
    assert unseen(detector, read_models(folder, [detector], strict=True)) == ["early"]


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "with a challenger"])
def test_many_events_looked_at_together_look_as_each_alone(
    tmp_path: Path, shelf: tuple[Path, str, str], beside: bool
) -> None:
    made = book(tmp_path, models.files(shelf[1], *([shelf[2]] if beside else [])))
    found, kind = read_models(shelf[0], made.detectors, strict=True), made.kinds["payment"]
    env = Env(0, 0, {}, made.convert)
    events = []
    for number, cents in enumerate((1, 2_000, 498_000, None)):
        values = {"at": 0} | ({} if cents is None else {"amount": Money(cents, "CNY")})
        events.append((values, [number] * len(made.windows), env))
    assert list(kind.looks(found, events)) == [kind.look(found, *event) for event in events]
    assert kind.looks(found, []) == []
    assert kind.looks(read_models(None, made.detectors, strict=False), events) == [None] * 4


UNFIT = [
    ("another window", "last 1h", "last 2h", "'tries'"),
    ("another unit", "unit: CNY", "unit: EUR", "'amount'"),
    ("another scale", "scale: log, ", "", "'amount'"),
    ("another name", "  tries:", "  attempts:", "'tries'"),
    (
        "segments",
        "features:",
        "segment: {by: merchant.category}\nfeatures:",
        "by nothing, this file by merchant.category",
    ),
]


@pytest.mark.parametrize(("now", "then", "said"), [row[1:] for row in UNFIT], ids=[row[0] for row in UNFIT])
def test_a_model_that_does_not_fit_says_what_differs(
    tmp_path: Path, shelf: tuple[Path, str, str], now: str, then: str, said: str
) -> None:
    changed = models.files(shelf[1])
    changed["policies/anomaly.yaml"] = changed["policies/anomaly.yaml"].replace(now, then)
    found = read_models(shelf[0], book(tmp_path, changed).detectors, strict=False)
    assert said in found.missing["payment"]
    assert found.champions == {}


async def test_drift_is_measured_from_what_was_decided(start: Any, shelf: tuple[Path, str, str]) -> None:
    async with start(shelf[1], counted=False) as arbiter:
        for number in range(1000):
            await arbiter.decide(payment(f"p-{number}", 900 + number % 7), SHOP)
        figures = arbiter.drift()
    assert figures["till", "", "amount"] > 0.25
    assert figures["till", "", "anomaly"] > 0.25


async def test_exact_shares_come_from_the_record_alone_and_add_up(start: Any, shelf: tuple[Path, str, str]) -> None:
    async with start(shelf[1]) as arbiter:
        odd = await judged(arbiter, payment("p-1", 4980, card={"ref": "c-1"}))
        record = await record_of(arbiter, odd)
        made: Rulebook = arbiter._live.rulebook
    model = read_model(shelf[0], shelf[1])
    shares = exact(record, made, model)
    assert [each["feature"] for each in shares][:1] == ["amount"]
    assert shares[0]["value"] == odd["unusual"][0]["value"]
    forest = model.forest()
    length = forest.base - sum(each["nodes"] for each in shares)
    assert forest.oddness(length) == pytest.approx(model.look((4980.0, 0.0)).score, abs=1e-6)
