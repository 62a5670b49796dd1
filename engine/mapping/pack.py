"""The mapping file as a model. What each key means to a reader stands in docs/cli.md."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.packs import Form, PackText
from engine.packs.durations import Duration

_NAME = Form(r"[a-z][a-z0-9_]*", "small letters, digits and _: this is the column's name in expressions")

Column = Annotated[PackText, Field(min_length=1, max_length=200, description="name a column of the table")]
Formula = Annotated[PackText, Field(min_length=1, max_length=4000)]
ColumnType = Literal["text", "number", "bool", "instant", "duration"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Source(_Model):
    """A column, and how its cells are read: `form` and `zone` for times, `reading` for numbers that stand for more."""

    column: Column
    form: PackText | None = Field(default=None, alias="format")
    zone: PackText | None = None
    reading: Literal["ipv4", "seconds", "minutes", "hours", "days"] | None = Field(default=None, alias="as")


class CurrencyColumn(_Model):
    """The column that holds the currency of each amount."""

    column: Column


Currency = PackText | CurrencyColumn


class FromColumn(Source):
    """A field from a column. `currency` is for amounts, `split` for lists."""

    currency: Currency | None = None
    split: PackText | None = Field(default=None, min_length=1, max_length=3)


class Constant(_Model):
    """The same value in every event."""

    value: PackText | bool | int | Decimal | list[PackText]


class Computed(_Model):
    """A value computed from `columns`, in the language of conditions. An amount is rounded half-even."""

    expression: Formula
    currency: Currency | None = None


class RowNumber(_Model):
    """The number of the row after a prefix, for tables without an id of their own."""

    row: PackText = Field(min_length=1, max_length=100)


Spec = PackText | FromColumn | Constant | Computed | RowNumber
"""Where a field's value comes from. A plain name is a column."""


class NamedColumn(Source):
    """A column as expressions see it."""

    type: ColumnType = "text"


class OutcomeText(_Model):
    """Which rows have an outcome, which one, and how long after the event it becomes known."""

    when: Formula
    result: PackText
    delay: Duration
    event_id: Spec | None = None


class MapPack(_Model):
    """The whole mapping file. `zone` is that of times which name none."""

    format: Literal[1] = 1
    map: str = Field(min_length=1, max_length=120)
    about: str = Field(default="", max_length=2000)
    kind: PackText
    zone: PackText | None = None
    columns: dict[Annotated[str, _NAME], ColumnType | NamedColumn] = Field(default={}, max_length=500)
    fields: dict[str, Spec] = Field(min_length=1, max_length=500)
    outcome: OutcomeText | None = None
