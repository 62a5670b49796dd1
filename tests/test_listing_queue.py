"""Bad data in the queue of listings: whatever a seller sends is judged, or refused with the path. Nothing crashes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pytest

from tests.serving import Served, serve_in_process

_numbers = count(1)
AT = "2026-11-20T15:00:00+08:00"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_in_process(tmp_path_factory.mktemp("queue")) as served:
        yield served


def body(kind: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "event_id": f"ev-queue-{next(_numbers)}", "at": AT, **fields}


def listing(**fields: Any) -> dict[str, Any]:
    plain = {"id": "l-1", "title": "棉质床单", "category": "home", "price": "199.00 CNY"}
    return body("listing", listing=plain | fields)


def sent(served: Served, event: dict[str, Any]) -> httpx.Response:
    return served.post("/v1/decisions", json=event, key="score")


@pytest.mark.parametrize(
    ("fields", "signal"),
    [
        ({"licences_valid_until": "2026-11-19T00:00:00+08:00"}, "unlicensed"),
        ({"licences_valid_until": "2000-01-01T00:00:00Z"}, "unlicensed"),
        ({"use_by": "2026-11-19T00:00:00+08:00"}, "expired_goods"),
        ({"category": "medicine", "registration": "<script>alert(1)</script>"}, "registration_malformed"),
        ({"category": "medical_devices", "registration": "0" * 64}, "registration_malformed"),
        ({"category": "health_food", "registration": "𝟘國食健注"}, "registration_malformed"),
        ({"category": "snacks", "licences": [{"type": "none", "number": "?" * 64}]}, "unlicensed"),
        ({"category": "snacks", "attributes": [{"name": "\u200b", "value": "x"}]}, "label_incomplete"),
        ({"action": "created", "price": None}, "price_unmarked"),
        ({"title": " \u3000\u200b "}, "title_empty"),
        ({"title": "🎁🎁"}, "title_empty"),
        ({"category": "HOME"}, "category_unknown"),
        ({"category": "home\u200b"}, "category_unknown"),
        ({"category": "ｍｅｄｉｃｉｎｅ\u3000"}, "unlicensed"),
        ({"category": " vaccines "}, "banned_goods"),
        ({"title": "女包 ＶＸ：abcd1234"}, "off_platform_contact"),
        ({"description": "加 ⓆⓆ 123456789"}, "off_platform_contact"),
        ({"images": [{"hash": "md5:0"}]}, "images_unnamed"),
        ({"list_price": "99999999999999.99 CNY", "lowest_price_7d": "0.00 CNY"}, "false_discount"),
        ({"gift_value": "0.01 CNY", "gift_price": "0.00 CNY"}, "gift_overstated"),
    ],
)
def test_data_that_says_something_wrong_is_a_finding(served: Served, fields: dict[str, Any], signal: str) -> None:
    response = sent(served, listing(**fields))

    assert response.status_code == 200, response.text
    assert signal in response.json()["signals"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"title": ""}, "listing.title"),
        ({"title": None}, "listing.title"),
        ({"title": "x" * 501}, "listing.title"),
        ({"title": "床单\x00"}, "listing.title"),
        ({"title": "两\n行"}, "listing.title"),
        ({"category": "\u3000 "}, "listing.category"),
        ({"description": "x" * 20001}, "listing.description"),
        ({"licences_valid_until": "2026-02-30T00:00:00+08:00"}, "listing.licences_valid_until"),
        ({"licences_valid_until": "9999-12-31T00:00:00Z"}, "listing.licences_valid_until"),
        ({"use_by": "gestern"}, "listing.use_by"),
        ({"id": "l 1"}, "listing.id"),
        ({"price": "-1.00 CNY"}, "listing.price"),
        ({"price": "1e99 CNY"}, "listing.price"),
        ({"class": "device_4"}, "listing.class"),
        ({"sold_in": ["Deutschland"]}, "listing.sold_in"),
        ({"evidence": ["x"] * 201}, "listing.evidence"),
        ({"reviews_removed": 0.5}, "listing.reviews_removed"),
    ],
)
def test_data_that_cannot_be_is_refused_with_its_path(served: Served, fields: dict[str, Any], path: str) -> None:
    response = sent(served, listing(**fields))

    assert response.status_code == 422, response.text
    assert any(each["path"].startswith(path) for each in response.json()["errors"]), response.text


def test_a_description_of_ten_megabytes_is_refused_before_it_is_read(served: Served) -> None:
    assert sent(served, listing(description="好" * 3_500_000)).status_code == 413


@pytest.mark.parametrize(
    "event",
    [
        body(
            "transaction", amount="100.00 CNY", basket={"quantity": 0, "shown_total": "0.00 CNY"}, listing={"id": "l-0"}
        ),
        body("transaction", amount="100.00 CNY", basket={"quantity": 2}, listing={"id": "l-0"}),
        body("transaction", amount="100.00 USD", basket={"quantity": 1}, listing={"id": "l-0"}),
        listing(id="l-0", list_price="200.00 CNY"),
        body(
            "aftersale",
            aftersale={"action": "refused", "reason": "changed_mind", "delivered_at": "2099-01-01T00:00:00Z"},
        ),
        body("aftersale", amount="0.00 CNY", aftersale={"action": "refunded", "paid": "1.00 USD", "returned_at": AT}),
        body(
            "complaint",
            complaint={"reason": "price", "step": "closed", "notice": "N", "due_at": "2000-01-01T00:00:00Z"},
        ),
        body("account", account={"action": "data_request", "asked_at": "2099-01-01T00:00:00Z"}),
        body("payment", amount="0.00 EUR", payment={"stage": "capture", "id": "p", "sca_exemption": "recurring"}),
        body("promotion", promotion={"action": "refused", "budget": "0.00 CNY", "spent": "0.00 USD"}),
    ],
    ids=lambda event: event["event_id"],
)
def test_what_contradicts_itself_is_judged_all_the_same(served: Served, event: dict[str, Any]) -> None:
    """No pieces, two currencies, days to come: what cannot be computed is unknown, and no rule fires on it."""
    response = sent(served, event)

    assert response.status_code == 200, response.text
    found = response.json()["signals"]
    assert not {"false_discount", "return_refused", "refund_short", "data_request_late", "overcharged"} & {*found}
