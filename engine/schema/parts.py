"""An event taken apart: what may stand in the log, what belongs to each person, and the keys that link events.

A plan per kind is made once; taking an event apart then costs one look-up for each value that is there.

Public text that is no identifier may have something personal typed into it (`personal`). It stands in the log masked,
and whole among the personal values, so that `join` gives back what was sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.schema import personal
from engine.schema.fields import FieldDef
from engine.schema.keys import normal

Private = dict[str, dict[str, Any]]
Keys = list[tuple[str, str, str]]


Places = list[tuple[tuple[str, ...], list[str], bool]]
"""Where texts stand: the way to an object, the names of its leaves, and whether it is a list of objects."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One object of a kind: its leaves by name, the objects in it, and the names that are lists of objects.

    `words` and `ids` name the leaves that are public text: words of any kind, and declared identifiers. At the root
    `places` and `id_places` are all of them, and `writer` is the subject under whom words with something personal in
    them are sealed.
    """

    leaves: dict[str, FieldDef] = field(default_factory=dict)
    inner: dict[str, Plan] = field(default_factory=dict)
    lists: dict[str, Plan] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    places: Places = field(default_factory=list)
    id_places: Places = field(default_factory=list)
    writer: str = "buyer"


def plan(fields: Iterable[FieldDef], lists: frozenset[str]) -> Plan:
    """The tree of a kind's fields. `lists` names the paths that are lists of objects."""
    fields = tuple(fields)
    subjects = [each.subject for each in fields if each.subject]
    root = Plan(writer="seller" if "seller" in subjects and "buyer" not in subjects else "buyer")
    for each in fields:
        node, path = root, ""
        *parents, name = each.path.split(".")
        for parent in parents:
            path = f"{path}.{parent}" if path else parent
            node = (node.lists if path in lists else node.inner).setdefault(parent, Plan())
        node.leaves[name] = each
        if each.typed:
            (node.ids if each.identifier else node.words).append(name)
    _place(root, (), root)
    return root


def _place(node: Plan, parents: tuple[str, ...], root: Plan, *, rows: bool = False) -> None:
    for names, places in ((node.words, root.places), (node.ids, root.id_places)):
        if names:
            places.append((parents, names, rows))
    for name, inner in node.inner.items():
        _place(inner, (*parents, name), root)
    for name, inner in node.lists.items():
        _place(inner, (*parents, name), root, rows=True)


def identifiers(values: Mapping[str, Any], plan: Plan, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, text) of every public identifier. What has another shape than the plan is passed over."""
    for name in plan.ids:
        value = values.get(name)
        for item in value if type(value) is list else (value,):
            if type(item) is str:
                yield path + name, item
    for name, inner in plan.inner.items():
        value = values.get(name)
        if type(value) is dict:
            yield from identifiers(value, inner, f"{path}{name}.")
    for name, inner in plan.lists.items():
        rows = values.get(name) if inner.ids else None
        for at, row in enumerate(rows if type(rows) is list else ()):
            if type(row) is dict:
                yield from identifiers(row, inner, f"{path}{name}[{at}].")


def split(values: Mapping[str, Any], plan: Plan) -> tuple[dict[str, Any], Private, Keys]:
    """(public values, nested; subject → path → value; (path, namespace, normal form) of every entity).

    Values of a list of objects stand under one path, in order, with None where an object lacks the field.
    """
    private: Private = {}
    keys: Keys = []
    public = _split(values, plan, private, keys)
    if personal.suspicious(texts(public, plan.places)):
        _mask(public, plan, "", private, plan.writer)
    return public, private, keys


def texts(values: Mapping[str, Any], places: Places) -> str:
    """All the text at `places` of checked values, with line breaks between."""
    found: list[str] = []
    for parents, names, rows in places:
        at: Any = values
        for parent in parents:
            at = at.get(parent)
            if at is None:
                break
        else:
            for each in at if rows else (at,):
                for name in names:
                    value = each.get(name)
                    if value is not None:
                        found += (value,) if type(value) is str else value
    return "\n".join(found)


def _mask(public: dict[str, Any], plan: Plan, path: str, private: Private, writer: str) -> None:
    """Mask what is personal in public text, in place; the whole text goes to the personal values of `writer`."""
    for name in plan.words:
        value = public.get(name)
        shown = value and (personal.masked(value) if type(value) is str else [*map(personal.masked, value)])
        if shown != value:
            private.setdefault(writer, {})[path + name] = value
            public[name] = shown
    for name, inner in plan.inner.items():
        if name in public:
            _mask(public[name], inner, f"{path}{name}.", private, writer)
    for name, inner in plan.lists.items():
        _mask_rows(public.get(name, []), inner, f"{path}{name}.", private, writer)


def _mask_rows(rows: list[dict[str, Any]], plan: Plan, path: str, private: Private, writer: str) -> None:
    for name in plan.words:
        column = [row.get(name) for row in rows]
        shown = [None if value is None else personal.masked(value) for value in column]
        if shown != column:
            private.setdefault(writer, {})[path + name] = column
            for row, value in zip(rows, shown, strict=True):
                if value is not None:
                    row[name] = value


def _split(values: Mapping[str, Any], plan: Plan, private: Private, keys: Keys) -> dict[str, Any]:
    public: dict[str, Any] = {}
    leaves = plan.leaves
    for name, value in values.items():
        if value is None:
            continue
        each = leaves.get(name)
        if each is None:
            kept = _inside(name, value, plan, private, keys)
            if kept or type(kept) is list:  # That there are none is something that rules see.
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


def masked_paths(public: Mapping[str, Any]) -> Iterator[str]:
    """The paths of public values, as they are kept, that look as if something personal in them was masked."""
    for path, value in public.items():
        for each in value if type(value) is list else (value,):
            if type(each) is dict:
                yield from (f"{path}.{inner}" for inner in masked_paths(each))
            elif type(each) is str and personal.was_masked(each):
                yield path


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
