"""Requests made from the OpenAPI document, good and bad: no 500, no hang, and every answer as documented."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.serving import Served, serve_on_loopback

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, int]]:
    """A server that stands through all of it."""
    with serve_on_loopback(tmp_path_factory.mktemp("fuzz")) as served:
        yield served


@schemathesis.serializer("application/x-ndjson")
def lines(_: Any, value: Any) -> bytes:
    """What schemathesis makes up, as lines."""
    return value if isinstance(value, bytes) else str(value).encode()


def fuzz(served: Served, port: int, examples: int) -> int:
    """Call each operation `examples` times with what fits the document, and as often with what does not."""
    schema = schemathesis.openapi.from_dict(served.get("/openapi.json").json())
    operations = [found.ok() for found in schema.get_all_operations()]
    return sum(
        call(operation, served, f"http://127.0.0.1:{port}", mode, examples)
        for operation in operations
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    )


def call(operation: Any, served: Served, base_url: str, mode: GenerationMode, examples: int) -> int:
    """The number of calls of one operation."""
    scopes = operation.definition.raw.get("x-scopes") or ["score"]
    headers, calls = {"Authorization": f"Bearer {served.keys[scopes[-1]]}"}, 0

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def one(case: Any) -> None:
        nonlocal calls
        calls += 1
        case.call_and_validate(base_url=base_url, headers=headers, checks=CHECKS, timeout=20)

    # Nothing can be wrong with a request that has no parameters and no body.
    with suppress(hypothesis.errors.Unsatisfiable):
        one()
    return calls


@pytest.mark.slow
@pytest.mark.service
def test_no_request_that_fits_the_document_or_nearly_breaks_the_server(served: tuple[Served, int]) -> None:
    assert fuzz(*served, examples=5) > 50


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.timeout(1200)
def test_no_request_breaks_the_server_in_a_long_run(served: tuple[Served, int]) -> None:
    assert fuzz(*served, examples=150) > 3000
