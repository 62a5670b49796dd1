"""Nested data: from dotted keys, without what is blank, and what stands under a path."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from engine.errors import FieldProblem
from engine.money import Money
from engine.schema.refusals import BODY, step

_LEAVES = frozenset({str, int, float, bool, list, Money, Decimal})

_KEPT = _LEAVES - {list}


def without_blanks(value: Any) -> Any:
    """The same without null and empty text in objects: a field that is there says something."""
    if type(value) is dict:
        return {key: without_blanks(item) for key, item in value.items() if item is not None and item != ""}
    return [without_blanks(item) for item in value] if type(value) is list else value


def at_path(value: Any, path: str) -> Any:
    """The value under a dotted path, None where there is none; through a list of objects, the list of all of theirs."""
    rest = path
    while rest:
        if isinstance(value, list):
            return [at_path(item, rest) for item in value]
        if not isinstance(value, Mapping):
            return None
        head, _, rest = rest.partition(".")
        value = value.get(head)
    return value


def nested(data: Mapping[Any, Any], lists: frozenset[str]) -> tuple[dict[str, Any], list[FieldProblem]]:
    """({'card': {'ref': …}} from {'card.ref': …}, what is wrong with the keys), blanks left out.

    A path through a list of objects takes a list of values, one for each object: {'items.sku': ['a', 'b']}.
    """
    root: dict[str, Any] = {}
    problems: list[FieldProblem] = []
    _fill(root, data, "", lists, problems)
    return root, problems


def _fill(
    node: dict[str, Any], data: Mapping[Any, Any], path: str, lists: frozenset[str], problems: list[FieldProblem]
) -> None:
    for key, value in data.items():
        if value is None or value == "":
            continue
        if not isinstance(key, str):
            problems.append(FieldProblem(path or BODY, "unknown_field", "the name of a field is text"))
            continue
        head, _, rest = key.partition(".")
        here = f"{path}.{head}" if path else str(head)
        if here in lists:
            _fill_rows(node, head, rest, value, here, problems)
        elif rest:
            _fill_inner(node, head, {rest: value}, here, lists, problems)
        elif type(value) not in _LEAVES and isinstance(value, Mapping) and not _is_money(value):
            _fill_inner(node, head, value, here, lists, problems)
        else:
            _set(node, head, _plain(value), here, problems)


def _fill_inner(
    node: dict[str, Any],
    head: str,
    value: Mapping[Any, Any],
    here: str,
    lists: frozenset[str],
    problems: list[FieldProblem],
) -> None:
    inner = node.setdefault(str(head), {})
    if type(inner) is dict:
        _fill(inner, value, here, lists, problems)
    else:
        problems.append(_twice(here))


def _fill_rows(node: dict[str, Any], head: str, rest: str, value: Any, here: str, problems: list[FieldProblem]) -> None:
    if not rest:
        _set(node, head, _plain(value), here, problems)
        return
    column = list(value) if isinstance(value, list | tuple) else [value]
    rows = node.setdefault(str(head), [{} for _ in column])
    if type(rows) is not list or len(rows) != len(column):
        problems.append(
            FieldProblem(f"{here}.{rest}", "wrong_length", f"as many values as the other fields of '{here}'")
        )
        return
    for row, item in zip(rows, column, strict=True):
        if item is not None and item != "":
            row[rest] = _plain(item)


def _set(node: dict[str, Any], head: str, value: Any, here: str, problems: list[FieldProblem]) -> None:
    if head in node:
        problems.append(_twice(here))
    node[str(head)] = value


def _twice(path: str) -> FieldProblem:
    shown = ""
    for part in path.split("."):
        shown = step(shown, part)
    return FieldProblem(shown, "duplicate_key", "given twice")


def _is_money(value: Mapping[Any, Any]) -> bool:
    return value.keys() == {"value", "currency"}


def _plain(value: Any) -> Any:
    """Plain dicts, lists and text, as JSON would give them."""
    if type(value) in _KEPT:
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None and item != ""}
    if type(value) is list or type(value) is tuple:
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value
