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
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from engine.schema import cardsecrets
from engine.schema.fields import ENTITIES, FORMS, SUBJECTS, FieldDef, Form, in_words
from engine.schema.kinds import KINDS, LISTS, catalogue

_PATH = re.compile(r"[a-z][a-z0-9_]{0,39}(\.[a-z][a-z0-9_]{0,39}){1,3}", re.ASCII)

Type = Literal["text", "number", "money", "bool", "instant", "duration", "list[text]", "list[number]", "list[money]"]


class OwnField(BaseModel):
    """One own field. `limit`: most characters of a text; `low`, `high`, `whole`: bounds of a number."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Type
    doc: str = Field(min_length=1, max_length=300)
    example: Any = None
    kinds: tuple[str, ...] = ("transaction", "payment")
    privacy: Literal["public", "free_text", "personal", "sensitive"] = "public"
    subject: str = ""
    entity: str = ""
    identifier: bool = False
    limit: int = Field(default=64, ge=1, le=20000)
    form: Literal["line", "free", "id", "code", "country", "digits"] = "line"
    choices: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None
    whole: bool = False

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(kinds) - set(KINDS))
        if unknown or not kinds:
            raise ValueError(f"kinds must be some of {', '.join(KINDS)}")
        return kinds

    @field_validator("subject", "entity")
    @classmethod
    def _known_words(cls, word: str, info: Any) -> str:
        known = SUBJECTS if info.field_name == "subject" else ENTITIES
        if word and word not in known:
            raise ValueError(f"{info.field_name} must be one of {', '.join(known)}")
        return word

    @model_validator(mode="after")
    def _fits_together(self) -> OwnField:
        if (self.privacy == "public") != (not self.subject):
            raise ValueError("a field that is not public names its subject, a public field has none")
        if self.entity and (self.type != "text" or self.privacy == "public"):
            raise ValueError("an entity is one text and not public: it identifies someone")
        if self.type not in ("text", "list[text]") and (self.choices or self.identifier):
            raise ValueError("choices and identifier are for text")
        return self

    def field(self, path: str) -> FieldDef:
        """The definition of the field at `path`."""
        form = Form(low=self.low, high=self.high, whole=self.whole)
        if self.type in ("text", "list[text]"):
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
    """The whole of `policies/schema.yaml`: path → own field. Refuses paths that are taken or cannot be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    fields: dict[str, OwnField] = Field(default_factory=dict, max_length=500)

    @model_validator(mode="after")
    def _paths_are_free(self) -> SchemaPack:
        wrong = [text for path, own in self.fields.items() if (text := clash(path, own, self.fields))]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


def clash(path: str, own: OwnField, all_own: Mapping[str, OwnField]) -> str:
    """Why `path` cannot be an own field, or an empty string."""
    known = catalogue()
    taken = {*known, *all_own} - {path}
    if not _PATH.fullmatch(path):
        return f"'{path}' is not a path: small letters, digits and _, two to four names with dots between"
    if path in known:
        return f"'{path}' is a built-in field"
    if any(each.startswith(path + ".") or path.startswith(each + ".") for each in taken):
        return f"'{path}' stands above or below another field"
    if any(cardsecrets.path(path[: found.end()]) for found in re.finditer(r"[^.]+", path)):
        return f"'{path}' has the name of a card secret, which is never taken"
    in_rows = path.rpartition(".")[0] in LISTS
    if any(path.startswith(each + ".") for each in LISTS) and not (in_rows and own.type.startswith("list[")):
        return f"'{path}' lies in a list of objects: its type must be list[...]"
    return ""


assert {"line", "free", "id", "code", "country", "digits"} <= set(FORMS)
