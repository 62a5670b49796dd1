"""What an export shows beside the entries themselves: tables for people, made from them in the same pass.

    with Views(folder, "csv") as views:
        for position, record in …: views.add(position, record)
        views.close(keys, lists, listed)

Tables are derived: what counts are the entries. Each row has its position in the log and its id to find it by.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol, Self, TypeAlias

import orjson
import pyarrow as pa

from cli.tables import ParquetRows, stamp
from engine.records import summary

Form: TypeAlias = Literal["jsonl", "csv", "parquet"]
FORMS: tuple[Form, ...] = ("jsonl", "csv", "parquet")

AFTER = ("resolution", "notice", "appeal")
"""The types of records that come after a decision: one table has them all."""

Row: TypeAlias = Mapping[str, Any]
Columns: TypeAlias = Mapping[str, str]
"""Name → text, number, time (UTC microseconds) or list (of texts)."""

_EVENT = {"position": "number", "id": "text", "tenant": "text"}
_BY = {"by": "text", "by_kind": "text", "person": "text"}
DECISIONS: Columns = {
    **_EVENT,
    **dict.fromkeys(("event_id", "kind", "order_id"), "text"),
    **dict.fromkeys(("at", "received_at"), "time"),
    "verdict": "text",
    "score": "number",
    "anomaly": "text",
    "tier": "text",
    **dict.fromkeys(("signals", "rules", "actions", "degraded"), "list"),
    "rulebook": "text",
}
RESOLUTIONS: Columns = {
    **_EVENT,
    "at": "time",
    "refers_to": "text",
    "what": "text",
    "said": "text",
    "counted": "text",
    "before": "text",
    "verdict": "text",
    **_BY,
}
CHANGES: Columns = {
    **_EVENT,
    "at": "time",
    "what": "text",
    "object": "text",
    "before": "text",
    "after": "text",
    "diff": "list",
    "tests": "number",
    **_BY,
    "approves": "text",
    "decisions": "number",
}
ACCESS: Columns = {
    **_EVENT,
    "at": "time",
    "what": "text",
    "object": "text",
    "purpose": "text",
    "count": "number",
    **_BY,
}
LISTS: Columns = {
    **dict.fromkeys(("tenant", "list", "hash", "rulebook", "files"), "text"),
    **dict.fromkeys(("changes", "entries"), "number"),
}
LISTED: Columns = {
    **dict.fromkeys(("tenant", "list", "entry"), "text"),
    "expires": "time",
    **dict.fromkeys(("since", "until"), "number"),
}
KEYS: Columns = {
    "tenant": "text",
    "name": "text",
    "kind": "text",
    "scopes": "list",
    "granted": "time",
    "expires": "time",
    "revoked": "time",
    "records": "number",
    "last_record": "number",
}
TABLES: Mapping[str, Columns] = {
    "decisions": DECISIONS,
    "resolutions": RESOLUTIONS,
    "changes": CHANGES,
    "access": ACCESS,
    "lists": LISTS,
    "listed": LISTED,
    "keys": KEYS,
}


class Pinned(NamedTuple):
    """A list as decisions pin it."""

    tenant: str
    list: str
    hash: str
    rulebook: str


class Views:
    """The tables of one export, written as entries come; of those about few things some rows wait for the end."""

    def __init__(self, folder: Path, form: Form) -> None:
        self._stack = ExitStack()
        self._tables = {
            name: _writer(self._stack.enter_context((folder / f"{name}.{form}").open("wb")), form, columns)
            for name, columns in TABLES.items()
        }
        self.pinned: set[Pinned] = set()
        """Every list as it was for some decision."""
        self._changes: list[dict[str, Any]] = []
        """Those of the rulebook: how many decisions followed is known at the end."""
        self._under: Counter[str] = Counter()
        """How many decisions each rulebook gave."""
        self._added: dict[str, str] = {}
        """Who asked for what waits for a second person, by what it is about."""
        self._named: dict[tuple[str, str], tuple[int, int]] = {}
        """(tenant, name) → how many records name it, and the position of the last."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, position: int, record: Row) -> None:
        """Take one record in; that of a change of the rulebook with `diff`, what differs, and `tests`, how many the new
        one had passed to come into force."""
        kind, tenant = record["type"], record["tenant"]
        if kind == "event":
            return
        base = {"position": position, "id": record["id"], "tenant": tenant, "at": record.get("decided_at")}
        if kind == "decision":
            pins = record["pins"]
            self._under[pins["rulebook"]] += 1
            book = pins["rulebook"]
            self.pinned.update(Pinned(tenant, name, held, book) for name, held in pins["lists"].items())
            self._tables["decisions"].write({**base, **_decision(record)})
            return
        by = record["by"]
        base |= {"by": by["name"], "by_kind": by["kind"], "person": by["person"]}
        count, _ = self._named.get((tenant, by["name"]), (0, 0))
        self._named[tenant, by["name"]] = (count + 1, position)
        if kind in AFTER:
            self._tables["resolutions"].write({**record, **base})
        elif kind == "change" and record["what"] == "rulebook":
            self._changes.append({**record, **base})
        elif kind == "change":
            self._tables["changes"].write({**record, **base, "diff": [], "approves": self._approves(record)})
        else:
            self._tables["access"].write({**record, **base})

    def _approves(self, record: Row) -> str:
        """Who asked for what this change of a list entry, or of a proposed rulebook, lets happen or stops."""
        what, of = record["what"], record["object"]
        if what in ("list_entry_added", "list_entry_end_asked", "rulebook_proposed"):
            self._added[of] = record["by"]["person"] or record["by"]["name"]
        elif what in ("list_entry_approved", "list_entry_ended"):
            return self._added.pop(of, "")
        elif what in ("rulebook_approved", "rulebook_declined"):
            return self._added.get(of, "")
        return ""

    def close(self, keys: Iterable[Row], lists: Iterable[Row], listed: Iterable[Row]) -> None:
        """Write what waited, who held which `keys` of the API, and what was on the `lists`."""
        for name, rows in (("lists", lists), ("listed", listed)):
            for row in rows:
                self._tables[name].write(row)
        for change in self._changes:
            self._tables["changes"].write({**change, "approves": "", "decisions": self._under[change["after"]]})
        for key in keys:
            count, last = self._named.get((key["tenant"], key["name"]), (0, None))
            self._tables["keys"].write({**key, "records": count, "last_record": last})
        for table in self._tables.values():
            table.close()


def _decision(record: Row) -> Row:
    return {
        **summary(record),
        "anomaly": record["anomaly"],
        "tier": record["situation"]["tier"],
        "actions": [action["do"] for action in record["actions"]],
        "degraded": record["situation"]["degraded"],
        "rulebook": record["pins"]["rulebook"],
    }


class _Table(Protocol):
    """Takes rows; columns that a row lacks are empty, those it has too many are left out."""

    def write(self, row: Row) -> None: ...
    def close(self) -> None: ...


def _writer(to: BinaryIO, form: Form, columns: Columns) -> _Table:
    made: Mapping[Form, Callable[[BinaryIO, Columns], _Table]] = {"csv": _CSV, "jsonl": _JSONL, "parquet": _Parquet}
    return made[form](to, columns)


_MONTH = "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
NOT_TEXT = re.compile(
    r"[\s]*[=+\-@\uff1d\uff0b\uff0d\uff20]"  # a formula, also behind blanks and in full width
    r"|[\t\r\n]"
    # 1, .5, (100), $5, 50 %, 2026-11-29, 1月2日, 9:30 pm
    r"|[.($\u20ac\u00a3\u00a5\uffe5]*[0-9][0-9.,e/:+\-%\u5e74\u6708\u65e5) ]*([ap]m)?$"
    rf"|{_MONTH}[ \-/,.]*[0-9]{{1,4}}([ \-/,.]+[0-9]{{1,4}})?$"  # MAR1, Jan-5, Jan 5, 2026
    rf"|[0-9]{{1,4}}[ \-/.]*{_MONTH}([ \-/,.]*[0-9]{{1,4}})?$"  # 5 Jan, 5-JAN-2026
    r"|(true|false)$",
    re.IGNORECASE,
)
"""What a spreadsheet would take for a formula, or turn into a number, a date or a truth value."""
_AFTER = re.compile(r"(;\s*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""Where a formula would begin in countries whose spreadsheets part cells at ';'."""


class _CSV:
    """For spreadsheets: UTF-8 with a mark of its own at the start, and an apostrophe before every text that a
    spreadsheet would not leave as it is. Lists with ';' between, times in ISO 8601 with their zone."""

    def __init__(self, to: BinaryIO, columns: Columns) -> None:
        self._columns = columns
        self._text = io.TextIOWrapper(to, encoding="utf-8-sig", newline="")
        self._csv = csv.writer(self._text, lineterminator="\r\n")
        self._csv.writerow(columns)

    def write(self, row: Row) -> None:
        self._csv.writerow([_cell(row.get(name), kind) for name, kind in self._columns.items()])

    def close(self) -> None:
        self._text.flush()
        self._text.detach()


def _cell(value: Any, kind: str) -> str:
    if value is None:
        return ""
    if kind == "number":
        return str(value)
    if kind == "time":
        return stamp(value)
    text = ";".join(value) if kind == "list" else str(value)
    return as_text(text)


def as_text(text: str) -> str:
    """`text` so that a spreadsheet leaves it as it is, also one that parts cells at ';'."""
    text = _AFTER.sub(r"\1'", text)
    return f"'{text}" if NOT_TEXT.match(text) else text


class _JSONL:
    def __init__(self, to: BinaryIO, columns: Columns) -> None:
        self._to = to
        self._columns = columns

    def write(self, row: Row) -> None:
        told: dict[str, Any] = {name: row.get(name) for name in self._columns}
        times = {name: stamp(told[name]) for name, kind in self._columns.items() if kind == "time" and told[name]}
        self._to.write(orjson.dumps(told | times, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        self._to.flush()


_TYPES = {"text": pa.string(), "number": pa.int64(), "time": pa.timestamp("us", "UTC"), "list": pa.list_(pa.string())}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Parquet:
    def __init__(self, to: BinaryIO, columns: Columns) -> None:
        self._columns = columns
        self._rows = ParquetRows(to, pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()]))

    def write(self, row: Row) -> None:
        told: dict[str, Any] = {name: row.get(name) for name in self._columns}
        for name, kind in self._columns.items():
            if kind == "time" and told[name] is not None:
                told[name] = _EPOCH + timedelta(microseconds=told[name])
        self._rows.add(told)

    def close(self) -> None:
        self._rows.close()
