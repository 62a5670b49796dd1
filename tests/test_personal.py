"""Personal data typed into text is found beside any words, and ordinary numbers of a shop pass."""

from __future__ import annotations

from datetime import date
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EventRefused
from engine.jcs import canonical_trusted
from engine.schema import decode, marked, personal, schema
from tests.books import SHARED
from tests.test_cardnumbers import with_check_digit

TITLES = "data/titles/taobao_train.txt"

MASKED = {
    "客服13800138000请": "客服[mobile]请",
    "手机：１３８－００１３－８０００。": "手机：[mobile]。",
    "+86 138 0013 8000": "[mobile]",
    "0086-13800138000": "[mobile]",
    "8613800138000": "[mobile]",
    "tel13800138000x": "tel[mobile]x",
    "1 3 8 0 0 1 3 8 0 0 0": "[mobile]",
    "138\u200b0013\u200b8000": "[mobile]",
    "١٣٨٠٠١٣٨٠٠٠": "[mobile]",
    "call +49 170 1234567 now": "call [phone] now",
    "电话021-54143212": "电话[landline]",
    "(010) 8888-8888": "([landline]",
    "身份证11010519491231002X号": "身份证[resident_id]号",
    "110105 19491231 002x": "[resident_id]",
    "1101051949 1231 002x": "[resident_id]",
    "138,0013,8000": "[mobile]",
    "138、0013、8000": "[mobile]",
    "客服①③⑧⓪⓪①③⑧⓪⓪⓪": "客服[mobile]",
    "¹³⁸⁰⁰¹³⁸⁰⁰⁰": "[mobile]",
    "微信幺三八零零幺三八零零零": "微信[mobile]",
    "壹叁捌零零壹叁捌零零零": "[mobile]",
    "138*0013*8000": "[mobile]",
    "138~0013~8000": "[mobile]",
    "138:0013:8000": "[mobile]",
    "138 001 380 00": "[mobile]",
    "1380 0138000": "[mobile]",
    "138 0013 80 00": "[mobile]",
    "0571 88888888": "[landline]",
    "税号91350100M000100Y43": "税号[uscc]",
    "卡号6222 0212 3456 7890 128": "卡号[bank_card]",
    "邮箱zhang.san@example.com谢谢": "邮箱[email]谢谢",
    "zhang＠example。com": "[email]",
    "张三@例子.公司": "[email]",
    "IP 203.0.113.9.": "IP [ip].",
    "[2001:db8::17]": "[[ip]]",
    "２００１：ｄｂ８：：１７": "[ip]",
    "203。0。113。9": "[ip]",
    "护照号 E12345678": "护照号 [passport]",
    "13800138000@example.com, 13900139000": "[email], [mobile]",
}
ORDINARY = (
    "二〇二六年十一月二十九日 一二三四五六七八九零一",
    "① 38 件 ② 00 箱",
    "无线耳机 Pro 主动降噪",
    "202611200830001234",
    "2026-11-20 08:30:00",
    "15.6寸 1366*768 45W 3500mAh",
    "尺码 155 160 165 170 175",
    "SKU-7781 E12345678",
    "Chrome 120.0.0.0",
    "Safari 18.1.2.3456",
    "std::vector<int>",
    "比例 1:2:3",
    "5+1000000000",
    "@all 全场五折",
    "110105194912310021",
    "98765432101",
    "12800138000",
    "4980.00 CNY",
    "13,800,138,000",
    "1600101,--3680",
)


@pytest.mark.parametrize("text", MASKED)
def test_what_is_personal_is_masked_and_the_rest_stays(text: str) -> None:
    assert personal.masked(text) == MASKED[text]
    assert personal.masked(MASKED[text]) == MASKED[text]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    assert personal.masked(text) == text


IDENTIFIERS = {
    "13800138000": "mobile",
    "order-13800138000": "mobile",
    "zhang.san@example.com": "email",
    "11010519491231002X": "resident_id",
    "u:11010519491231002X": "resident_id",
    "+4917012345678": "phone",
    "A13800138000": "",
    "13800138000B": "",
    "20261120-13800138000": "mobile",
    "0755-20241129": "",
    "4111111111111111": "",
    "203.0.113.9": "",
    "91350100M000100Y43": "",
    "171-1234567-1234567": "",
    "0193a2f0-1380-7138-8000-13800138000a": "",
}


@pytest.mark.parametrize("text", IDENTIFIERS)
def test_an_identifier_is_refused_only_for_what_names_a_person(text: str) -> None:
    assert personal.identifying(text) == IDENTIFIERS[text]


# -- Numbers that are made, in text that is made ---------------------------------------------------------------


def resident_id(region: str, born: date, order: int) -> str:
    """By the words of GB 11643: the check character makes the weighted sum 1 modulo 11 (ISO 7064 MOD 11-2)."""
    body = f"{region}{born:%Y%m%d}{order:03}"
    for check in "0123456789X":
        digits = [10 if sign == "X" else int(sign) for sign in body + check]
        if sum(digit * 2 ** (17 - place) for place, digit in enumerate(digits)) % 11 == 1:
            return body + check
    raise AssertionError(body)


def uscc(region: str, order: int) -> str:
    """By the words of GB 32100: the weighted sum is 0 modulo 31, the organisation code's 0 modulo 11 (GB 11714)."""
    organ = f"{order:08}"
    last = -sum(int(digit) * weight for digit, weight in zip(organ, (3, 7, 9, 10, 5, 8, 4, 2), strict=True)) % 11
    body = f"91{region}{organ}{'X' if last == 10 else last}"
    signs = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    return next(
        body + check
        for check in signs
        if (sum(signs.index(sign) * 3**place for place, sign in enumerate(body)) + signs.index(check)) % 31 == 0
    )


def grouped(number: str, sign: str) -> str:
    return sign.join((number[:3], number[3:7], number[7:]))


REGIONS = st.sampled_from(["110105", "310115", "330106", "440305", "650102", "810000"])
MOBILES = st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True)
MADE = {
    "mobile": st.one_of(
        MOBILES,
        MOBILES.map(lambda n: f"+86{n}"),
        st.builds(grouped, MOBILES, st.sampled_from(" -－·\u3000\u00a0")),
        MOBILES.map(lambda n: "".join(chr(0xFF10 + int(digit)) for digit in n)),
    ),
    "resident_id": st.builds(resident_id, REGIONS, st.dates(date(1920, 1, 1), date(2026, 1, 1)), st.integers(0, 999)),
    "uscc": st.builds(uscc, REGIONS, st.integers(0, 99_999_999)),
    "bank_card": st.integers(0, 10**9).map(lambda n: with_check_digit(f"62220{n:010}")),
    "email": st.from_regex(r"[a-z][a-z0-9._]{0,20}[a-z0-9][@＠](?:[a-z]{1,10}\.){1,2}(?:com|cn|net)", fullmatch=True),
    "ip": st.one_of(
        st.ip_addresses(v=4).filter(lambda a: not str(a).startswith("0.") and not str(a).endswith(".0")),
        st.ip_addresses(v=6).filter(lambda a: len(str(a)) >= 6),
    ).map(str),
}
WORDS = st.text("请联系客服电话号码 谢谢您，。！?call me at thanks：\n", max_size=12)


@given(st.sampled_from(sorted(MADE)).flatmap(lambda kind: st.tuples(st.just(kind), MADE[kind])), WORDS, WORDS)
def test_a_made_one_is_found_whole_among_words(made: tuple[str, str], before: str, after: str) -> None:
    kind, value = made
    # Letters right beside these would be part of them.
    apart = " " if kind in ("email", "ip", "uscc") else ""
    text = f"{before}{apart}{value}{apart}{after}"
    spans = [span for span in personal.find(text) if span.start <= len(before + apart) < span.end]
    assert personal.suspicious(text)
    assert spans, text
    assert value in text[spans[0].start : spans[0].end]
    assert value not in personal.masked(text)


@given(
    REGIONS, st.dates(date(1920, 1, 1), date(2026, 1, 1)), st.integers(0, 999), st.integers(0, 16), st.integers(1, 9)
)
def test_one_wrong_digit_is_no_resident_id(region: str, born: date, order: int, place: int, by: int) -> None:
    """MOD 11-2 tells every single wrong digit."""
    right = resident_id(region, born, order)
    wrong = right[:place] + str((int(right[place]) + by) % 10) + right[place + 1 :]
    assert personal.is_resident_id(right)
    assert not personal.is_resident_id(wrong)


@given(st.text("0123456789 -.:@/+xXa汉@", max_size=60))
def test_masking_never_fails_and_leaves_nothing_behind(text: str) -> None:
    shown = personal.masked(text)
    assert personal.masked(shown) == shown
    assert all(text[a:b] for a, b, _ in personal.find(text))


@given(st.sampled_from(["mobile", "resident_id", "email"]).flatmap(MADE.__getitem__), st.text("-_.:/ab ", max_size=5))
def test_the_quick_look_at_identifiers_misses_nothing(value: str, before: str) -> None:
    text = f"{before} {value}"
    assert personal.may_identify(f"x\n{text}\n17")
    assert personal.identifying(text)


@given(st.text(max_size=40), MOBILES)
def test_the_quick_look_misses_nothing(text: str, number: str) -> None:
    whole = f"{text} {number} {text}"
    assert personal.suspicious(whole)
    assert number not in personal.masked(whole)


@given(st.text("0123４５٦７९𝟗-.:：。．@＠ab汉 \n\u200b\u00e9", max_size=30))
def test_the_quicker_look_before_it_misses_nothing_either(text: str) -> None:
    assert personal.suspicious(text) == (personal._QUICK.search(text) is not None)


def test_long_text_takes_linear_time() -> None:
    """Many signs that nearly match; a pattern that goes back would not come to an end."""
    for piece in ("1 3 8 ", "a@a.", "1.1.", "::1", "13800138000", "护照E1234567"):
        personal.masked(piece * (20_000 // len(piece)))


# -- Real titles -----------------------------------------------------------------------------------------------


@pytest.mark.data(TITLES)
def test_of_real_titles_few_are_masked() -> None:
    """The figures of docs/events.md: 6,000 titles, four numbers of phones and four that are none."""
    found = [span.kind for title in (SHARED / TITLES).read_text("utf-8").splitlines() for span in personal.find(title)]
    assert sorted(found) == ["ip", "landline", *["mobile"] * 6]


# -- In events -------------------------------------------------------------------------------------------------

ORDER: dict[str, Any] = {
    "kind": "transaction",
    "event_id": "ev-1",
    "at": "2026-11-20T08:30:00Z",
    "amount": "10.00 CNY",
    "buyer": {"account": "u-1"},
    "session": {"source": "朋友 13800138000 介绍"},
    "items": [{"sku": "s-1", "category": "shoes"}, {"sku": "s-2", "category": "问 a@example.com"}],
}


def test_words_are_masked_in_the_log_and_whole_in_the_vault() -> None:
    found = schema().build(ORDER, received_at=0)
    public, private, _ = schema().split(found)

    assert public["session"]["source"] == "朋友 [mobile] 介绍"
    assert [row["category"] for row in public["items"]] == ["shoes", "问 [email]"]
    assert private["buyer"]["session.source"] == "朋友 13800138000 介绍"
    assert private["buyer"]["items.category"] == ["shoes", "问 a@example.com"]
    assert found.values["session"]["source"] == "朋友 13800138000 介绍", "rules see what was sent"
    assert schema().join("transaction", public, private) == found.values


def test_what_a_seller_typed_is_sealed_as_the_seller_s() -> None:
    body = {
        "kind": "listing",
        "event_id": "e",
        "at": ORDER["at"],
        "listing": {"id": "l", "title": "t", "brand": "13800138000"},
    }
    public, private, _ = schema().split(schema().build(body, received_at=0))
    assert public["listing"]["brand"] == "[mobile]"
    assert private["seller"]["listing.brand"] == "13800138000"


@pytest.mark.parametrize("path", ["event_id", "order_id", "merchant.id", "items.sku", "coupon.code", "payment.id"])
def test_an_identifier_that_names_a_person_is_refused_with_all_else(path: str) -> None:
    for value in ("13800138000", "11010519491231002X"):
        given: Any = [value] if path.startswith("items") else value
        with pytest.raises(EventRefused) as refused:
            schema().build(
                {"kind": "transaction", "amount": "x", "at": ORDER["at"], "event_id": "e", path: given}, received_at=0
            )
        problems = {each.path.replace("[0]", ""): each.code for each in refused.value.problems}
        assert problems == {path: "personal_in_identifier", "amount": "bad_money"}
        assert value not in str(refused.value)


def test_in_json_it_is_the_same() -> None:
    parsed = schema().parse(orjson.dumps(ORDER), received_at=0)
    public, _, _ = schema().split(parsed)
    assert "13800138000" not in canonical_trusted(public, marked).decode()
    assert decode(orjson.loads(canonical_trusted(public, marked)))["session"] == public["session"]
