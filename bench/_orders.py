"""Orders as a checkout sends them: buyers, cards and devices from a seeded pool, ids that never repeat.

About 8 % look bad: a large guest order from an anonymising network, on a foreign card, to another country.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from random import Random

BUYERS = 30_000
SELLERS = 400
BAD_SHARE = 0.08

_BODY = (
    '{{"format":1,"kind":"transaction","event_id":"ev-{run}-{n:08d}","order_id":"or-{run}-{n:08d}","at":"{at}",'
    '"amount":{{"value":"{amount}","currency":"CNY"}},"discount":{{"value":"5.00","currency":"CNY"}},'
    '"shipping_fee":{{"value":"12.00","currency":"CNY"}},"channel":"app",'
    '"buyer":{{"account":"u-{buyer:06d}","name":"张三","email":"buyer{buyer:06d}@example.com",'
    '"phone":"138{buyer:08d}","signup_at":"2023-03-02T10:11:12+08:00","age_band":"adult","guest":{guest},'
    '"verified":true,"country":"CN","orders":{orders}}},'
    '"device":{{"id":"d-{buyer:06d}","user_agent":"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X)",'
    '"os":"ios","browser":"Safari","language":"zh-CN","timezone":"Asia/Shanghai"}},'
    '"ip":"10.{a}.{b}.{c}","ip_country":"{ip_country}","ip_type":"{ip_type}",'
    '"card":{{"ref":"card_{buyer:06d}","bin":"622848","last4":"{last4:04d}","country":"{card_country}",'
    '"scheme":"unionpay","funding":"debit","issuer":"ICBC"}},'
    '"shipping":{{"name":"张三","phone":"138{buyer:08d}","country":"{ship_country}","region":"浙江省","city":"杭州市",'
    '"district":"西湖区","street":"文三路 {street} 号 2 单元 301","postcode":"310012","method":"express"}},'
    '"billing":{{"name":"张三","country":"CN","region":"浙江省","city":"杭州市",'
    '"street":"文三路 {street} 号 2 单元 301","postcode":"310012"}},'
    '"items":[{{"sku":"SKU-{sku:05d}","title":"无线耳机 Pro","category":"electronics","brand":"Acme","quantity":1,'
    '"price":{{"value":"{amount}","currency":"CNY"}},"seller":"m-{seller:03d}"}}],'
    '"merchant":{{"id":"m-{seller:03d}","category":"electronics","country":"CN","status":"active"}},'
    '"payment":{{"method":"card","provider":"psp-a","stored":true,"attempt":1}},'
    '"session":{{"id":"s-{n:08d}","since_landing":"184s","pages":9,"searched":true,"source":"ads"}}}}'
)


def orders(seed: int) -> Iterator[bytes]:
    """JSON bodies without end. Two runs never share an event id; the same seed gives the same buyers and amounts."""
    rng, run = Random(seed), os.urandom(6).hex()
    for n in count(1):
        yield order(rng, run, n).encode()


def order(rng: Random, run: str, n: int) -> str:
    """One order."""
    bad = rng.random() < BAD_SHARE
    buyer = rng.randrange(BUYERS)
    return _BODY.format(
        run=run,
        n=n,
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        amount=f"{rng.randrange(6000, 9000) if bad else rng.randrange(30, 600)}.00",
        buyer=buyer,
        guest="true" if bad else "false",
        orders=0 if bad else 12,
        a=buyer >> 16,
        b=buyer >> 8 & 255,
        c=buyer & 255,
        ip_country="NL" if bad else "CN",
        ip_type="tor" if bad else "residential",
        last4=buyer % 10_000,
        card_country="US" if bad else "CN",
        ship_country="CN",
        street=buyer % 900 + 1,
        sku=rng.randrange(20_000),
        seller=rng.randrange(SELLERS),
    )
