"""Track data is found in any text, codes behind the words that announce them, and names that only resemble pass."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.schema import cardnumbers, cardsecrets
from engine.schema.kinds import catalogue

ROOT = Path(__file__).parents[1]


def noticed(text: str) -> bool:
    """Whether the quick look at a body would have a closer one taken."""
    body = orjson.dumps({"note": text})
    return cardsecrets.in_json(body) or cardnumbers.in_json(body)


# Track data

TRACKS = [
    ";4111111111111111=25121011000012300000?",
    ";4111111111111112=25121011000012300000?",
    "4111111111111112=25121011000012300000",
    ";4111111111111112==",
    "%B4111111111111111^DOE/JOHN^25121010000000?",
    "%B4111111111111112^DOE/JOHN^2512101?",
    "B4111111111111112^DOE/JOHN^2512101",
    "%B4111111111111112^",
    "%B3759 876543 21001^DOE/JOHN^2512",
    "order-%B4111111111111112^ZHANG/SAN^^101",
    "4111111111111111D25121011000012300000F",
    ";４１１１１１１１１１１１１１１２＝25121011",
    "swiped:;4111111111111112=2512,thanks",
]
NO_TRACKS = [
    "550e8400-e29b-41d4-a716-446655440000",
    "202611200830001234",
    "2088102146225135",
    "dGVzdA==",
    "a=1;b=123456789012",
    "x;123456789012=abc",
    "https://shop.example/?order=202611200830001234&t=2512101",
    "1763598600000=ok",
    "123456789012=2513101",
    "2^10^4",
    "4111111111111112D25121011000012300000F",
    "",
]


@pytest.mark.parametrize("text", TRACKS)
def test_track_data_is_found_with_its_sentinels_or_without_whatever_the_luhn_digit(text: str) -> None:
    assert cardsecrets.track(text)
    assert noticed(text)


@pytest.mark.parametrize("text", NO_TRACKS)
def test_what_only_resembles_track_data_passes(text: str) -> None:
    assert not cardsecrets.track(text)


def examples() -> list[str]:
    """Every text in the sample bodies and in the catalogue."""

    def texts(value: Any) -> list[str]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return [value] if isinstance(value, str) else [text for each in inner for text in texts(each)]

    bodies = [json.loads(path.read_text("utf-8")) for path in (ROOT / "docs/examples").glob("*.json")]
    return sorted({*texts(bodies), *texts([each.example for each in catalogue().values()])})


@pytest.mark.parametrize("text", examples())
def test_what_the_examples_hold_passes(text: str) -> None:
    assert not cardsecrets.track(text)
    assert not cardsecrets.code(text)


ORDER = r"(20[0-9]{6}|[A-Z]{2,4}-?|ord_|#)[0-9]{4,14}([-/=_][0-9]{1,6})?"
SKU = r"[A-Z0-9]{2,8}([-_./=^][A-Z0-9]{1,8}){0,4}"


@given(
    st.one_of(
        st.uuids().map(str),
        st.uuids().map(lambda each: each.hex),
        st.integers(10**9, 2**63).map(str),
        st.binary(min_size=8, max_size=24).map(lambda each: b64encode(each).decode()),
        st.from_regex(re.compile(ORDER, re.ASCII), fullmatch=True),
        st.from_regex(re.compile(SKU, re.ASCII), fullmatch=True),
    )
)
@settings(max_examples=400, deadline=None)
def test_ids_as_senders_make_them_hold_no_track_data(id: str) -> None:
    assert not cardsecrets.track(id)


# Codes in text

CODES = """
cvv 123|CVV: 737|CVV123|cvv-123|cvv #123|CVV2=999|CVC2 is 123|my cvv number is 123.|cvv 1 2 3|exp 12/27 cvv 123
the security code is 1234|security code: 123|card verification value: 123|card  verification code 123
安全码：123|cvv（安全码）123|安全码后三位是 123|信用卡安全码为123，谢谢|CVV是123|ＣＶＶ：１２３|校验码：123|cvv １２３
my pin is 1234|PIN: 1234|pin=1234|pin为1234|your pin 4321|PIN code 1234|pin number is 4321
card pin 1234|ATM pin 123456|debit card PIN code 560001|银行卡密码是123456|支付密码：8888|取款密码 654321
cid: 1234|Amex card CID 1234|csc is 123|{"cvv":"123"}
"""
NO_CODES = """
24-pin ATX 1234|24-pin: 1234 pcs|8 pin: 1000 pcs|pin 3 items|Olympic pin 2024|spin 1234|shipping 1234|pinned 1234
pins 1234|pin header 2x20 2.54mm|pin=1.5kg|pin: 12:30|PIN code 110001|Pin: 560001|pin code: 110 001|PIN 560034 Bangalore
cvv|cvv2|cvv result M|cvv failed 3 times|cvv check failed, order 12345|安全码印在背面|security code of conduct 2024
Security update 2024|incident 1234|Customer ID (CID) 1234|cid 1234|https://shop.example/?cid=1234|CSC Holdings 2024
门锁密码 1234|快递柜密码123456|wifi密码：12345678|密码 123456|发票校验码：123456|验证码 123456
"""


def rows(table: str) -> list[str]:
    return [text for line in table.strip().splitlines() for text in line.split("|")]


@pytest.mark.parametrize("text", rows(CODES))
def test_a_code_behind_a_word_that_announces_it_is_found(text: str) -> None:
    assert cardsecrets.code(text)
    assert noticed(text)


@pytest.mark.parametrize("text", rows(NO_CODES))
def test_digits_behind_other_words_pass(text: str) -> None:
    assert not cardsecrets.code(text)


@given(st.sampled_from(rows(CODES) + TRACKS), st.text(alphabet="x 。,中é", max_size=12))
@settings(max_examples=200, deadline=None)
def test_the_quick_look_misses_nothing_that_the_close_one_finds(text: str, around: str) -> None:
    whole = f"{around} {text} {around}"
    assert noticed(whole) or not (cardsecrets.code(whole) or cardsecrets.track(whole))


@pytest.mark.parametrize(
    "bulk", ["pin is " * 3_000, "card " * 4_000, "cvv is no " * 2_000, "1 " * 10_000 + "^=", "卡密码" * 6_000]
)
def test_long_texts_take_no_long_time(bulk: str) -> None:
    assert not cardsecrets.code(bulk)
    assert not cardsecrets.track(bulk)


# Names of fields

NAMES = """
cvv CVV2 card-cvc c_v_n cv2 PIN pin_code pincode userPin card_pin track_2 Track1 cardNumber full_card_number cardCVV
card_verification_value cvvnumber cvv_value my_cvv_x terminal_cvc card.cid card.number payment.card_no security.code
ｐａｎ password 卡号 银行卡号 安全码 支付密码
"""
NO_NAMES = """
pincushion shipping_pin pincode_area pin_tries lapel_pin hairpin spin tracking track_no parcel.track_number company
panel panda card number cid customer.cid cvv_result cvvMatch cvc_check_failed verification verification_code security
password_age card.brand card.bin card.last4
"""


@pytest.mark.parametrize("path", NAMES.split())
def test_names_of_secrets_are_known_in_any_spelling(path: str) -> None:
    assert cardsecrets.path(path)


@pytest.mark.parametrize("path", [*NO_NAMES.split(), "", *catalogue()])
def test_names_that_only_resemble_secrets_pass(path: str) -> None:
    assert not cardsecrets.path(path)
