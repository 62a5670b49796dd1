"""The yardstick: a FastAPI endpoint that checks a body of an order's size, does nothing with it, and answers.

python -m bench._empty PORT
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, create_model

from bench._orders import orders


def model(name: str, sample: dict[str, Any]) -> type[BaseModel]:
    """A model with the fields of `sample`, nested as it is."""
    fields = {field: (_type(f"{name}_{field}", value), ...) for field, value in sample.items()}
    return create_model(name, **fields)  # type: ignore[call-overload, no-any-return]


def _type(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return model(name, value)
    if isinstance(value, list):
        return list[_type(name, value[0])]  # type: ignore[misc]
    return type(value)


Order = model("Order", json.loads(next(islice(orders(0), 1))))


class Verdict(BaseModel):
    """As small as an answer can be."""

    event_id: str
    verdict: str


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """The same treatment of the collector as Arbiter's own start-up gives it."""
    gc.collect()
    gc.freeze()
    yield


app = FastAPI(lifespan=lifespan)


async def judge(order: Order) -> Verdict:  # type: ignore[valid-type]
    """The empty endpoint."""
    return Verdict(event_id=order.event_id, verdict="approve")  # type: ignore[attr-defined]


# The model is made while this module runs, so that the annotation must be put in by hand.
judge.__annotations__["order"] = Order
judge.__annotations__["return"] = Verdict
app.post("/v1/decisions")(judge)

if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=75,
    )
