"""Events: what is taken, what is refused, and that a refusal never repeats what was sent."""

from __future__ import annotations

import copy
import json
import pickle
import re
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import EventRefused, FieldProblem
from engine.jcs import canonical
from engine.money import CURRENCIES, Money
from engine.schema import MAX_BODY, Event, OwnField, SchemaPack, decode, encode, normal, schema
from engine.schema.fields import FieldDef, by_path
from engine.schema.kinds import KINDS, LISTS, catalogue
from engine.schema.page import page

ROOT = Path(__file__).parents[1]
EXAMPLES = ["order", "order-alipay", "order-guest", "order-live", "listing", "merchant"]
NOW = 1_795_134_600_000_000
SCHEMA = schema()


def body(**more: Any) -> dict[str, Any]:
    return {"kind": "transaction", "event_id": "e1", "at": "2026-11-20T08:30:00+08:00", "amount": "5.00 CNY", **more}


def parse(data: Any) -> Event:
    return SCHEMA.parse(data if isinstance(data, bytes) else orjson.dumps(data), received_at=NOW)


def refused(data: Any) -> tuple[FieldProblem, ...]:
    with pytest.raises(EventRefused) as caught:
        parse(data)
    return caught.value.problems


def codes(data: Any) -> list[tuple[str, str]]:
    return [(problem.path, problem.code) for problem in refused(data)]


# What is taken


@pytest.mark.parametrize("name", EXAMPLES)
def test_sample_bodies_work_as_they_are_and_survive_being_taken_apart(name: str) -> None:
    event = parse((ROOT / f"docs/examples/{name}.json").read_bytes())
    public, private, keys = SCHEMA.split(event)
    assert SCHEMA.join(event.kind, public, private) == event.values
    assert decode(json.loads(canonical(encode(public)))) == public
    assert all(form and namespace for _, namespace, form in keys)
    secrets = [str(value) for part in private.values() for value in part.values()]
    assert not [secret for secret in secrets if len(secret) > 6 and secret in canonical(encode(public)).decode()]


@pytest.mark.parametrize("kind", SCHEMA.kinds)
def test_the_smallest_sample_of_every_kind_parses_and_builds(kind: str) -> None:
    sample = SCHEMA.sample(kind)
    event = parse(sample)
    assert SCHEMA.build(sample, received_at=NOW) == event
    assert SCHEMA.build(event.values, received_at=NOW) == event, "runtime values are taken back"
    assert event.kind == kind


@pytest.mark.parametrize("kind", SCHEMA.kinds)
def test_every_example_in_the_catalogue_is_a_value_of_its_field(kind: str) -> None:
    fields = SCHEMA.body_fields(kind)
    flat = {
        path: [each.example] if each.many and not isinstance(each.example, list) else each.example
        for path, each in fields.items()
        if not each.derived
    }
    event = SCHEMA.build(flat | {"kind": kind}, received_at=NOW)
    public, private, keys = SCHEMA.split(event)
    assert SCHEMA.join(kind, public, private) == event.values
    assert {path for path, _, _ in keys} == {path for path, each in fields.items() if each.entity}
    told = {path for part in private.values() for path in part}
    assert told == {path for path, each in fields.items() if each.privacy != "public"}


def test_values_come_out_exact_and_in_their_types() -> None:
    event = parse(
        body(
            order_id="o1",
            settled_amount={"value": "0.73", "currency": "USD"},
            basket={"lowest_price_ratio": 0.1, "quantity": 3, "virtual": False},
            session={"since_landing": "90s"},
            buyer={"signup_at": "2026-11-20T00:30:00.000001Z", "email": "Zhang.San@Example.COM"},
            items=[{"sku": "a", "quantity": 2}, {"title": "线"}],
        )
    )
    assert event.values == {
        "kind": "transaction",
        "event_id": "e1",
        "order_id": "o1",
        "at": 1_795_134_600_000_000,
        "amount": Money(500, "CNY"),
        "settled_amount": Money(73, "USD"),
        "basket": {"lowest_price_ratio": Decimal("0.1"), "quantity": 3, "virtual": False},
        "session": {"since_landing": 90_000_000},
        "buyer": {"signup_at": 1_795_134_600_000_001, "email": "Zhang.San@Example.COM", "email_domain": "example.com"},
        "items": [{"sku": "a", "quantity": 2}, {"title": "线"}],
    }
    assert (event.id, event.order, event.at, event.received_at) == ("e1", "o1", event.values["at"], NOW)
    assert type(event.values["basket"]["quantity"]) is int


def test_null_and_empty_text_mean_that_a_field_is_not_there() -> None:
    given_blank = body(order_id=None, buyer={"name": "", "email": None}, items=[{"sku": "a", "brand": ""}])
    assert parse(given_blank) == parse(body(buyer={}, items=[{"sku": "a"}]))


def test_escaped_json_and_plain_json_are_the_same_event() -> None:
    data = json.loads((ROOT / "docs/examples/order.json").read_text(encoding="utf-8"))
    assert parse(json.dumps(data, ensure_ascii=True, indent=3).encode()) == parse(data)


def test_text_is_kept_as_sent() -> None:
    assert parse(body(buyer={"name": "ｅ\u0301 张三 "})).values["buyer"]["name"] == "ｅ\u0301 张三 "
    assert SCHEMA.build(SCHEMA.sample("listing") | {"listing.description": "a\r\n\tb"}, received_at=NOW)


def test_kind_and_tenant_may_come_from_the_caller() -> None:
    bare = orjson.dumps({key: value for key, value in body().items() if key != "kind"})
    event = SCHEMA.parse(bare, received_at=NOW, kind="transaction", tenant="shop-1")
    assert (event.kind, event.tenant, event.values["kind"]) == ("transaction", "shop-1", "transaction")
    assert "tenant" not in event.values
    assert parse(body(tenant="shop-2")).tenant == "shop-2"
    assert parse(body()).tenant == ""


def test_a_shop_may_send_only_what_is_derived() -> None:
    event = parse(body(buyer={"email_domain": "example.com"}, shipping={"address": "addr-token-1"}))
    assert event.values["buyer"] == {"email_domain": "example.com"}
    assert SCHEMA.split(event)[2] == [("shipping.address", "address", "addrtoken1")]


# What is refused


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"cardd": {"ref": "a"}}, [("cardd", "unknown_field")]),
        ({"card": {"reff": "a", "x": 1}}, [("card.reff", "unknown_field"), ("card.x", "unknown_field")]),
        ({"items": [{}, {"prise": "1"}]}, [("items[1].prise", "unknown_field")]),
        ({"parcel": {"scans": 1}}, [("parcel", "unknown_field")]),
        ({"buyer": {"name": "x" * 101}}, [("buyer.name", "too_long")]),
        ({"items": [{}] * 201}, [("items", "too_long")]),
        ({"buyer": {"name": "a\x00b"}}, [("buyer.name", "bad_format")]),
        ({"buyer": {"name": "a\x9fb"}}, [("buyer.name", "bad_format")]),
        ({"buyer": {"name": "a\nb"}}, [("buyer.name", "bad_format")]),
        ({"buyer": {"name": 7}}, [("buyer.name", "wrong_type")]),
        ({"buyer": []}, [("buyer", "wrong_type")]),
        ({"items": {}}, [("items", "wrong_type")]),
        ({"buyer": {"guest": "yes"}}, [("buyer.guest", "wrong_type")]),
        ({"buyer": {"guest": 1}}, [("buyer.guest", "wrong_type")]),
        ({"buyer": {"phone": "138****8000"}}, [("buyer.phone", "bad_format")]),
        ({"buyer": {"email": "nobody"}}, [("buyer.email", "bad_format")]),
        ({"buyer": {"age_band": "old"}}, [("buyer.age_band", "not_a_choice")]),
        ({"ip": "300.1.1.1"}, [("ip", "bad_format")]),
        ({"ip_country": "cn"}, [("ip_country", "bad_format")]),
        ({"ip_country": "usa"}, [("ip_country", "bad_format")]),
        ({"ip_country": "USA"}, [("ip_country", "bad_format")]),
        ({"ip_country": "c"}, [("ip_country", "bad_format")]),
        ({"buyer": {"account": "a b" * 100}}, [("buyer.account", "bad_format")]),
        ({"card": {"last4": "1234\n5"}}, [("card.last4", "bad_format")]),
        ({"card": {"bin": "4111"}}, [("card.bin", "too_short")]),
        ({"card": {"last4": "12345"}}, [("card.last4", "too_long")]),
        ({"amount": 5}, [("amount", "wrong_type")]),
        ({"amount": "5"}, [("amount", "bad_money")]),
        ({"amount": "5.001 CNY"}, [("amount", "bad_money")]),
        ({"amount": "5 RMB"}, [("amount", "bad_money")]),
        ({"amount": "5e3 CNY"}, [("amount", "bad_money")]),
        ({"amount": "５ CNY"}, [("amount", "bad_money")]),
        ({"amount": "-5.00 CNY"}, [("amount", "out_of_range")]),
        ({"amount": {"value": 5, "currency": "CNY"}}, [("amount", "bad_money")]),
        ({"amount": {"value": "5", "currency": "CNY", "x": 1}}, [("amount", "bad_money")]),
        ({"at": "2026-11-20T08:30:00"}, [("at", "bad_instant")]),
        ({"at": "2026-02-30T08:30:00Z"}, [("at", "bad_instant")]),
        ({"at": "2026-W47-5T08:30:00Z"}, [("at", "bad_instant")]),
        ({"at": "1999-12-31T23:59:59Z"}, [("at", "out_of_range")]),
        ({"at": 1795134600}, [("at", "wrong_type")]),
        ({"session": {"since_landing": 5}}, [("session.since_landing", "wrong_type")]),
        ({"session": {"since_landing": "5 min"}}, [("session.since_landing", "bad_duration")]),
        ({"session": {"pages": 1.5}}, [("session.pages", "wrong_type")]),
        ({"session": {"pages": -1}}, [("session.pages", "out_of_range")]),
        ({"session": {"pages": True}}, [("session.pages", "wrong_type")]),
        ({"session": {"pages": "3"}}, [("session.pages", "wrong_type")]),
        ({"format": 2}, [("format", "not_a_choice")]),
        ({"tenant": "a b"}, [("tenant", "bad_format")]),
        ({"event_id": "事件"}, [("event_id", "bad_format")]),
        ({"event_id": None}, [("event_id", "missing_field")]),
        ({"kind": "transactoin"}, [("kind", "wrong_kind")]),
        ({"kind": None}, [("kind", "missing_field")]),
        ({"kind": ["transaction"]}, [("kind", "wrong_kind")]),
        ({"kind": "payment"}, [("payment.stage", "missing_field")]),
        ({"buyer": {"email": "a@example.com", "email_domain": "b.com"}}, [("buyer.email_domain", "derived_field")]),
        ({"card": {"cvv": "123"}}, [("card.cvv", "secret_in_payload")]),
        ({"x": {"y": [{"Track-2": "1"}]}}, [("x", "unknown_field"), ("x.y[0].Track-2", "secret_in_payload")]),
        ({"card": {"cid": "1234"}}, [("card.cid", "secret_in_payload")]),
        ({"card": {"ref": "4111111111111111"}}, [("card.ref", "pan_in_payload")]),
        ({"order_id": ";4111111111111112=25121011000012300000?"}, [("order_id", "secret_in_payload")]),
        ({"event_id": "%B4111111111111112^DOE/JOHN^2512101?"}, [("event_id", "secret_in_payload")]),
        ({"items": [{"sku": "%B4111111111111111^DOE/JOHN^2512101?"}]}, [("items[0].sku", "secret_in_payload")]),
        ({"device": {"id": "4111111111111112=251210110000"}}, [("device.id", "secret_in_payload")]),
        ({"items": [{"title": "cvv 123"}]}, [("items[0].title", "secret_in_payload")]),
        ({"buyer": {"name": "安全码：123"}}, [("buyer.name", "secret_in_payload")]),
        ({"shipping": {"street": "my pin is 1234"}}, [("shipping.street", "secret_in_payload")]),
        ({"x": {"%B4111111111111112^DOE/J^2512": 1}},
         [("x", "unknown_field"), ("x.(a name that is not shown)", "secret_in_payload")]),
        ({"buyer": {"name": "４１１１ 1111\u200b1111-1111"}}, [("buyer.name", "pan_in_payload")]),
        ({"amount": {"value": "4111111111111111", "currency": "CNY"}},
         [("amount", "bad_money"), ("amount.value", "pan_in_payload")]),
    ],
    ids=lambda part: orjson.dumps(part).decode()[:50] if isinstance(part, dict) else "",
)  # fmt: skip
def test_what_breaks_the_schema_is_refused_by_path_and_code(more: dict[str, Any], expected: list[Any]) -> None:
    assert codes(body(**more)) == expected


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"ip_country": "cn"}, "must be two capital letters (ISO 3166-1)"),
        ({"ip_country": "usa"}, "must be two capital letters (ISO 3166-1)"),
        ({"card": {"bin": "12-34"}}, "must be digits, 6 to 8 characters"),
        ({"card": {"bin": "12345"}}, "at least 6 characters"),
    ],
)
def test_what_breaks_its_form_and_its_length_is_told_the_form(more: dict[str, Any], what: str) -> None:
    assert [each.what for each in refused(body(**more))] == [what]


def test_all_problems_are_told_at_once() -> None:
    found = codes({"kind": "payment", "card": {"cvv": "1", "bin": 4}, "buyer": {"nam": "x"}, "amount": "1"})
    assert found == [
        ("amount", "bad_money"), ("at", "missing_field"), ("buyer.nam", "unknown_field"), ("card.bin", "wrong_type"),
        ("card.cvv", "secret_in_payload"), ("event_id", "missing_field"), ("payment.stage", "missing_field"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "hint"),
    [
        ({"buyer": {"emial": "x"}}, "did you mean 'buyer.email'?"),
        ({"chanel": "app"}, "did you mean 'channel'?"),
        ({"review": {"rating": 5}}, ""),
        ({"parcel": {"scans": 1}}, ""),
    ],
)
def test_hints_name_what_was_meant(more: dict[str, Any], hint: str) -> None:
    assert hint in refused(body(**more))[0].hint


def test_a_field_of_another_kind_is_told_where_it_belongs() -> None:
    hint = refused({**SCHEMA.sample("listing"), "payment": {"stage": "attempt"}, "amount": "1.00 CNY"})[0].hint
    assert "transaction" in hint


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff", b"[1,]", b'{"a":NaN}', b'{"a":Infinity}', b'{"a":"\\ud800"}', b'{"a":1}x', b"\xef\xbb\xbf{}"],
)
def test_what_is_not_json_is_refused(raw: bytes) -> None:
    assert codes(raw) == [("(body)", "bad_json")]


def test_what_is_no_object_or_too_large_or_too_deep_is_refused() -> None:
    assert codes(b"[]") == codes(b"1") == codes(b"null") == [("(body)", "wrong_type")]
    assert codes(b" " * (MAX_BODY + 1)) == [("(body)", "too_large")]
    assert ("(body)", "too_deep") in codes(body(x=json.loads("[" * 100 + "]" * 100)))
    assert ("(body)", "too_deep") in codes(b'{"kind":"review","x":' + b"[" * 900 + b"]" * 900 + b"}")
    assert codes(b'{"kind":"review","x":' + b"[" * 9000 + b"]" * 9000 + b"}") == [("(body)", "bad_json")]


@pytest.mark.parametrize(
    "twice",
    [
        b'"amount":"5.00 CNY","amount":"5.00 CNY"',
        b'"amount":"5.00 CNY","amount"  :  "6.00 CNY"',
        b'"amount" \n:"5.00 CNY","\\u0061mount":"6.00 CNY"',
        b'"amount":"5.00 CNY","buyer":{"name":"a\\":b","name":"x"}',
        b'"amount":"5.00 CNY","items":[{"sku":"a"},{"sku":"a","sku":"b"}]',
    ],
)
def test_a_key_given_twice_is_refused(twice: bytes) -> None:
    raw = b'{"kind":"transaction","event_id":"e","at":"2026-11-20T08:30:00Z",' + twice + b"}"
    assert "duplicate_key" in {code for _, code in codes(raw)}


def test_text_that_only_looks_like_a_second_key_passes() -> None:
    assert parse(body(buyer={"name": 'a":b" : \\":'}))
    assert parse(body(buyer={"name": "a\\"}))


def test_numbers_are_exact_or_refused() -> None:
    def ratio(text: str) -> Any:
        raw = orjson.dumps(body(basket={"lowest_price_ratio": 1})).replace(b":1}", f":{text}}}".encode())
        return parse(raw).values["basket"]["lowest_price_ratio"]

    assert ratio("0.123456789012345") == Decimal("0.123456789012345")
    assert ratio("999999999999999") == 999999999999999
    assert type(ratio("2.0")) is int
    assert type(ratio("-0.0")) is int
    assert ratio("1e3") == 1000
    for text in ("0.1234567890123456789", "1234567890123456", "1e300", "1e-300", "0.1000000000000000055"):
        with pytest.raises(EventRefused) as caught:
            ratio(text)
        assert {problem.code for problem in caught.value.problems} == {"too_precise"}


def test_an_event_of_another_kind_or_tenant_than_the_caller_knows_is_refused() -> None:
    with pytest.raises(EventRefused, match="payment event is expected"):
        SCHEMA.parse(orjson.dumps(body()), received_at=NOW, kind="payment")
    with pytest.raises(EventRefused, match="another tenant"):
        SCHEMA.parse(orjson.dumps(body(tenant="a")), received_at=NOW, tenant="b")


def test_declared_identifiers_are_passed_by() -> None:
    number = "4111111111111111"
    event = parse(body(order_id=number, buyer={"account": number}, items=[{"sku": number}], device={"id": number}))
    assert event.order == number
    assert ("items[0].title", "pan_in_payload") in codes(body(items=[{"sku": number, "title": number}]))


POSTCODES = ["310012", "SW1A 1AA", "10115", "D-10115", "94103-1234", "941031234", "K1A 0B1", "1234 AB", "〒100-8111"]


@pytest.mark.parametrize("where", ["shipping", "billing"])
def test_a_postcode_is_scanned_and_ordinary_ones_pass(where: str) -> None:
    assert codes(body(**{where: {"postcode": "4111111111111111"}})) == [(f"{where}.postcode", "pan_in_payload")]
    for postcode in POSTCODES:
        assert parse(body(**{where: {"postcode": postcode}})).values[where]["postcode"] == postcode


def test_no_more_than_fifty_problems_are_told() -> None:
    problems = refused(body(**{f"f{at}": 1 for at in range(3000)}))
    assert len(problems) == 51
    assert problems[-1].code == "too_many_problems"


def test_hostile_bodies_of_full_size_are_refused_quickly() -> None:
    bulk = {
        "unknown keys": orjson.dumps({"kind": "review", **{f"buyer{at}": 1 for at in range(15_000)}}),
        "digits": orjson.dumps({"kind": "review", "review": {"text": "4 1 " * 60_000}}),
        "ids": orjson.dumps({"kind": "review", "x": ["20261120083000123"] * 12_000}),
        "keys": b'{"kind":"review",' + b'"a":1,' * 40_000 + b'"b":1}',
        "objects": b'{"kind":"review","x":[' + b"{}," * 80_000 + b"1]}",
    }
    for name, raw in bulk.items():
        assert len(raw) < MAX_BODY, name
        started = time.process_time()
        assert refused(raw), name
        assert time.process_time() - started < 2, name


# A refusal says nothing of what was sent

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=15), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip
PATHS = sorted({part for path in catalogue() for part in path.split(".")})


@given(JSON)
@settings(max_examples=150, deadline=None)
def test_any_json_is_taken_or_refused_never_a_crash(data: Any) -> None:
    for text in (data, body(x=data), body(buyer=data), body(items=data), body(amount=data)):
        with suppress(EventRefused):
            parse(text)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_taken_or_refused_never_a_crash(raw: bytes) -> None:
    with pytest.raises(EventRefused):
        parse(raw)


@given(st.dictionaries(st.sampled_from(PATHS), st.sampled_from(["SECRETVALUE", 7391739173, {"q": "SECRETVALUE"}])))
@settings(max_examples=60, deadline=None)
def test_a_refusal_never_repeats_a_value(more: dict[str, Any]) -> None:
    deep = body(amount="SECRETVALUE", buyer=more, items=[more])
    try:
        parse(deep)
    except EventRefused as error:
        told = f"{error!r} {error} {error.__context__!r} {error.__cause__!r} {pickle.dumps(error.problems)!r}"
        assert "SECRETVALUE" not in told
        assert "7391739173" not in told


@pytest.mark.parametrize("key", ["4111111111111111", "张三", "13800138000", "a b", "x" * 300, "a\nb", "n12345"])
def test_the_name_of_an_unknown_field_is_shown_only_when_it_is_plain(key: str) -> None:
    told = str([str(problem) + problem.hint for problem in refused(body(**{key: 1}))])
    assert key not in told
    assert "not shown" in told


def test_no_traceback_leads_back_to_what_was_sent() -> None:
    for raw in (b'{"SECRET', orjson.dumps(body(amount="SECRET"))):
        with pytest.raises(EventRefused) as caught:
            parse(raw)
        assert caught.value.__context__ is None
        assert caught.value.__cause__ is None


# From Python


def test_dotted_keys_stand_for_nested_ones() -> None:
    built = SCHEMA.build(
        {"kind": "payment", "event_id": "e", "at": datetime(2026, 11, 20, tzinfo=UTC), "amount": Money(500, "CNY"),
         "card.ref": "a", "payment": {"stage": "attempt"}, "payment.attempt": 2, "items.category": ["x", "y"],
         "items.sku": ["1", None], "buyer.signup_at": NOW, "basket.lowest_price_ratio": Decimal("0.50"),
         "session.since_landing": "8s", "buyer.name": None, "buyer.email": ""},
        received_at=NOW,
    )  # fmt: skip
    assert built.values["items"] == [{"category": "x", "sku": "1"}, {"category": "y"}]
    assert built.values["payment"] == {"stage": "attempt", "attempt": 2}
    assert built.values["basket"]["lowest_price_ratio"] == Decimal("0.5")
    assert built.values["buyer"] == {"signup_at": NOW}


class Kept(str):
    """A text that remembers its place, as packs give them."""


def test_only_plain_text_comes_out() -> None:
    event = SCHEMA.build(
        {Kept("kind"): Kept("review"), "event_id": Kept("e"), "at": Kept("2026-11-20T00:00:00Z"), "review.rating": 5,
         "review": {Kept("text"): Kept("好"), "verified_purchase": True}, "items": [{"sku": Kept("a")}]},
        received_at=NOW,
    )  # fmt: skip
    flat = [event.values["review"]["text"], event.values["kind"], event.id, event.values["items"][0]["sku"]]
    assert {type(each) for each in flat} == {str}
    assert {type(key) for key in event.values} == {str}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"card.ref": "a", "card": {"ref": "b"}}, "duplicate_key"),
        ({"card": "x", "card.ref": "a"}, "duplicate_key"),
        ({"items.sku": ["a", "b"], "items.brand": ["c"]}, "wrong_length"),
        ({7: "x"}, "unknown_field"),
        ({"buyer.name": "\ud800"}, "wrong_type"),
        ({"buyer.name": "4111 1111 1111 1111"}, "pan_in_payload"),
        ({"buyer.signup_at": 17}, "out_of_range"),
        ({"basket.lowest_price_ratio": Decimal("NaN")}, "wrong_type"),
        ({"settled_amount": Money(Decimal("0.5"), "CNY")}, "bad_money"),
        ({"buyer.name": {1, 2}}, "wrong_type"),
    ],
    ids=lambda part: ascii(part)[:40],
)
def test_python_data_gets_the_same_checks(data: dict[Any, Any], code: str) -> None:
    with pytest.raises(EventRefused) as caught:
        SCHEMA.build(SCHEMA.sample("transaction") | data, received_at=NOW)
    assert code in {problem.code for problem in caught.value.problems}


# Apart and together

VALUES = {
    "text": st.text(min_size=1),
    "number": st.integers(-(10**14), 10**14) | st.decimals(-1000, 1000, places=3).filter(lambda d: d % 1 != 0),
    "money": st.builds(Money, st.integers(0, 10**15), st.sampled_from(sorted(CURRENCIES))),
    "bool": st.booleans(),
    "instant": st.integers(0, 4_102_444_800_000_000),
    "duration": st.integers(0, 10**15),
}


@st.composite
def events(draw: st.DrawFn) -> Event:
    """An event of any kind with any of its fields, values not limited to what the wire takes."""
    kind = draw(st.sampled_from(SCHEMA.kinds))
    fields = SCHEMA.fields(kind)
    values: dict[str, Any] = {}
    for path in draw(st.lists(st.sampled_from(sorted(fields)), max_size=15, unique=True)):
        each = fields[path]
        drawn = VALUES[each.type.removeprefix("list[").removesuffix("]")]
        if each.path == "ip":
            drawn = st.ip_addresses().map(str)
        *parents, name = path.split(".")
        node = values
        for at, parent in enumerate(parents):
            if ".".join(parents[: at + 1]) in LISTS:
                if parent not in node:
                    node[parent] = [{} for _ in range(draw(st.sampled_from((0, 2, 3))))]
                for row in node[parent][:2]:
                    row[name] = draw(drawn)
                break
            node = node.setdefault(parent, {})
        else:
            node[name] = draw(st.lists(drawn, max_size=3) if each.many else drawn)
    return Event(kind, "t", "e", None, NOW, NOW, values)


@given(events())
@settings(max_examples=150, deadline=None)
def test_split_and_join_are_inverse_and_public_values_survive_canonical_json(event: Event) -> None:
    before = copy.deepcopy(event.values)
    public, private, _ = SCHEMA.split(event)
    assert SCHEMA.join(event.kind, public, private) == before == event.values
    assert decode(json.loads(canonical(encode(public)))) == public
    assert decode(json.loads(canonical(encode(private)))) == private


@given(st.recursive(st.one_of(*VALUES.values()), lambda inner: st.lists(inner) | st.dictionaries(
    st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1), inner), max_leaves=12))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_encoding_keeps_value_and_type(value: Any) -> None:
    back = decode(json.loads(canonical(encode({"v": value}))))["v"]
    assert back == value
    assert repr(back).replace("Decimal", "") == repr(value).replace("Decimal", "") or back == value


def test_encoding_marks_what_json_cannot_hold_and_refuses_what_no_event_holds() -> None:
    computed = Money(Decimal("498000.333333"), "CNY")
    assert encode(computed) == {"$m": "4980.00333333 CNY"}
    assert decode(encode(computed)) == computed
    assert encode(Money(5, "JPY")) == {"$m": "5 JPY"}
    assert encode(2**60) == {"$n": str(2**60)}
    assert decode(encode(2**60)) == 2**60
    with pytest.raises(TypeError, match="float"):
        encode({"x": 0.5})


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        (
            "listing",
            {"listing": {"id": "l", "title": "样品", "attributes": [], "licences": [], "images": [], "evidence": []}},
        ),
        ("transaction", {"amount": "1.00 CNY", "items": []}),
        ("merchant", {"merchant": {"id": "m", "licences": [], "authorisations": [], "owners": [], "categories": []}}),
    ],
)
def test_that_there_are_none_of_something_is_kept(kind: str, part: dict[str, Any]) -> None:
    """What rules saw of an empty list they see again in a replay."""
    event = parse(json.dumps({"kind": kind, "event_id": "e", "at": "2026-11-23T12:00:00Z", **part}).encode())
    public, private, _ = SCHEMA.split(event)
    assert SCHEMA.join(kind, public, private) == event.values


@pytest.mark.parametrize("sent", ["medicine", " medicine\u3000", "ｍｅｄｉｃｉｎｅ", "ⓜedicine"])
def test_the_name_of_a_category_is_kept_as_lists_compare_it(sent: str) -> None:
    body = {"kind": "merchant", "event_id": "e", "at": "2026-11-23T12:00:00Z"}
    merchant = {"id": "m", "category": sent, "categories": ["toys", sent]}
    values = parse(json.dumps({**body, "merchant": merchant}).encode()).values["merchant"]
    assert (values["category"], values["categories"]) == ("medicine", ["toys", "medicine"])
    assert SCHEMA.fields("merchant")["merchant.category"].takes(sent) == (sent == "medicine")


def test_an_erased_subject_is_missing_after_joining() -> None:
    event = parse((ROOT / "docs/examples/order.json").read_bytes())
    public, private, _ = SCHEMA.split(event)
    del private["buyer"]
    joined = SCHEMA.join(event.kind, public, private)
    assert "name" not in joined["buyer"]
    assert "title" not in joined["items"][0]
    assert joined["shipping"]["name"] == "李四"


def test_an_outcome_may_carry_every_field_of_the_event_it_refers_to() -> None:
    order = parse((ROOT / "docs/examples/order.json").read_bytes())
    outcome = parse(SCHEMA.sample("outcome"))
    merged = replace(outcome, values=order.values | outcome.values)
    public, private, keys = SCHEMA.split(merged)
    assert SCHEMA.join("outcome", public, private) == merged.values
    assert keys == SCHEMA.split(order)[2]
    assert set(SCHEMA.fields("outcome")) == set(catalogue())
    assert set(SCHEMA.body_fields("outcome")) < set(catalogue())


# Normal forms


@pytest.mark.parametrize(
    ("namespace", "spellings", "form"),
    [
        ("email", ["Zhang.San@Example.com", " zhang.san@example.COM", "ｚhang.san@example.com"],
         "zhang.san@example.com"),
        ("phone", ["13800138000", "138 0013 8000", "+86-138-0013-8000", "8613800138000", "008613800138000",
                   "１３８００１３８０００"], "+8613800138000"),
        ("phone", ["0571-8888 8888", "(0571) 88888888", "+86 571 8888 8888"], "+8657188888888"),
        ("phone", ["+1 (202) 555-0114", "0012025550114"], "+12025550114"),
        ("ip", ["203.0.113.9", "::ffff:203.0.113.9"], "203.0.113.9"),
        ("ip", ["2001:DB8:0:0::1", "2001:db8::1"], "2001:db8::1"),
        ("address", ["CN|浙江省|文三路 100 号", "cn|浙江省|文三路１００号", "CN|浙江省|文三路-100号。"],
         "cn|浙江省|文三路100号"),
        ("company", ["91330106ma27xxxx06"], "91330106MA27XXXX06"),
        ("account", [" U-1 ", "U-1"], "U-1"),
    ],
)  # fmt: skip
def test_spellings_of_one_value_have_one_normal_form(namespace: str, spellings: list[str], form: str) -> None:
    assert {normal(namespace, each) for each in spellings} == {form}
    assert normal(namespace, form) == form


@pytest.mark.parametrize("namespace", ["email", "phone", "address", "company", "account"])
@given(value=st.text(max_size=40))
@settings(max_examples=60, deadline=None)
def test_a_normal_form_is_its_own_normal_form(namespace: str, value: str) -> None:
    form = normal(namespace, value)
    if namespace == "phone":
        assert set(form) <= set("+0123456789")
    elif namespace == "account":
        assert normal(namespace, form) == form


# Definitions


def test_paths_that_kinds_share_mean_the_same() -> None:
    table = catalogue()
    for _, fields, _ in KINDS.values():
        for each in fields:
            assert replace(each, subject=table[each.path].subject) == table[each.path]
    changed = replace(table["amount"], type="number")
    with pytest.raises(ValueError, match="two meanings"):
        by_path([table["amount"], changed])


def test_every_rule_of_the_starting_list_finds_its_fields() -> None:
    wanted = {
        "payment": "amount card.ref card.bin device.id card.country ip_country shipping.country payment.result",
        "transaction": "buyer.signup_at items.category customs.orderer_is_payer buyer.age_band buyer.guardian_consent "
        "buyer.payout_account merchant.payout_account basket.lowest_price_ratio session.since_landing shipping.address",
        "account": "account.action account.result account.idle account.new_device buyer.account ip device.id",
        "promotion": "promotion.spent promotion.planned buyer.payer referrer.payer shipping.address coupon.newcomer",
        "aftersale": "aftersale.reason aftersale.gift_value aftersale.gift_returned buyer.account",
        "fulfilment": "parcel.scans parcel.weight parcel.expected_weight basket.virtual",
        "review": "review.fingerprint review.rating merchant.id",
        "payout": "payout.account_changed_at payout.purpose buyer.account merchant.id",
        "listing": "listing.title listing.description listing.licences.type listing.licences_valid_until "
        "listing.list_price listing.lowest_price_7d listing.brand_authorised listing.peer_price "
        "listing.title_similarity",
        "merchant": "merchant.legal_person merchant.person merchant.payout_account merchant.verified_at "
        "merchant.status merchant.dispute_rate merchant.peer_dispute_rate merchant.owners",
    }
    for kind, paths in wanted.items():
        assert set(paths.split()) <= set(SCHEMA.fields(kind)), kind


@pytest.mark.parametrize("amount", ["99999999999999.99 CNY", {"value": "99999999999999.99", "currency": "CNY"}])
def test_money_has_the_limit_that_the_page_names(amount: Any) -> None:
    assert parse(body(amount=amount)).values["amount"] == Money(9_999_999_999_999_999, "CNY")
    rows = [each for each in catalogue().values() if "money" in each.type]
    assert rows
    assert all("at most 14 digits before the point" in each.limit for each in rows)
    (problem,) = refused(body(amount="100000000000000.00 CNY"))
    assert (problem.code, problem.what) == ("bad_money", "more than 14 digits before the point")


def test_every_key_of_the_envelope_has_its_row() -> None:
    table = page().partition("## Envelope")[2].partition("## ")[0]
    everywhere = set.intersection(*(set(SCHEMA.outline(kind)["properties"]) for kind in SCHEMA.kinds))

    assert set(re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE)) == everywhere
    assert {"format", "tenant"} <= everywhere


@pytest.mark.parametrize(("path", "value"), [("format", 2), ("tenant", "two words"), ("tenant", "x" * 65)])
def test_the_limits_of_format_and_tenant_are_those_of_the_page(path: str, value: Any) -> None:
    assert path in dict(codes(body(**{path: value})))


def test_the_page_is_in_step_with_the_catalogue() -> None:
    assert (ROOT / "docs/events.md").read_text(encoding="utf-8") == page(), "run python -m engine.schema.page"


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_json_schema_takes_the_sample_bodies_and_refuses_unknown_fields(name: str) -> None:
    data = json.loads((ROOT / f"docs/examples/{name}.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(SCHEMA.outline(data["kind"]))
    validator.validate(data)
    assert not validator.is_valid(data | {"unheard_of": 1})
    assert not validator.is_valid({"kind": data["kind"]})


def own(**fields: Any) -> OwnField:
    return OwnField.model_validate({"type": "text", "doc": "A terminal", **fields})


def test_own_fields_are_typed_and_usable_everywhere() -> None:
    pack = SchemaPack.model_validate(
        {
            "fields": {
                "extra.terminal": {"type": "text", "doc": "Terminal", "identifier": True},
                "buyer.score": {"type": "number", "doc": "Our score", "high": 10},
                "items.material": {"type": "list[text]", "doc": "Material"},
                "extra.tags": {"type": "list[text]", "doc": "Tags", "limit": 5},
                "extra.note": {
                    "type": "text",
                    "doc": "Note",
                    "privacy": "free_text",
                    "subject": "buyer",
                    "form": "free",
                },
            }
        }
    )
    extended = schema(pack)
    more = {"extra": {"terminal": "4111111111111111", "tags": ["a"], "note": "x\ny"}, "buyer": {"score": 3.5},
            "items": [{"material": "cotton"}]}  # fmt: skip
    event = extended.parse(orjson.dumps(body(**more)), received_at=NOW)
    public, private, _ = extended.split(event)
    assert public["extra"] == {"terminal": "4111111111111111", "tags": ["a"]}
    assert private == {"buyer": {"extra.note": "x\ny"}}
    assert extended.join("transaction", public, private) == event.values
    assert isinstance(extended.fields("outcome")["extra.terminal"], FieldDef)
    assert "extra.terminal" not in extended.fields("review")
    with pytest.raises(EventRefused):
        extended.parse(orjson.dumps(body(buyer={"score": 11}, extra={"tags": ["toolong"]})), received_at=NOW)
    assert codes(body(**more))[0][1] == "unknown_field"


def test_own_fields_may_be_text_that_remembers_its_place() -> None:
    read = {Kept("extra.a"): {Kept("type"): Kept("text"), Kept("doc"): Kept("A"), "choices": [Kept("x"), Kept("y")]}}
    plain = {"extra.a": {"type": "text", "doc": "A", "choices": ["x", "y"]}}
    assert schema(SchemaPack(fields=read)).hash == schema(SchemaPack(fields=plain)).hash


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("card.ref", {}, "built-in"),
        ("amount", {}, "not a path"),
        ("extra", {}, "not a path"),
        ("card.ref.x", {}, "above or below"),
        ("extra.Cvv", {}, "not a path"),
        *(
            (path, {}, "card secret")
            for path in (
                "extra.cvv",
                "extra.cv2",
                "extra.pin_code",
                "extra.cvvnumber",
                "card.cid",
                "extra.card_verification_value",
                "extra.full_card_number",
            )
        ),
        ("items.colour", {}, "list of objects"),
        ("items.colour.x", {"type": "list[text]"}, "list of objects"),
        ("extra.x", {"kinds": ["order"]}, "no kind of event 'order'"),
        ("extra.x", {"privacy": "personal"}, "names its subject"),
        ("extra.x", {"subject": "buyer"}, "has no subject"),
        ("extra.x", {"entity": "card"}, "an entity is"),
        ("extra.x", {"entity": "wolf"}, "no entity 'wolf'"),
        ("extra.x", {"type": "float"}, "type"),
        ("extra.x", {"type": "number", "identifier": True}, "for text"),
        ("extra.x", {"colour": "red"}, "Extra inputs"),
    ],
)
def test_own_fields_that_cannot_be_are_refused(path: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schema(SchemaPack.model_validate({"fields": {path: {"type": "text", "doc": "x", **fields}}}))


def test_the_hash_names_the_definitions_and_not_their_wording() -> None:
    base = schema({"extra.a": own()})
    assert base.hash == schema({"extra.a": own(doc="Other words", example="x")}).hash
    assert len({base.hash, SCHEMA.hash, schema({"extra.a": own(limit=65)}).hash, schema({"extra.b": own()}).hash}) == 4
    assert SCHEMA is schema()
