"""What the OpenAPI document shows as examples of answers; a test holds them to the schemas and to the pages."""

from __future__ import annotations

import json
from typing import Any

DECISION: dict[str, Any] = {
    "id": "0199a5c2-6f1c-7d52-a2b7-0d8f6f0b1c11",
    "event_id": "ev-2026-000184",
    "verdict": "challenge",
    "score": 45,
    "signals": ["geo_mismatch", "hidden_network"],
    "asks": {"challenge": {"by": ["3ds", "wallet", "sms"], "expires_s": 900}},
    "reasons": [
        {
            "rule": "geography.all-differ",
            "signal": "geo_mismatch",
            "severity": "medium",
            "points": 30,
            "law": [],
            "message": {
                "en": "Card from US, buyer in RO, parcel to DE",
                "zh": "发卡地 US、下单地 RO、收货地 DE 各不相同",
            },
        },
        {
            "rule": "geography.machine-network",
            "signal": "hidden_network",
            "severity": "low",
            "points": 15,
            "law": [],
            "message": {"en": "A guest ordered from a hosting network", "zh": "访客从 hosting 网络下单"},
        },
    ],
    "actions": [],
    "anomaly": "99.3",
    "unusual": [
        {
            "feature": "amount",
            "label": {"en": "amount", "zh": "金额"},
            "value": "4980",
            "usual": ["35", "120"],
            "unit": "CNY",
            "share": 71,
        }
    ],
    "degraded": [],
    "late": False,
    "receipt": {
        "format": 1,
        "log": "audit.example.com/decisions",
        "leaf_hash": "9f9195d7c48c3d2e2edce42a60de651744e3c3ef779de5451b4ae7672ceb6bcb",
        "batch": {
            "root": "83a02ea42ff9c201d423cf3b0478e13b0664d6cfb9857d8a06267ea7b8585f72",
            "size": 5,
            "index": 4,
            "path": ["20db6f404c20732968b474e6c887d824c9348954ec18ce5699bbc4caa59e9cda"],
        },
        "signed_at": "2025-11-20T00:53:20.123456Z",
        "max_merge_delay_s": 60,
        "key_id": "audit.example.com/decisions+18a5229a",
        "signature": "4Y06vC9Y+M+1nawyFPOz3Fp6/RyuweaiOMRcc817mItNm43/JsU2fVEpjXcSmu0imVe8igekwV0j/+Kkv/5dAw==",
    },
}

RECORDED: dict[str, Any] = {"id": DECISION["id"], "event_id": "ev-2026-000185", "receipt": DECISION["receipt"]}

PROBLEM: dict[str, Any] = {
    "type": "urn:arbiter:problem:event_invalid",
    "title": "The event does not fit the schema",
    "status": 422,
    "errors": [{"path": "amount", "code": "missing_field", "what": "is required", "hint": "such as 698.00 CNY"}],
}

_ORDER = {"kind": "transaction", "at": "2026-11-20T10:00:00+08:00", "amount": "698.00 CNY"}
BATCH_IN = "".join(json.dumps({**_ORDER, "event_id": f"ev-{number}"}) + "\n" for number in (1, 2))
"""Two events, a line each."""
BATCH_OUT = "".join(
    json.dumps(line, ensure_ascii=False) + "\n" for line in ({**DECISION, "event_id": "ev-1"}, {**PROBLEM, "line": 2})
)
"""What two lines may be answered."""
