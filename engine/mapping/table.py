"""A mapping file, checked and compiled to functions over rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from pathlib import Path
from typing import Any, NoReturn

from engine.errors import EventRefused, FieldProblem, PackError, Problem, did_you_mean, with_article
from engine.expr import BOOL, NUMBER, RESERVED, Env, Expression, Node, Type, Vocabulary, names_in, value_of
from engine.expr import read as read_expression
from engine.mapping import cells as cell
from engine.mapping.cells import BadCell, Cells, Give, Parse
from engine.mapping.pack import (
    Computed,
    Constant,
    Currency,
    CurrencyColumn,
    FromColumn,
    MapPack,
    NamedColumn,
    RowNumber,
    Source,
    Spec,
)
from engine.money import CURRENCIES
from engine.packs import Document, Loc, PackText, text, validate
from engine.packs import read as read_document
from engine.schema import Event, FieldDef, Schema

_NO_ENV = Env(0, 0, {}, lambda *_: None)


_TIER = FieldDef("tier", "text", "The merchant's tier", "standard", "a name of the policy")


@dataclass(frozen=True)
class Beside:
    """What a row says beside its event: the tier that the merchant had then ("" for the policy's default one), and
    whether the order was refunded (None where it does not say)."""

    tier: str = ""
    refunded: bool | None = None


@dataclass(frozen=True)
class Table:
    """A mapping. `columns` are those of the table that it reads, in the order of the cells; `delay` is that of the
    outcomes in microseconds, None when rows have none; `outcome_is` their result."""

    name: str
    kind: str
    columns: tuple[str, ...]
    delay: int | None
    outcome_is: str
    _document: Document = field(repr=False)
    _places: Mapping[str, Sequence[tuple[Loc, bool]]] = field(repr=False)
    _schema: Schema = field(repr=False)
    _gives: Mapping[str, Give] = field(repr=False)
    _when: Mapping[str, Give] = field(repr=False)
    _outcome: Mapping[str, Give] = field(repr=False)
    _beside: Mapping[str, Give] = field(repr=False)
    _sources: Mapping[str, tuple[str, ...]] = field(repr=False)

    @property
    def has_tiers(self) -> bool:
        """Whether rows say which tier a merchant had."""
        return "tier" in self._beside

    @property
    def has_refunds(self) -> bool:
        """Whether rows say which orders were refunded."""
        return "refunded" in self._beside

    def check(self, header: Iterable[str]) -> None:
        """Raises PackError when the table lacks columns, each at its place in the mapping file."""
        known = list(header)
        problems = [
            self._document.problem(loc, f"the table has no column '{name}'", _near(name, known), key=key)
            for name, places in self._places.items()
            if name not in known
            for loc, key in places
        ]
        if problems:
            raise PackError(problems)

    def times(self, cells: Cells, row: int) -> tuple[int, int | None]:
        """When the row's event happened, and when its outcome becomes known (None: it has none), UTC microseconds.

        `row` counts from 1. Where `when` is unknown there is no outcome. Raises EventRefused.
        """
        given, problems = _given({"at": self._gives["at"], **self._when, **self._beside}, cells, row)
        if not problems and given["at"] is None:
            problems = [FieldProblem("at", "missing_field", "the cell is empty")]
        if problems:
            self._refuse(problems, cells, row)
        if self.delay is None or given["outcome.when"] is not True:
            return given["at"], None
        return given["at"], given["at"] + self.delay

    def beside(self, cells: Cells, row: int) -> Beside:
        """What the row says beside its event. The cells are those that `times` has read."""
        if not self._beside:
            return _BESIDE
        given, problems = _given(self._beside, cells, row)
        assert not problems, "times has refused the row"
        return Beside(given.get("tier") or "", given.get("refunded"))

    def event(self, cells: Cells, row: int, tenant: str = "") -> Event:
        """The row's event, received when it happened. Raises EventRefused with every reason."""
        body, problems = _given(self._gives, cells, row)
        if problems:
            self._refuse(problems, cells, row)
        return self._built(body, tenant)

    def _built(self, body: Mapping[str, Any], tenant: str = "") -> Event:
        at = body.get("at")
        return self._schema.build(body, received_at=at if type(at) is int else 0, kind=self.kind, tenant=tenant)

    def _refuse(self, problems: Sequence[FieldProblem], cells: Cells, row: int) -> NoReturn:
        """Raise with `problems`, and with all else that is wrong with the row: one bad cell hides no other."""
        body, more = _given(self._gives, cells, row)
        told = [*problems, *(each for each in more if each not in problems)]
        paths = {each.path for each in told}
        try:
            self._built(body)
        except EventRefused as error:
            told += (each for each in error.problems if each.path not in paths)
        raise EventRefused(told)

    def sources(self, path: str) -> tuple[str, ...]:
        """The columns of the table that the field of a problem came from; none for what is in no column."""
        bare = re.sub(r"\[\d+\]", "", path)
        while bare and bare not in self._sources:
            bare = bare.rpartition(".")[0]
        return self._sources.get(bare, ())

    def outcome(self, cells: Cells, row: int, about: Event) -> Event:
        """The outcome of a row that has one; `about` is the row's event. Raises EventRefused."""
        assert self.delay is not None, "this mapping has no outcomes"
        at = about.at + self.delay
        given, problems = _given(self._outcome, cells, row)
        if problems:
            raise EventRefused(problems)
        body = {"event_id": f"outcome-{about.id}", **given, "at": at, "outcome.refers_to": about.id}
        return self._schema.build(body, received_at=at, kind="outcome", tenant=about.tenant)


_BESIDE = Beside()


def _near(name: str, known: Sequence[str]) -> str:
    shown = ", ".join(known[:12]) + (" …" if len(known) > 12 else "")
    return did_you_mean(name, known) or f"its columns are {shown}"


def _given(gives: Mapping[str, Give], cells: Cells, row: int) -> tuple[dict[str, Any], list[FieldProblem]]:
    """What a row gives to each field, and what is wrong with its cells."""
    values: dict[str, Any] = {}
    problems = []
    for path, give in gives.items():
        try:
            values[path] = give(cells, row)
        except BadCell as bad:
            problems.append(FieldProblem(path, bad.code, bad.what, bad.hint))
    return values, problems


def read_map(path: Path, schema: Schema) -> Table:
    """The mapping in a file, against the fields of `schema`. Raises PackError with every problem of the file `path`."""
    document = read_document(path, root=path.resolve().parent, name=path.as_posix())
    return _Compiling(document, validate(document, MapPack), schema).table()


class _Compiling:
    """One mapping file on its way to functions; problems pile up, so that all are told at once."""

    def __init__(self, document: Document, pack: MapPack, schema: Schema) -> None:
        self.document = document
        self.pack = pack
        self.kind = str(pack.kind)
        self.schema = schema
        self.problems: list[Problem] = []
        self.places: dict[str, list[tuple[Loc, bool]]] = {}
        self.named = {
            name: column if isinstance(column, NamedColumn) else NamedColumn(column=text(name), type=column)
            for name, column in pack.columns.items()
        }

    def table(self) -> Table:
        pack = self.pack
        kinds = [name for name in self.schema.kinds if name != "outcome"]
        if self.kind not in kinds:
            hint = did_you_mean(self.kind, kinds) or "one of " + ", ".join(kinds)
            self.wrong(("kind",), f"there is no kind of event '{self.kind}' for a table", hint)
            raise PackError(self.problems)
        self.zone(pack.zone, ("zone",))
        for name, column in self.named.items():
            self.name_is_free(name)
            self.reader(column.type, column, ("columns", name))
        gives = dict(self.fields())
        when, outcome, beside = *self.outcomes(), dict(self.beside())
        self.required()
        if self.problems:
            raise PackError(self.problems)
        return Table(
            pack.map,
            self.kind,
            tuple(self.places),
            pack.outcome.delay if pack.outcome else None,
            str(pack.outcome.result) if pack.outcome else "",
            self.document,
            self.places,
            self.schema,
            gives,
            when,
            outcome,
            beside,
            dict(self.sources()),
        )

    def wrong(self, loc: Loc, what: str, hint: str = "", *, key: bool = False) -> None:
        problem = self.document.problem(loc, what, hint, key=key)
        if problem not in self.problems:
            self.problems.append(problem)

    # The parts of the file

    def name_is_free(self, name: str) -> None:
        if name in RESERVED or name in ("now", "true", "false"):
            hint = f"call it otherwise: {name}_is: {{column: {name}}}"
            self.wrong(("columns", name), f"'{name}' is a word of the language of conditions", hint, key=True)

    def fields(self) -> Iterator[tuple[str, Give]]:
        known = self.schema.body_fields(self.kind)
        for path, spec in self.pack.fields.items():
            if path == "kind":
                self.wrong(("fields", path), "the kind stands once, at the top of the file", key=True)
            elif path not in known:
                hint = did_you_mean(path, known) or "own fields are declared in policies/schema.yaml"
                self.wrong(("fields", path), f"{with_article(self.kind)} has no field '{path}'", hint, key=True)
            else:
                yield path, self.give(spec, known[path], ("fields", path))

    def sources(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each field, and the columns it comes from."""
        outcome = self.pack.outcome
        specs: dict[str, Spec] = dict(self.pack.fields)
        if outcome is not None:
            specs["outcome.when"] = Computed(expression=outcome.when)
        if self.pack.refunded is not None:
            specs["refunded"] = Computed(expression=self.pack.refunded)
        if self.pack.tier is not None:
            specs["tier"] = self.pack.tier
        for path, spec in specs.items():
            yield path, tuple(dict.fromkeys(self.columns_of(spec)))

    def columns_of(self, spec: Spec) -> Iterator[str]:
        if isinstance(spec, str):
            yield str(spec)
        elif isinstance(spec, FromColumn):
            yield str(spec.column)
        elif isinstance(spec, Computed):
            names = names_in(spec.expression)
            yield from (str(column.column) for name, column in self.named.items() if name in names)
        if isinstance(spec, FromColumn | Computed) and isinstance(spec.currency, CurrencyColumn):
            yield str(spec.currency.column)

    def required(self) -> None:
        for path in self.schema.required(self.kind):
            if path not in self.pack.fields:
                self.wrong(("fields",), f"'{path}' is missing: every {self.kind} has it", key=True)

    def outcomes(self) -> tuple[dict[str, Give], dict[str, Give]]:
        pack = self.pack.outcome
        if pack is None:
            return {}, {}
        fields = self.schema.body_fields("outcome")
        results = fields["outcome.result"].choices
        if pack.result not in results:
            hint = did_you_mean(pack.result, results) or "one of " + ", ".join(results)
            self.wrong(("outcome", "result"), f"there is no outcome '{pack.result}'", hint)
        gives = {"outcome.result": cell.constant(str(pack.result))}
        if pack.event_id is not None:
            gives["event_id"] = self.give(pack.event_id, fields["event_id"], ("outcome", "event_id"))
        return {"outcome.when": self.evaluated(pack.when, BOOL)}, gives

    def beside(self) -> Iterator[tuple[str, Give]]:
        if self.pack.tier is not None:
            yield "tier", self.give(self.pack.tier, _TIER, ("tier",))
        if self.pack.refunded is not None:
            yield "refunded", self.evaluated(self.pack.refunded, BOOL)

    # Where a value comes from

    def give(self, spec: Spec, field: FieldDef, loc: Loc) -> Give:
        if isinstance(spec, Constant):
            return self.constant(spec, field, loc)
        if isinstance(spec, RowNumber):
            if field.type != "text":
                self.wrong(loc, f"'{field.path}' is {_a(field.type)}; the number of a row is for ids")
            return cell.numbered(str(spec.row))
        if isinstance(spec, Computed):
            return self.computed(spec, field, loc)
        if isinstance(spec, FromColumn):
            return self.copied(spec, field, loc, (*loc, "column"))
        return self.copied(FromColumn(column=spec), field, loc, loc)

    def copied(self, spec: FromColumn, field: FieldDef, loc: Loc, place: Loc) -> Give:
        kind, index = _element(field), self.index(spec.column, place)
        parse = self.reader(kind, spec, loc)
        currency = self.currency(spec.currency, field, loc, f"{{column: {spec.column}, currency: CNY}}")
        if spec.split is not None and not field.many:
            self.wrong((*loc, "split"), f"'{field.path}' is one value, not a list", key=True)
        if kind != "money":
            return cell.cell_at(index, parse, field.many, spec.split)
        give = cell.amount(index, currency)
        return cell.listed(give) if field.many else give

    def computed(self, spec: Computed, field: FieldDef, loc: Loc) -> Give:
        kind = _element(field)
        give = self.evaluated(spec.expression, NUMBER if kind == "money" else Type(kind))
        currency = self.currency(spec.currency, field, loc, "{expression: …, currency: CNY}")
        if kind == "money":
            give = cell.priced(give, currency)
        return cell.listed(give) if field.many else give

    def constant(self, spec: Constant, field: FieldDef, loc: Loc) -> Give:
        value = _plain(spec.value)
        if field.many and not isinstance(value, list):
            value = [value]
        kind = self.kind if loc[0] == "fields" else "outcome"
        body = {**self.schema.sample_fields(kind), field.path: value}
        try:
            built = self.schema.build(body, received_at=0, kind=kind)
            value = built.at if field.path == "at" else value  # a cell gives it in microseconds, too
        except EventRefused as refused:
            for problem in refused.problems:
                if problem.path.partition("[")[0] == field.path:
                    self.wrong((*loc, "value"), f"{field.path}: {problem.what}", problem.hint)
        return cell.constant(value)

    def index(self, column: str, loc: Loc, *, key: bool = False) -> int:
        self.places.setdefault(str(column), []).append((loc, key))
        return list(self.places).index(str(column))

    def currency(self, currency: Currency | None, field: FieldDef, loc: Loc, example: str) -> str | int:
        """A code, or the index of the column that holds it."""
        if _element(field) != "money":
            if currency is not None:
                self.wrong((*loc, "currency"), f"'{field.path}' is no amount: it has no currency", key=True)
            return ""
        if currency is None:
            self.wrong(loc, f"'{field.path}' is an amount: its currency is missing", f"write {field.path}: {example}")
            return ""
        if isinstance(currency, CurrencyColumn):
            return self.index(currency.column, (*loc, "currency", "column"))
        if currency not in CURRENCIES:
            hint = did_you_mean(currency.upper(), CURRENCIES) or "an ISO 4217 code such as CNY"
            self.wrong((*loc, "currency"), f"'{currency}' is no currency", hint)
        return str(currency)

    # How a cell is read

    def reader(self, kind: str, spec: Source, loc: Loc) -> Parse:
        """How a cell of this type is read; what does not go together with the type is a problem."""
        allowed = {"text": ("ipv4",), "duration": tuple(cell.UNITS)}.get(kind, ())
        if spec.reading is not None and spec.reading not in allowed:
            self.wrong((*loc, "as"), f"'as: {spec.reading}' does not give {_a(kind)}")
        if kind == "instant":
            return self.times(spec, loc)
        for key, given in (("format", spec.form), ("zone", spec.zone)):
            if given is not None:
                self.wrong((*loc, key), f"'{key}' is for times; this is {_a(kind)}", key=True)
        if kind == "duration" and spec.reading in cell.UNITS:
            return cell.length(cell.UNITS[spec.reading])
        return cell.ipv4 if spec.reading == "ipv4" else cell.PARSERS[kind]

    def times(self, spec: Source, loc: Loc) -> Parse:
        zone = self.zone(spec.zone, (*loc, "zone")) or self.zone(self.pack.zone, ("zone",))
        form = spec.form
        if form is None or form == "iso":
            return cell.iso(zone)
        if form in ("unix", "unix_ms"):
            return cell.since_1970(1_000 if form == "unix_ms" else 1_000_000)
        if not cell.readable(form):
            hint = "iso, unix, unix_ms, or a form such as %Y-%m-%d %H:%M:%S"
            self.wrong((*loc, "format"), f"'{form}' is no form of a time", hint)
        elif zone is None and "%z" not in form:
            self.wrong((*loc, "format"), "these times have no zone", "say which: zone: Asia/Shanghai, or zone: UTC")
        return cell.formed(str(form), zone)

    def zone(self, name: PackText | None, loc: Loc) -> tzinfo | None:
        zone = None if name is None else cell.time_zone(name)
        if name is not None and zone is None:
            self.wrong(loc, f"there is no time zone '{name}'", "such as Asia/Shanghai, UTC or +08:00")
        return zone

    # Expressions

    def evaluated(self, source: PackText, expect: Type) -> Give:
        fields = {name: FieldDef(name, column.type, "a column", None, "") for name, column in self.named.items()}
        try:
            expression = read_expression(source, Vocabulary(fields=fields, lists={}), expect)
        except PackError as error:
            self.problems += map(_with_hint, error.problems)
            return cell.nothing
        if expression.windows or _asks_now(expression.tree):
            what = "a mapping sees one row alone: there are no windows and no 'now'"
            self.problems.append(source.problem(0, what, width=len(source)))
            return cell.nothing
        return self.over_cells(expression)

    def over_cells(self, expression: Expression) -> Give:
        evaluate, parts = value_of(expression), []
        for name in sorted(expression.paths):
            column, loc = self.named[name], ("columns", name)
            whole = isinstance(self.pack.columns[name], str)
            index = self.index(column.column, loc if whole else (*loc, "column"), key=whole)
            parts.append((name, index, self.reader(column.type, column, loc)))

        def give(cells: Cells, _: int) -> Any:
            values = {name: parse(found) for name, index, parse in parts if (found := cells[index])}
            return evaluate(values, (), _NO_ENV)

        return give


def _with_hint(problem: Problem) -> Problem:
    if problem.hint or "unknown name" not in problem.what:
        return problem
    return replace(problem, hint="an expression sees what stands under columns:, such as columns: {price: number}")


def _asks_now(node: Node) -> bool:
    return node.text == "now" or any(map(_asks_now, node.children))


def _element(field: FieldDef) -> str:
    return field.type.removeprefix("list[").removesuffix("]")


def _a(kind: str) -> str:
    return {"bool": "a yes or no", "money": "an amount", "instant": "a time", "text": "text"}.get(
        kind, with_article(kind)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [str(item) for item in value]
    return str(value) if isinstance(value, str) else value
