"""An event taken apart: what may stand in the log, what belongs to each person, and the keys that link events.

A plan per kind is made once; taking an event apart then costs one look-up for each value that is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.schema.fields import FieldDef
from engine.schema.keys import normal

Private = dict[str, dict[str, Any]]
Keys = list[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Plan:
    """One object of a kind: its leaves by name, the objects in it, and the names that are lists of objects."""

    leaves: dict[str, FieldDef] = field(default_factory=dict)
    inner: dict[str, Plan] = field(default_factory=dict)
    lists: dict[str, Plan] = field(default_factory=dict)


def plan(fields: Iterable[FieldDef], lists: frozenset[str]) -> Plan:
    """The tree of a kind's fields. `lists` names the paths that are lists of objects."""
    root = Plan()
    for each in fields:
        node, path = root, ""
        *parents, name = each.path.split(".")
        for parent in parents:
            path = f"{path}.{parent}" if path else parent
            node = (node.lists if path in lists else node.inner).setdefault(parent, Plan())
        node.leaves[name] = each
    return root


def split(values: Mapping[str, Any], plan: Plan) -> tuple[dict[str, Any], Private, Keys]:
    """(public values, nested; subject → path → value; (path, namespace, normal form) of every entity).

    Values of a list of objects stand under one path, in order, with None where an object lacks the field.
    """
    private: Private = {}
    keys: Keys = []
    return _split(values, plan, private, keys), private, keys


def _split(values: Mapping[str, Any], plan: Plan, private: Private, keys: Keys) -> dict[str, Any]:
    public: dict[str, Any] = {}
    leaves = plan.leaves
    for name, value in values.items():
        if value is None:
            continue
        each = leaves.get(name)
        if each is None:
            kept = _inside(name, value, plan, private, keys)
            if kept:
                public[name] = kept
        elif not each.subject:
            public[name] = value
        else:
            private.setdefault(each.subject, {})[each.path] = value
            if each.entity:
                form = normal(each.entity, value)
                if form:
                    keys.append((each.path, each.entity, form))
    return public


def _inside(name: str, value: Any, plan: Plan, private: Private, keys: Keys) -> Any:
    inner = plan.inner.get(name)
    if inner is not None:
        return _split(value, inner, private, keys)
    return _split_list(value, plan.lists[name], private)


def _split_list(rows: list[dict[str, Any]], plan: Plan, private: Private) -> list[dict[str, Any]]:
    for name, each in plan.leaves.items():
        if each.subject and any(row.get(name) is not None for row in rows):
            private.setdefault(each.subject, {})[each.path] = [row.get(name) for row in rows]
    leaves = plan.leaves
    return [{name: row[name] for name in row if row[name] is not None and not leaves[name].subject} for row in rows]


def join(public: Mapping[str, Any], private: Mapping[str, Mapping[str, Any]], plan: Plan) -> dict[str, Any]:
    """The values that `split` took apart; subjects whose part is gone (erased) are missing."""
    values: dict[str, Any] = {name: _copy(value) for name, value in public.items()}
    for part in private.values():
        for path, value in part.items():
            _put(values, path.split("."), value, plan)
    return values


def _copy(value: Any) -> Any:
    if type(value) is dict:
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if type(value) is list else value


def _put(values: dict[str, Any], path: list[str], value: Any, plan: Plan) -> None:
    for at, name in enumerate(path[:-1]):
        rows = plan.lists.get(name)
        if rows is not None:
            table = values.setdefault(name, [{} for _ in value])
            assert at == len(path) - 2, "lists of objects hold plain fields only"
            for row, item in zip(table, value, strict=True):
                if item is not None:
                    row[path[-1]] = item
            return
        values, plan = values.setdefault(name, {}), plan.inner[name]
    values[path[-1]] = value
