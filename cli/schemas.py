"""`schema`: the JSON Schema of every kind of YAML file, for editors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import click
from pydantic import BaseModel

from cli.language import language_option
from engine.errors import RequestRefused, did_you_mean
from engine.mapping import MapPack
from engine.packs import FORMAT_MEANS
from engine.packs.shape import FORMAT
from engine.rulebook import FILE_KINDS
from engine.suites import SuitePack

KINDS: Mapping[str, type[BaseModel]] = {**FILE_KINDS, "suite": SuitePack, "map": MapPack}
"""The key by which a file says what it is, and what it may then hold."""

ANY = "any"
"""The kind of a schema that fits a file of every kind."""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@click.command()
@click.argument("kind", required=False, metavar="[KIND]")
@language_option
def schema(kind: str | None) -> None:
    """The JSON Schema of the YAML files, for editors: pack, policy, fields, list, links, exceptions, rates, anomaly,
    retention, experiment, law, checklist, targets, alerts, processing, playbook, profile, notices, suite, map; or any,
    for a file of whichever of these kinds. An editor that knows it completes keys, shows what each means, and
    underlines what does not fit.

    \b
    Examples:
      arbiter schema any > arbiter.schema.json
      arbiter schema pack > pack.schema.json
      arbiter schema | jq keys
    """
    if kind is not None and kind not in (*KINDS, ANY):
        hint = did_you_mean(kind, [*KINDS, ANY]) or "one of " + ", ".join([*KINDS, ANY])
        raise RequestRefused(f"there is no kind of file '{kind}'; {hint}")
    shown: Any = {name: json_schema(model) for name, model in KINDS.items() if kind in (None, ANY, name)}
    if kind == ANY:
        shown = _any(shown)
    elif kind is not None:
        shown = shown[kind]
    click.echo(json.dumps(shown, ensure_ascii=False, indent=2))


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema (draft 2020-12) of one kind of file."""
    found = model.model_json_schema()
    # Every file may say its format, whether or not its model looks at it.
    found["properties"] = {"format": {"const": FORMAT, "description": FORMAT_MEANS}} | found["properties"]
    return {"$schema": _DIALECT, **_untitled(found)}


def _any(schemas: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """One schema for files of every kind: the key that only one kind has says which it is."""
    inside: dict[str, Any] = {}
    for name, found in schemas.items():
        parts = {key: value for key, value in found.items() if key not in ("$schema", "$defs")}
        inside[name] = _moved(parts, name)
        inside |= {f"{name}.{part}": _moved(each, name) for part, each in found.get("$defs", {}).items()}
    return {
        "$schema": _DIALECT,
        "type": "object",
        "description": f"A file of Arbiter; the key that says what it is: {_listed(schemas)}.",
        "anyOf": [{"required": [name]} for name in schemas],
        "allOf": [{"if": _is(name, schemas), "then": {"$ref": f"#/$defs/{name}"}} for name in schemas],
        "$defs": inside,
    }


def _moved(node: Any, kind: str) -> Any:
    """A part of a schema of one kind, its references made to point at where that kind's definitions stand."""
    if isinstance(node, list):
        return [_moved(each, kind) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: value.replace("#/$defs/", f"#/$defs/{kind}.") if key == "$ref" else _moved(value, kind)
        for key, value in node.items()
    }


def _is(name: str, schemas: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What is true of a file of this kind and of no other: a map has a key `fields`, too."""
    others = [each for each, found in schemas.items() if each != name and name in found["properties"]]
    beside = {"not": {"anyOf": [{"required": [each]} for each in others]}} if others else {}
    return {"required": [name], **beside}


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}"


def _untitled(node: Any) -> Any:
    """A schema without the titles that pydantic makes of names: editors would show them before what a key means."""
    if isinstance(node, list):
        return [_untitled(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _untitled(each) for name, each in value.items()} if key in _NAMED else _untitled(value)
        for key, value in node.items()
        if key != "title"
    }


_NAMED = frozenset({"properties", "$defs"})
"""Keys of a schema below which names stand that people chose."""
