"""`audit reconcile`: the shop's own orders beside the verdicts. A log cannot show what was never logged."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import tzinfo
from itertools import islice
from pathlib import Path
from typing import Any

import click
import orjson

from cli.group import counted
from cli.opened import moment, with_ledger
from cli.orders import FINDINGS, STATES, Finding, Order, Reconciliation, Taken, Words
from cli.replaying import ENTRIES
from cli.views import as_text
from engine.errors import PackError, Problem, RequestRefused, did_you_mean
from engine.ledger import Filter, Ledger
from engine.mapping.cells import BadCell, iso, time_zone
from engine.money import Money
from engine.packs.moments import DAY, day_of, end_of, start_of

COLUMNS = ("order_id", "event_id", "at", "channel", "amount", "currency", "state")
NEEDED = ("order_id", "at", "state")
SHOWN = 20
RULING = ("resolution", "appeal")
"""The records after a decision that may give another verdict."""
"""Findings that are listed where they go into no file."""


@click.command(short_help="Compare the shop's orders with the verdicts: what was never asked, or not obeyed.")
@click.argument("orders", metavar="ORDERS.csv", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--export", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Verdicts from this export, instead of the ledger in the settings.")  # fmt: skip
@click.option("--column", "columns", metavar="NAME=COLUMN", multiple=True, help="What a column of the file is called.")
@click.option("--state", "states", metavar="STATE=WORD", multiple=True,
              help="What a state is called in the file: captured, cancelled or open.")  # fmt: skip
@click.option("--zone", help="Of times that name none, such as Asia/Shanghai.")
@click.option("--from", "since", metavar="DAY", help="First day on which each verdict needs an order.")
@click.option("--to", "until", metavar="DAY", help="Last day, included.")
@click.option("--tenant", help="Whose verdicts, where there are several tenants.")
@click.option("--kind", default="transaction", show_default=True, help="The kind of event that an order is.")
@click.option("--approved", default="approve", show_default=True, help="The verdict that lets an order through.")
@click.option("--declined", default="decline", show_default=True, help="The verdict that does not.")
@click.option("--without-declined", is_flag=True, help="The file has no declined orders: such verdicts need none.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Every finding, as a CSV file.")
@click.option("--json", "as_json", is_flag=True, help="Counts and findings as JSON lines instead of a table.")
def reconcile(
    orders: Path,
    folder: Path | None,
    columns: tuple[str, ...],
    states: tuple[str, ...],
    zone: str | None,
    since: str | None,
    until: str | None,
    tenant: str | None,
    kind: str,
    approved: str,
    declined: str,
    without_declined: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compare orders, as the shop's own system has them, with the verdicts: per day and channel, with ids.

    \b
    orders without a verdict     Arbiter was never asked
    verdicts without an order    on the days of the file, or --from and --to
    declined, but captured       and captured while a challenge or a review was still open
    approved, but altered        the order has another amount or currency than was judged

    ORDERS.csv is UTF-8 with a header; its columns are order_id, at and state, and where they are there event_id,
    channel, amount and currency (or an amount such as 4980.00 CNY). --column says where one has another name. A state
    is captured, cancelled or open; --state says which word stands for it. A row with an event_id is compared with the
    verdict on that event, one without with the last verdict on its order. Days are those of Asia/Shanghai.

    The exit code is 1 when anything is off, or a row could not be read.

    \b
    Examples:
      arbiter audit reconcile orders.csv --export november --out off.csv
      arbiter audit reconcile orders.csv --column order_id=OrderNo --state captured=paid --state captured=shipped
      arbiter audit reconcile orders.csv --zone Asia/Shanghai --without-declined --json
    """
    named, words = _columns(columns), Words(approved, declined)
    read = _Reading(orders, named, _states(states), iso(_zone(zone)))
    with Reconciliation.opened() as work:
        read.into(work)
        period = _period(work, since, until)
        if folder is not None:
            _from_export(folder, work, tenant, kind)
        else:
            with_ledger(lambda ledger: _from_ledger(ledger, work, tenant, kind))
        _check_words(work, words)
        work.compare(*period, declined_too=not without_declined, words=words)
        off = _tell(work, period, out, as_json)
    raise SystemExit(int(off))


def _check_words(work: Reconciliation, words: Words) -> None:
    """UsageError for a verdict that was named and that no decision has: it would find nothing, without a word."""
    known, usual = work.verdicts(), Words()
    named = (("--approved", words.approved, usual.approved), ("--declined", words.declined, usual.declined))
    for option, verdict, default in named:
        if verdict not in known and verdict != default:
            raise click.UsageError(f"{option} {verdict}: no decision has this verdict, but {', '.join(sorted(known))}")


def _columns(given: tuple[str, ...]) -> dict[str, str]:
    """Our name → the column's."""
    return {name: name for name in COLUMNS} | dict(_pairs(given, "--column", COLUMNS))


def _states(given: tuple[str, ...]) -> dict[str, Any]:
    """The word of the file → our state."""
    return {state: state for state in STATES} | {word: state for state, word in _pairs(given, "--state", STATES)}


def _pairs(given: tuple[str, ...], option: str, known: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for each in given:
        name, sign, value = each.partition("=")
        if not sign or not value:
            raise click.UsageError(f"{option} {each}: write NAME=WORD")
        if name not in known:
            raise click.UsageError(f"{option} {each}: {did_you_mean(name, known) or 'one of ' + ', '.join(known)}")
        yield name, value


def _zone(name: str | None) -> tzinfo | None:
    zone = None if name is None else time_zone(name)
    if name is not None and zone is None:
        raise click.UsageError(f"--zone {name}: there is no such time zone; such as Asia/Shanghai, UTC or +08:00")
    return zone


def _period(work: Reconciliation, since: str | None, until: str | None) -> tuple[int, int]:
    """From the first day of the file until the end of its last one, where nothing else is said."""
    days = work.days()
    if days is None:
        raise RequestRefused("the file holds no order that can be read")
    begin = moment(since, start_of, "--from")
    end = moment(until, end_of, "--to")
    first, last = (start_of(day_of(at).isoformat()) for at in days)
    begin, end = first if begin is None else begin, last + DAY if end is None else end
    if begin >= end:
        what = "no moment lies between --from and --to; without one of them the days of the file count"
        raise click.UsageError(f"{what}: {day_of(first)} to {day_of(last)}")
    return begin, end


class _Reading:
    """The orders of a file, a row at a time."""

    def __init__(
        self, path: Path, columns: Mapping[str, str], states: Mapping[str, Any], time: Callable[[str], int]
    ) -> None:
        self._path = path
        self._columns = columns
        self._states = states
        self._time = time

    def into(self, work: Reconciliation) -> None:
        """Take all of them in. PackError where the file is no such table."""
        with self._path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            try:
                header = self._header(next(rows, []))
                for number, cells in enumerate(rows, 1):
                    if cells:
                        self._row(work, number, header, cells)
            except UnicodeDecodeError:
                self._refuse("this is not UTF-8 text", "save the file as UTF-8", rows.line_num + 1)
            except csv.Error:
                self._refuse("the quotes of this row do not fit together", "see RFC 4180", rows.line_num)

    def _header(self, cells: list[str]) -> dict[str, int]:
        lacking = [self._columns[name] for name in NEEDED if self._columns[name] not in cells]
        lacking += [column for name, column in self._columns.items() if column != name and column not in cells]
        if lacking:
            hint = f"its columns are {', '.join(cells[:12]) or 'none'}; say --column NAME=COLUMN"
            self._refuse(f"the file has no column '{lacking[0]}'", hint, 1)
        return {name: cells.index(column) for name, column in self._columns.items() if column in cells}

    def _refuse(self, what: str, hint: str, line: int) -> None:
        raise PackError([Problem(str(self._path), line, 1, what, hint)]) from None

    def _row(self, work: Reconciliation, number: int, header: Mapping[str, int], cells: list[str]) -> None:
        try:
            if len(cells) <= max(header.values()):
                raise ValueError(f"{len(cells)} cells, which are too few")
            work.order(self._order(number, {name: cells[at].strip() for name, at in header.items()}))
        except Taken as taken:
            work.reject(number, str(taken))
        except BadCell as bad:
            work.reject(number, f"at: {bad.what}; write 2026-11-20T08:30:00+08:00, or say --zone")
        except ArithmeticError:
            work.reject(number, "a number or a time that is beyond all bounds")
        except ValueError as error:
            work.reject(number, str(error))

    def _order(self, number: int, cell: Mapping[str, str]) -> Order:
        if not cell["order_id"]:
            raise ValueError("order_id is empty")
        if cell["state"] not in self._states:
            raise ValueError("state is none of " + ", ".join(self._states))
        return Order(
            number,
            cell["order_id"],
            cell.get("event_id", ""),
            self._time(cell["at"]),
            cell.get("channel", ""),
            _money(cell.get("amount", ""), cell.get("currency", "")),
            self._states[cell["state"]],
        )


def _money(amount: str, currency: str) -> Money | None:
    if not amount:
        return None
    try:
        return Money.of(amount, currency) if currency else Money.parse(amount)
    except ValueError as error:
        raise ValueError(f"amount: {error}") from None


# Verdicts


def _from_export(folder: Path, work: Reconciliation, tenant: str | None, kind: str) -> None:
    if not (folder / ENTRIES).is_file():
        raise RequestRefused(f"{folder} holds no {ENTRIES}: it is no export")
    seen: set[str] = set()
    with (folder / ENTRIES).open("rb") as file:
        for place, line in enumerate(file):  # In the order of the log.
            record = orjson.loads(line)
            if record["type"] in ("decision", *RULING) and tenant in (None, record["tenant"]):
                seen.add(record["tenant"])
                _one_tenant(seen)
                _take(work, record, kind, place)


async def _from_ledger(ledger: Ledger, work: Reconciliation, tenant: str | None, kind: str) -> None:
    tenants = [each for each in await ledger.tenants() if each != "*"] if tenant is None else [tenant]
    _one_tenant(tenants)
    for each in tenants:
        for wanted in (Filter(kind="decision", event_kind=kind), *(Filter(kind=name) for name in RULING)):
            async for stored in ledger.all(each, wanted):
                _take(work, orjson.loads(stored.entry.leaf), kind, stored.arrival)


def _one_tenant(tenants: Any) -> None:
    """The ids of orders are those of one tenant."""
    if len(tenants) > 1:
        raise RequestRefused(f"there are several tenants: say --tenant, one of {', '.join(sorted(tenants))}")


def _take(work: Reconciliation, record: Mapping[str, Any], kind: str, place: int) -> None:
    if record["type"] in RULING:
        work.ruled(record, place)
    elif record["event"]["kind"] == kind:
        work.judged(record)


# What came of it


def _tell(work: Reconciliation, period: tuple[int, int], out: Path | None, as_json: bool) -> bool:
    """Say it; whether anything is off."""
    rows = _table(work, period)
    if as_json:
        for row in rows:
            click.echo(orjson.dumps({"type": "count", **row}))
        for each in work.findings():
            click.echo(orjson.dumps({"type": "finding", **each._asdict()}))
        for number, what in work.rejected():
            click.echo(orjson.dumps({"type": "rejected", "row": number, "what": what}))
    else:
        click.echo("\n".join(_lines(rows)))
        for number, what in islice(work.rejected(), SHOWN):
            click.echo(f"row {number}: {what}", err=True)
    total = {name: sum(row[name] for row in rows) for name in FINDINGS}
    if out is not None:
        with _csv(out) as write:
            for each in work.findings():
                write(each)
    elif not as_json:
        _list(work, sum(total.values()))
    said = [f"{words}: {total[name]:,}" for name, words in FINDINGS.items() if total[name]]
    unread = sum(1 for _ in work.rejected())
    said += [f"rows that could not be read: {unread:,}"] if unread else []
    click.echo("; ".join(said) or "everything goes together", err=True)
    return bool(said)


def _table(work: Reconciliation, period: tuple[int, int]) -> list[dict[str, Any]]:
    """Day and channel, with the counts of orders, verdicts and each sort of finding."""
    nothing = {"orders": 0, "verdicts": 0, **dict.fromkeys(FINDINGS, 0)}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for day, channel, orders, verdicts in work.counts(*period):
        rows[day, channel] = {**nothing, "orders": orders, "verdicts": verdicts}
    for day, channel, finding, count in work.sums():
        rows.setdefault((day, channel), {**nothing})[finding] = count
    return [{"day": day, "channel": channel, **rows[day, channel]} for day, channel in sorted(rows)]


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    names = ("orders", "verdicts", *FINDINGS)
    yield f"{'day':<12}{'channel':<14}" + "".join(f"{name:>20}" for name in names)
    for row in rows:
        yield f"{row['day']:<12}{row['channel'] or '-':<14}" + "".join(f"{row[name]:>20,}" for name in names)


def _list(work: Reconciliation, total: int) -> None:
    for number, each in enumerate(work.findings()):
        if number == SHOWN:
            click.echo(f"… and {counted(total - SHOWN, 'more', 'more')}: --out has all of them")
            return
        amounts = f"  judged {each.judged or '-'}, ordered {each.ordered}" if each.finding == "altered" else ""
        about = f"order {each.order_id or '-'}, event {each.event_id or '-'}, verdict {each.verdict or '-'}"
        click.echo(f"{each.day}  {each.finding:<19}{about}{amounts}")


@contextmanager
def _csv(out: Path) -> Iterator[Callable[[Finding], None]]:
    """A file for spreadsheets: UTF-8 with a byte order mark, and no cell that one would compute."""
    with out.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Finding._fields)
        # The day is ours, and a date; what the shop wrote is text, whatever it looks like.
        yield lambda each: writer.writerow(Finding(*map(as_text, each))._replace(day=each.day))
