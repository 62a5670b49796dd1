"""Own fields: `policies/schema.yaml`, where an operator declares what its events carry beyond the built-in fields.

format: 1
fields:
  extra.terminal:
    type: text
    doc: The terminal the card was used at
    example: t-8841
    kinds: [transaction, payment]
    identifier: true
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import ValidationError

from engine.errors import did_you_mean
from engine.schema import cardnumbers, cardsecrets, nesting, parts, refusals, shapes
from engine.schema.fields import ENTITIES, FORMS, SUBJECTS, FieldDef, Form, in_words
from engine.schema.kinds import KINDS, LISTS, catalogue

_PATH = re.compile(r"[a-z][a-z0-9_]{0,39}(\.[a-z][a-z0-9_]{0,39}){1,3}", re.ASCII)

Type = Literal["text", "number", "money", "bool", "instant", "duration", "list[text]", "list[number]", "list[money]"]


class OwnField(BaseModel):
    """One own field. `limit`: most characters of a text; `low`, `high`, `whole`: bounds of a number."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Type = Field(description="what a value of the field is")
    doc: str = Field(min_length=1, max_length=300, description="what the field says, for whoever writes rules")
    example: Any = Field(default=None, description="a value, as an event would bring it; invented")
    kinds: tuple[str, ...] = Field(default=("transaction", "payment"), description="the kinds of event that have it")
    privacy: Literal["public", "free_text", "personal", "sensitive"] = Field(
        default="public", description="whether it may stand in the log, or is sealed"
    )
    subject: str = Field(default="", description="whose data it is, where it is not public: buyer, merchant …")
    entity: str = Field(default="", description="what it identifies: a person, a device, a card …")
    identifier: bool = Field(default=False, description="whether it names one thing, so that windows can go by it")
    limit: int = Field(default=64, ge=1, le=20000, description="the most characters of a text")
    form: Literal["line", "free", "id", "code", "country", "digits"] = Field(
        default="line", description="what may stand in a text"
    )
    choices: tuple[str, ...] = Field(default=(), description="the only values that a text may have")
    low: int | None = Field(default=None, description="the lowest number")
    high: int | None = Field(default=None, description="the highest number")
    whole: bool = Field(default=False, description="whether a number must be whole")

    @property
    def kind(self) -> str:
        """The type of one value: that of the elements of a list."""
        return self.type.removeprefix("list[").removesuffix("]")

    def field(self, path: str) -> FieldDef:
        """The definition of the field at `path`."""
        form = Form(low=self.low, high=self.high, whole=self.whole)
        if self.kind == "text":
            form = Form("" if self.choices else self.form, self.limit, choices=tuple(map(str, self.choices)))
        return FieldDef(
            str(path),  # packs give text that remembers its place
            self.type,
            str(self.doc),
            self.example,
            in_words(self.type, form),
            self.privacy,
            str(self.subject),
            str(self.entity),
            self.identifier,
            form,
        )


class SchemaPack(BaseModel):
    """The whole of `policies/schema.yaml`: path → own field. What must fit together is asked by `faults`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = Field(default=1, description="the version of this file format, 1 when absent")
    fields: dict[str, OwnField] = Field(
        default_factory=dict, max_length=500, description="path → own field, such as extra.terminal"
    )


class Fault(NamedTuple):
    """Something wrong in an own field: its path, the way to the value within it, what is wrong, and how to mend it.

    Without a way, or where `key` says so, it is about the key.
    """

    path: str
    loc: tuple[str | int, ...]
    what: str
    hint: str = ""
    key: bool = False


def faults(fields: Mapping[str, OwnField], paths: Iterable[str] = ()) -> list[Fault]:
    """Every fault of `fields` that their types do not show.

    `paths` are what the file declares beside them: fields that are broken in another way have to be free, too.
    """
    every, known = dict.fromkeys((*fields, *paths)), catalogue()
    found = [fault for path in every for fault in _of_path(path, every, known)]
    bad = {fault.path for fault in found}
    return found + [fault for path, own in fields.items() for fault in _of_field(path, own, path in bad)]


def _of_path(path: str, every: Iterable[str], known: Collection[str]) -> Iterator[Fault]:
    if not _PATH.fullmatch(path):
        hint = "small letters, digits and _, two to four names with dots between, such as extra.terminal"
        yield Fault(path, (), f"'{path}' is not a path", hint)
    elif path in known:
        yield Fault(path, (), f"'{path}' is a built-in field", "use that, or choose another name: extra.…")
    elif other := next((e for e in (*known, *every) if e.startswith(path + ".") or path.startswith(e + ".")), ""):
        hint = "a field holds no fields: choose another name"
        yield Fault(path, (), f"'{path}' stands above or below another field, '{other}'", hint)
    elif any(cardsecrets.path(path[: part.end()]) for part in re.finditer(r"[^.]+", path)):
        hint = "what must not be sent has no field; for a postcode or the like choose a name that says so"
        yield Fault(path, (), f"'{path}' has the name of a card secret, which is never taken", hint)


def _of_field(path: str, own: OwnField, bad_path: bool) -> Iterator[Fault]:
    if not bad_path and _in_list_of_objects(path, own):
        yield Fault(path, ("type",), f"'{path}' lies in a list of objects", f"its type must be list[{own.kind}]")
    for each in (*_of_kinds(own), *_of_person(own), *_of_text(own), *_of_number(own)):
        yield each._replace(path=path)
    if not bad_path and own.example is not None:
        yield from _of_example(path, own)


def _in_list_of_objects(path: str, own: OwnField) -> bool:
    rows = path.rpartition(".")[0] in LISTS
    return any(path.startswith(each + ".") for each in LISTS) and not (rows and own.type.startswith("list["))


def _of_kinds(own: OwnField) -> Iterator[Fault]:
    for at, kind in enumerate(own.kinds):
        if kind not in KINDS:
            hint = did_you_mean(kind, KINDS) or "one of " + ", ".join(KINDS)
            yield Fault("", ("kinds", at), f"there is no kind of event '{kind}'", hint)
    if not own.kinds:
        yield Fault("", ("kinds",), "a field belongs to some kind of event", "one of " + ", ".join(KINDS))


def _of_person(own: OwnField) -> Iterator[Fault]:
    for key, name, known in (("subject", own.subject, SUBJECTS), ("entity", own.entity, ENTITIES)):
        if name and name not in known:
            hint = did_you_mean(name, known) or "one of " + ", ".join(known)
            yield Fault("", (key,), f"there is no {key} '{name}'", hint)
    if own.privacy != "public" and not own.subject:
        hint = "add 'subject', one of " + ", ".join(SUBJECTS)
        yield Fault("", ("privacy",), "a field that is not public names its subject", hint)
    if own.privacy == "public" and own.subject:
        hint = "leave it out, or say 'privacy: personal'"
        yield Fault("", ("subject",), "a public field has no subject", hint)
    if own.entity and (own.type != "text" or own.privacy == "public"):
        hint = "take 'type: text' and 'privacy: personal', or leave it out"
        yield Fault("", ("entity",), "an entity is one text and not public: it identifies someone", hint)


def _of_text(own: OwnField) -> Iterator[Fault]:
    given = own.model_fields_set
    for key in ("limit", "form", "choices", "identifier"):
        if key in given and own.kind != "text":
            yield Fault("", (key,), f"'{key}' is for text", f"leave it out: the type is {own.type}", True)
        elif key in ("limit", "form") and key in given and "choices" in given:
            yield Fault("", (key,), f"'{key}' says nothing beside 'choices'", "leave one of the two out", True)
    if "choices" in given and not own.choices:
        yield Fault("", ("choices",), "must not be empty", "list the values, or leave it out")
    for at, choice in enumerate(own.choices):
        if not choice.strip():
            yield Fault("", ("choices", at), "an empty value is a missing one", "leave it out")
        elif choice in own.choices[:at]:
            yield Fault("", ("choices", at), f"'{choice}' stands there twice", "leave one of them out")


def _of_number(own: OwnField) -> Iterator[Fault]:
    for key in () if own.kind == "number" else ("low", "high", "whole"):
        if key in own.model_fields_set and (own.kind, key, own.low) != ("money", "low", 0):
            hint = "money takes 'low: 0' alone" if own.kind == "money" else f"leave it out: the type is {own.type}"
            yield Fault("", (key,), f"'{key}' is for numbers", hint, True)
    if own.low is not None and own.high is not None and own.low > own.high:
        yield Fault("", ("high",), f"no number is at least {own.low} and at most {own.high}", "exchange the two")


def _of_example(path: str, own: OwnField) -> Iterator[Fault]:
    """The example must be a value of the field, as an event would bring it."""
    given = own.example if isinstance(own.example, list) else [own.example]
    if any(map(_is_secret, map(str, given))):
        what, hint = "the example looks like a card number or a secret", "invent another: packs are kept for ever"
        yield Fault(path, ("example",), what, hint)
        return
    if own.low is not None and own.high is not None and own.low > own.high:
        return
    # Whose data it is does not matter here, and may be wrong.
    each = own.model_copy(update={"privacy": "public", "subject": "", "entity": ""}).field(path)
    data, _ = nesting.nested({path: given if each.many else own.example}, LISTS)
    try:
        shapes.validator(parts.plan((each,), LISTS), frozenset(), runtime=False).validate_python(data)
    except ValidationError as error:
        for problem in refusals.Words("", {path: each}, (), {}).problems(error):
            hint = problem.hint or did_you_mean(str(own.example), own.choices)
            if own.kind == "text" and not isinstance(given[0], str):
                hint = "put quotes around it"
            yield Fault(path, ("example",), f"the example is no value of the field: {problem.what}", hint)


def _is_secret(text: str) -> bool:
    return cardnumbers.found(text) or cardsecrets.track(text) or cardsecrets.code(text)


assert {"line", "free", "id", "code", "country", "digits"} <= set(FORMS)
