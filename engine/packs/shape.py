"""A document against a pydantic model: the model's instance, or problems in plain words at their places."""

from __future__ import annotations

import re
import types
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from engine.errors import PackError, Problem, did_you_mean
from engine.packs.reading import MAX_DEPTH, Document, Loc, Place
from engine.packs.text import Source, Text

M = TypeVar("M", bound=BaseModel)

FORMAT = 1
"""The format version this Arbiter reads; a file without `format:` has it."""

FORMAT_MEANS = "the version of this file format, 1 when absent"
"""What the key `format` of every file says."""

_MAX_SHOWN = 60


def validate(document: Document, model: type[M]) -> M:
    """The document as an instance of `model`. Raises PackError with every problem.

    `format:` is read here and reaches the model only when it has such a field.
    """
    found = fit(document, model)
    if found.pack is None or found.problems:
        raise PackError(found.problems)
    return found.pack


@dataclass(frozen=True, slots=True)
class Fit(Generic[M]):
    """What of a document fits a model, so that one mistake does not hide what is to be said about the rest.

    `problems` are those of the YAML and of the shape. `pack` is the rest without the faulty parts, None where too
    little is left, and `document` is the document without them: its indexes are the pack's, its places the file's.
    """

    pack: M | None
    document: Document
    problems: tuple[Problem, ...] = ()
    hurt: frozenset[tuple[int, int]] = field(default=frozenset(), repr=False)

    def beyond(self, found: Iterable[Problem]) -> list[Problem]:
        """Those of `found` that are more than what follows from `problems`.

        What begins where something was refused (`hurt`: line and column), or where something was left out, is told of.
        """
        hurt = self.hurt | {(problem.line, problem.column) for problem in self.problems}
        mine = self.document.file
        return [p for p in found if p.file != _NO_FILE and (p.file != mine or (p.line, p.column) not in hurt)]


def fit(document: Document, model: type[M]) -> Fit[M]:
    """What of the document fits `model`, and every problem of the rest."""
    if document.data is None:
        return Fit(None, document, document.problems)
    wrong = _wrong_format(document)
    problems = [*document.problems, *wrong]
    data = document.data
    if wrong and isinstance(data["format"], int) and not isinstance(data["format"], bool):
        return Fit(None, document, tuple(problems))  # another version: what it may hold is not known here
    if isinstance(data, dict) and "format" in data and (wrong or "format" not in model.model_fields):
        document = replace(document, data={key: value for key, value in data.items() if key != "format"})
    pack, faults = _validated(document, model)
    refused = {document.source.line_column(start) for start in document.refused}
    found = [_problem(document, model, fault) for fault in faults]
    problems += (each for each in found if (each.line, each.column) not in refused)
    around = (document.problem(fault.path[:-1], "") for fault in faults)
    hurt = frozenset((each.line, each.column) for each in around)
    for _ in range(MAX_DEPTH):
        if pack is not None or (left := _without(document, model, faults)) is None:
            break
        document = left
        pack, faults = _validated(document, model)
    return Fit(pack, document, tuple(problems), hurt)


def _wrong_format(document: Document) -> list[Problem]:
    data = document.data
    if not isinstance(data, dict) or "format" not in data:
        return []
    if data["format"] == FORMAT and not isinstance(data["format"], bool):
        return []
    hint = f"write 'format: {FORMAT}', or update Arbiter"
    return [document.problem(("format",), f"this Arbiter reads format {FORMAT}", hint)]


def _validated(document: Document, model: type[M]) -> tuple[M | None, list[_Fault]]:
    try:
        return model.model_validate(document.data), []
    except ValidationError as error:
        faults = [_fault(document.data, detail) for detail in error.errors(include_url=False)]
    return None, list(_without_unions(faults))


# -- A document without its faulty parts -----------------------------------------------------------------------


def _without(document: Document, model: type[BaseModel], faults: Iterable[_Fault]) -> Document | None:
    """The document without what is faulty; a missing text is filled with its key. None when nothing would be left."""
    gone: set[Loc] = set()
    filled: set[Loc] = set()
    for fault in faults:
        if fault.kind == "missing":
            key = str(fault.error["loc"][-1])
            known = _known(model, fault.path, fault.named).get(key)
            if known is not None and all(_is_text(option) for option in _options(known.annotation)):
                filled.add((*fault.path, key))
            else:
                gone.add(fault.path)
        else:
            # What stands nowhere in the file was filled in, and does not do.
            gone.add(fault.path if document.stands(fault.path) else fault.path[:-1])
    if () in gone:
        return None
    data, place = _kept(document.data, document.place, (), gone, filled)
    return replace(document, data=data, place=place)


_NO_FILE = ""


def _stand_in(key: str) -> Text:
    return Text.at(key, Source(_NO_FILE, key), 0, len(key), "=")


def _is_text(option: Any) -> bool:
    return isinstance(option, type) and issubclass(option, str)


def _kept(node: Any, place: Place, loc: Loc, gone: Set[Loc], filled: Set[Loc]) -> tuple[Any, Place]:
    if not isinstance(node, dict | list):
        return node, place
    rows = node.items() if isinstance(node, dict) else enumerate(node)
    inside: dict[str | int, Place] = {}
    data: dict[str | int, Any] = {}
    for part, value in rows:
        if (*loc, part) in gone:
            continue
        key = part if isinstance(node, dict) else len(data)
        data[key] = value
        if part in place.inside:
            data[key], inside[key] = _kept(value, place.inside[part], (*loc, part), gone, filled)
    data |= {key: _stand_in(str(key)) for *around, key in filled if tuple(around) == loc}
    return data if isinstance(node, dict) else list(data.values()), replace(place, inside=inside)


@dataclass(frozen=True, slots=True)
class _Fault:
    """One error of pydantic, its location split into the way through the document and what pydantic put between.

    `branches` are (depth, name) of the alternatives of unions; `key` is the missing or wrong key.
    """

    error: ErrorDetails
    path: Loc
    branches: tuple[tuple[int, str], ...] = ()
    named: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return self.error["type"]


def _fault(data: Any, error: ErrorDetails) -> _Fault:
    path: list[str | int] = []
    branches: list[tuple[int, str]] = []
    node = data
    missing = error["type"] in ("missing", "missing_argument")
    for part in error["loc"][:-1] if missing else error["loc"]:
        inner = _step(node, part)
        if inner is None:
            branches.append((len(path), str(part)))
        else:
            path.append(part)
            node = inner[0]
    return _Fault(error, tuple(path), tuple(branches))


def _step(node: Any, part: str | int) -> tuple[Any] | None:
    if isinstance(node, dict) and part in node:
        return (node[part],)
    if isinstance(node, list) and isinstance(part, int) and part < len(node):
        return (node[part],)
    return None


# -- Unions: pydantic reports what every alternative disliked; one alternative was meant -----------------------


def _without_unions(faults: Iterable[_Fault]) -> Iterator[_Fault]:
    groups: dict[Loc, dict[str, list[_Fault]]] = defaultdict(lambda: defaultdict(list))
    for fault in faults:
        if not fault.branches or fault.branches[0][1] == "[key]":
            yield fault
            continue
        (depth, name), rest = fault.branches[0], fault.branches[1:]
        groups[fault.path[:depth]][name].append(replace(fault, branches=rest, named=(*fault.named, name)))
    for branches in groups.values():
        yield from _meant(list(branches.values()))


def _meant(branches: list[list[_Fault]]) -> Iterator[_Fault]:
    """The faults of the alternative that was most likely meant, or one fault that names all alternatives."""
    close = [faults for faults in branches if any(fault.kind not in _NOUNS for fault in faults)]
    if close:
        yield from _without_unions(min(close, key=_distance))
        return
    first = branches[0][0]
    nouns = dict.fromkeys(_NOUNS[fault.kind] for faults in branches for fault in faults)
    yield replace(first, error={**first.error, "type": "union", "ctx": {"expected": " or ".join(nouns)}})


def _distance(faults: Iterable[_Fault]) -> int:
    # A wrong `kind: x` says that another alternative was meant; a missing or unknown key says so less loudly.
    return sum(10 if fault.kind in ("literal_error", "enum") else 1 for fault in faults)


# -- The model's side: which keys it knows at a place ----------------------------------------------------------


def _options(annotation: Any) -> Iterator[Any]:
    """The plain types in an annotation, without Annotated, unions and aliases around them."""
    if hasattr(annotation, "__value__"):  # a `type` alias (Python 3.12, typing_extensions)
        yield from _options(annotation.__value__)
    elif get_origin(annotation) is Annotated:
        yield from _options(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for option in get_args(annotation):
            yield from _options(option)
    else:
        yield annotation


def _fields(annotation: Any, named: Sequence[str] = ()) -> Mapping[str, FieldInfo]:
    """The keys that the models in an annotation know; `named` picks among several models."""
    models = [option for option in _options(annotation) if isinstance(option, type) and issubclass(option, BaseModel)]
    models = [model for model in models if model.__name__ in named] or models
    return {field.alias or name: field for model in models for name, field in model.model_fields.items()}


def _below(annotation: Any, part: str | int) -> Iterator[Any]:
    fields = _fields(annotation)
    if part in fields:
        yield fields[str(part)].annotation
    for option in _options(annotation):
        origin, args = get_origin(option), get_args(option)
        if isinstance(origin, type) and args and issubclass(origin, Mapping | Sequence | Set):
            yield args[-1] if issubclass(origin, Mapping) else args[0]


def _known(model: type[BaseModel], path: Loc, named: Sequence[str]) -> Mapping[str, FieldInfo]:
    annotations: list[Any] = [model]
    for part in path:
        annotations = [inner for annotation in annotations for inner in _below(annotation, part)]
    return {key: field for annotation in annotations for key, field in _fields(annotation, named).items()}


def keys_at(model: type[BaseModel], path: Loc) -> list[str]:
    """The keys that files of this model may have at a place, in the order of the reference."""
    return list(_known(model, path, ()))


# -- Words -----------------------------------------------------------------------------------------------------

_NOUNS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "decimal_type": "a number",
    "decimal_parsing": "a number",
    "float_type": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "keys with values",
    "mapping_type": "keys with values",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
    "dataclass_type": "keys with values",
    "date_type": "a date",
    "date_parsing": "a date",
    "date_from_datetime_parsing": "a date",
    "date_from_datetime_inexact": "a date",
    "none_required": "nothing",
}
_HINTS = {
    "text": "put quotes around it",
    "a list": "write it as [a, b] or as lines that begin with '- '",
    "a date": "write it as 2026-11-20",
    "true or false": "write true or false",
    "keys with values": "write it as 'key: value' lines",
}
_LIMITS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda c: f"must be more than {c['gt']}",
    "greater_than_equal": lambda c: f"must be at least {c['ge']}",
    "less_than": lambda c: f"must be less than {c['lt']}",
    "less_than_equal": lambda c: f"must be at most {c['le']}",
    "multiple_of": lambda c: f"must be a multiple of {c['multiple_of']}",
    "string_too_short": lambda c: _at_least(c["min_length"], "character"),
    "string_too_long": lambda c: f"must have at most {c['max_length']} characters",
    "too_short": lambda c: _at_least(c["min_length"], "item"),
    "too_long": lambda c: f"must have at most {c['max_length']} items",
    "string_pattern_mismatch": lambda c: f"does not have the form {c['pattern']}",
    "value_error": lambda c: str(c["error"]),
    "assertion_error": lambda c: str(c["error"]),
    "union": lambda c: f"expected {c['expected']}",
}


def _at_least(count: int, noun: str) -> str:
    return "must not be empty" if count == 1 else f"must have at least {count} {noun}s"


def _problem(document: Document, model: type[BaseModel], fault: _Fault) -> Problem:
    error, kind = fault.error, fault.kind
    path, on_key = fault.path, ("[key]" in (name for _, name in fault.branches))
    if kind == "missing":
        key = str(error["loc"][-1])
        field = _known(model, path, fault.named).get(key)
        return document.problem(path, f"'{key}' is missing", (field.description if field else "") or "")
    if kind == "extra_forbidden":
        what, hint = _unknown_key(str(path[-1]), _known(model, path[:-1], fault.named))
        return document.problem(path, what, hint, key=True)
    if kind == "union_tag_not_found":
        return document.problem(path, f"{error['ctx']['discriminator']} is missing")
    what, hint = _words(error)
    return document.problem(path, what, hint, key=on_key)


def _unknown_key(key: str, known: Iterable[str]) -> tuple[str, str]:
    names = sorted(known)
    hint = did_you_mean(key, names) or ("known here: " + ", ".join(names) if names else "")
    return f"unknown key '{key}'", hint


def _words(error: ErrorDetails) -> tuple[str, str]:
    kind, value, details = error["type"], error["input"], error.get("ctx", {})
    if kind in ("literal_error", "enum", "union_tag_invalid"):
        return _choices(details.get("tag", value), str(details.get("expected") or details.get("expected_tags")))
    if kind in _NOUNS:
        noun = _NOUNS[kind]
        plain = noun == "text" and isinstance(value, dict | list)
        return f"expected {noun}, found {_found(value)}", "" if plain else _HINTS.get(noun, "")
    if kind == "union":
        return f"expected {details['expected']}, found {_found(value)}", ""
    if kind in _LIMITS:
        return _LIMITS[kind](details), ""
    return error["msg"].replace("Input should", "must"), ""


def _choices(value: Any, expected: str) -> tuple[str, str]:
    choices = re.findall(r"'([^']*)'", expected) or [expected]
    if len(choices) == 1:
        return f"expected {choices[0]}, found {_found(value)}", ""
    near = did_you_mean(value, choices) if isinstance(value, str) else ""
    return f"expected one of {', '.join(choices)}; found {_found(value)}", near


def _found(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | Decimal):
        return f"the number {value}"
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= _MAX_SHOWN else "long text"
    return "a list" if isinstance(value, list) else "keys with values" if isinstance(value, dict) else "something else"
