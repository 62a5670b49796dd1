"""The mapping file as a model. What each key means to a reader stands in docs/cli.md."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.packs import FORMAT_MEANS, Form, PackText
from engine.packs.durations import Duration

_NAME = Form(r"[a-z][a-z0-9_]*", "small letters, digits and _: this is the column's name in expressions")

Column = Annotated[PackText, Field(min_length=1, max_length=200, description="name a column of the table")]
Formula = Annotated[PackText, Field(min_length=1, max_length=4000)]
_CURRENCY = "the currency of the amount, or {column: …} that holds it"
ColumnType = Literal["text", "number", "bool", "instant", "duration"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Source(_Model):
    """A column, and how its cells are read: `form` and `zone` for times, `reading` for numbers that stand for more."""

    column: Column
    form: PackText | None = Field(default=None, alias="format", description="how a time is written: %Y-%m-%d %H:%M")
    zone: PackText | None = Field(default=None, description="the time zone of times that name none: Asia/Shanghai")
    reading: Literal["ipv4", "seconds", "minutes", "hours", "days"] | None = Field(
        default=None, alias="as", description="what a number stands for"
    )


class CurrencyColumn(_Model):
    """The column that holds the currency of each amount."""

    column: Column


Currency = PackText | CurrencyColumn


class FromColumn(Source):
    """A field from a column. `currency` is for amounts, `split` for lists."""

    currency: Currency | None = Field(default=None, description=_CURRENCY)
    split: PackText | None = Field(
        default=None, min_length=1, max_length=3, description="what stands between the elements of a list"
    )


class Constant(_Model):
    """The same value in every event."""

    value: PackText | bool | int | Decimal | list[PackText] = Field(description="the value")


class Computed(_Model):
    """A value computed from `columns`, in the language of conditions. An amount is rounded half-even."""

    expression: Formula = Field(description="a value made of columns, as conditions write it")
    currency: Currency | None = Field(default=None, description=_CURRENCY)


class RowNumber(_Model):
    """The number of the row after a prefix, for tables without an id of their own."""

    row: PackText = Field(min_length=1, max_length=100, description="what stands before the number of the row")


Spec = PackText | FromColumn | Constant | Computed | RowNumber
"""Where a field's value comes from. A plain name is a column."""


class NamedColumn(Source):
    """A column as expressions see it."""

    type: ColumnType = Field(default="text", description="what a cell of it is")


class OutcomeText(_Model):
    """Which rows have an outcome, which one, and how long after the event it becomes known."""

    when: Formula = Field(description="which rows have an outcome")
    result: PackText = Field(description="the result, such as confirmed_fraud")
    delay: Duration = Field(description="how long after the event it becomes known")
    event_id: Spec | None = Field(default=None, description="the id of the event of the outcome itself")


class MapPack(_Model):
    """The whole mapping file. `zone` is that of times which name none."""

    format: Literal[1] = Field(default=1, description=FORMAT_MEANS)
    map: str = Field(min_length=1, max_length=120, description="its name")
    about: str = Field(default="", max_length=2000, description="what the table holds and where it comes from")
    kind: PackText = Field(description="the kind of event that a row becomes")
    zone: PackText | None = Field(default=None, description="the time zone of times that name none")
    columns: dict[Annotated[str, _NAME], ColumnType | NamedColumn] = Field(
        default={}, max_length=500, description="name in expressions → the column, or what its cells are"
    )
    fields: dict[str, Spec] = Field(
        min_length=1, max_length=500, description="path of a field → the column, or how it is made"
    )
    outcome: OutcomeText | None = Field(default=None, description="which rows became an outcome, such as a fraud")
    refunded: Formula | None = Field(
        default=None, description="which rows were refunded, for the figures of a backtest"
    )
    tier: PackText | FromColumn | None = Field(
        default=None, description="the tier that the merchant had then; where it is empty, the policy's default one"
    )
