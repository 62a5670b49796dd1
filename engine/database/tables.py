"""The tables.

Times are UTC microseconds since 1970. A pseudonym or key id is 16 bytes here and 32 hex digits everywhere else.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.schema import SchemaItem

# SQLite knows a row number only under the name INTEGER, and holds 64 bits in it.
Int64 = BigInteger().with_variant(Integer(), "sqlite")
metadata = MetaData()


def _required(name: str, kind: Any, *args: Any, **more: Any) -> Column[Any]:
    # Numbers come from the ledger, never from a hidden default of the database.
    return Column(name, kind, *args, nullable=False, autoincrement=False, **more)


def _table(name: str, *items: SchemaItem, clustered: bool = False) -> Table:
    """A table that checks types; `clustered` ones lie in the order of their primary key in SQLite."""
    return Table(name, metadata, *items, sqlite_strict=True, sqlite_with_rowid=not clustered)


batch = _table(
    "batch",
    _required("id", Int64, primary_key=True),
    _required("root", LargeBinary),
    _required("size", Int64),
    # The leaf hashes in order: a receipt's path is computed from this one row, without an index over entries.
    _required("leaves", LargeBinary),
    _required("signed_at", Int64),
    _required("log", Text),
    _required("key_id", Text),
    _required("signature", LargeBinary),
)
"""One row per commit: what its receipts are made of. Append-only."""

entry = _table(
    "entry",
    _required("row", Int64, primary_key=True),
    _required("id", Text),
    _required("tenant", Text),
    _required("kind", Text),
    Column("event_id", Text),
    _required("event_kind", Text),
    _required("at", Int64),
    _required("received_at", Int64),
    Column("order_id", Text),
    Column("merchant_id", Text),
    Column("verdict", Text),
    Column("refers_to", Text),
    _required("leaf", LargeBinary),
    _required("leaf_hash", LargeBinary),
    _required("batch", Int64, ForeignKey("batch.id")),
    _required("batch_index", Int64),
    _required("created", Int64),
)
"""The ledger. `row` is the order of arrival in this database, not a position in a log. Append-only."""

ONE_VERDICT = text("kind IN ('decision', 'event')")
"""The entries of which a (tenant, event id) has at most one."""

Index("entry_id", entry.c.id, unique=True)
Index(
    "entry_event", entry.c.tenant, entry.c.event_id, unique=True, sqlite_where=ONE_VERDICT, postgresql_where=ONE_VERDICT
)
Index("entry_received", entry.c.tenant, entry.c.received_at)

CASES = text("(kind = 'resolution' OR verdict IN ('challenge', 'review'))")
"""The entries that open a case, and those that rule in one."""

Index("entry_cases", entry.c.tenant, entry.c.received_at, sqlite_where=CASES, postgresql_where=CASES)


CHANGES = text("kind = 'change'")
"""The changes of what decides: few, and looked for by what they changed."""

Index("entry_changes", entry.c.event_kind, entry.c.row, sqlite_where=CHANGES, postgresql_where=CHANGES)


ACCESSES = text("kind = 'access'")
"""Looks at personal data and exports: few, and looked for by what was done and when."""

Index(
    "entry_accesses",
    *(entry.c.tenant, entry.c.event_kind, entry.c.received_at),
    sqlite_where=ACCESSES,
    postgresql_where=ACCESSES,
)


APPEALS = text("kind = 'appeal'")
"""The steps of appeals: few, and those that are open are looked for again and again."""

Index("entry_appeals", entry.c.tenant, entry.c.received_at, sqlite_where=APPEALS, postgresql_where=APPEALS)


def _listed(column: Column[Any]) -> None:
    """An index for listing a tenant's entries by `column`, newest first; rows without a value are not in it."""
    held = column.is_not(None)
    name = f"entry_{column.name}"
    Index(name, entry.c.tenant, column, entry.c.received_at, sqlite_where=held, postgresql_where=held)


for _column in (entry.c.order_id, entry.c.merchant_id, entry.c.verdict, entry.c.refers_to):
    _listed(_column)

unplaced = _table(
    "unplaced",
    _required("batch", Int64, ForeignKey("batch.id"), primary_key=True),
    _required("low", Int64),
    _required("high", Int64),
)
"""The batches that have no place in the log yet, written with them. `low` and `high`: their lowest and highest row."""

placed = _table(
    "placed",
    _required("first", Int64, primary_key=True),
    _required("size", Int64),
    _required("batch", Int64, ForeignKey("batch.id"), unique=True),
    _required("low", Int64),
    _required("high", Int64),
)
"""The log: which batch begins at position `first`. The next one begins where it ends. Append-only."""

tile = _table(
    "tile",
    _required("level", Int64, primary_key=True),
    _required("number", Int64, primary_key=True),
    _required("hashes", LargeBinary),
)
"""The tree over the log in tiles of 256 hashes (C2SP tlog-tiles). Can be made again from `placed` and `batch`."""

checkpoint = _table(
    "checkpoint",
    _required("size", Int64, primary_key=True),
    _required("root", LargeBinary),
    _required("note", Text),
    _required("signed_at", Int64),
)
"""What the log's key signed: so many leaves, this root. Append-only."""

anchor = _table(
    "anchor",
    _required("size", Int64, ForeignKey("checkpoint.size"), primary_key=True),
    _required("name", Text, primary_key=True),
    _required("kind", Text),
    _required("at", Int64),
    _required("proof", LargeBinary),
)
"""Who outside saw a checkpoint: a witness's signature, a timestamp, a copy in a folder."""

sealed = _table(
    "sealed",
    _required("entry", Int64, ForeignKey("entry.row"), primary_key=True),
    _required("subject", LargeBinary, primary_key=True),
    _required("tenant", Text),
    _required("key_id", LargeBinary),
    _required("ciphertext", LargeBinary),
    clustered=True,
)
"""Personal data, one ciphertext per record and subject. Deletable."""

subject_key = _table(
    "subject_key",
    _required("key_id", LargeBinary, primary_key=True),
    _required("tenant", Text),
    _required("subject", LargeBinary),
    _required("kek_id", Text),
    _required("wrapped", LargeBinary),
    _required("created", Int64),
    clustered=True,
)
"""The wrapped data keys of a subject, one or several. Deleting them is erasure. There is no index over `subject`: an
erasure reads the table once, an order would pay for the index each time; key ids rise with time and fall in place."""

tenant_key = _table(
    "tenant_key",
    _required("tenant", Text, primary_key=True),
    _required("version", Int64, primary_key=True),
    _required("service", Text),
    _required("wrapped", LargeBinary),
    _required("created", Int64),
    _required("wrapped_at", Int64),
    clustered=True,
)
"""The keys of tenants, each version wrapped by a key service: `service` is its name, ':' and the key that wrapped it. A
data key whose `kek_id` is `tenant/VERSION` is wrapped by one of them, any other by a key of the key file."""

restriction = _table(
    "restriction",
    _required("entry", Int64, ForeignKey("entry.row"), primary_key=True),
    _required("subject", LargeBinary, primary_key=True),
    _required("tenant", Text),
    _required("until", Int64),
    clustered=True,
)
"""The ciphertexts of erased persons that the law keeps until a time (UTC µs): for storage and security only. They are
under data keys of their own, and gone with their row once that time is over."""

event_key = _table(
    "event_key",
    _required("entry", Int64, ForeignKey("entry.row"), primary_key=True),
    _required("tenant", Text),
    _required("packed", LargeBinary),
)
"""All pseudonyms of one entry in one value (`pack_keys`), for rebuilding windows. Deletable."""

key_index = _table(
    "key_index",
    _required("pseudonym", LargeBinary, primary_key=True),
    _required("entry", Int64, primary_key=True),
    clustered=True,
)
"""Pseudonym → entries. Deletable. Filled from `event_key` behind the commits (`key_pending`), in quiet moments: its
random places cost an append about two thirds more again. That work is put off, not saved: a writer that never rests
does it all the same."""

key_pending = _table("key_pending", _required("entry", Int64, primary_key=True))
"""Entries whose pseudonyms are not in `key_index` yet."""

digest = _table(
    "digest",
    _required("entry", Int64, ForeignKey("entry.row"), primary_key=True),
    _required("tenant", Text),
    _required("digest", LargeBinary),
)
"""The keyed digest of the body an entry answered: tells a retry from a reused id. Deletable."""

api_key = _table(
    "api_key",
    _required("hash", LargeBinary, primary_key=True),
    _required("tenant", Text),
    _required("name", Text),
    _required("kind", Text),
    _required("scopes", Text),
    _required("created", Int64),
    Column("expires", Int64),
    Column("revoked", Int64),
)
"""Callers: `kind` is service or person, `scopes` are words with spaces between, `hash` the SHA-256 of the key."""

list_entry = _table(
    "list_entry",
    _required("tenant", Text, primary_key=True),
    _required("list", Text, primary_key=True),
    _required("value", Text, primary_key=True),
    _required("state", Text),
    _required("reason", Text),
    _required("added_by", Text),
    _required("added", Int64),
    Column("approved_by", Text),
    Column("expires", Int64),
    Column("ended_by", Text),
    Column("end_approved_by", Text),
)
"""Entries of named lists kept through the API; `value` is a pseudonym where the list holds personal data."""

image = _table(
    "image",
    _required("tenant", Text, primary_key=True),
    _required("sha256", Text, primary_key=True),
    _required("looked", Int64),
    _required("seen", Text),
    _required("hashes", LargeBinary),
    clustered=True,
)
"""What an image showed when it was looked at (`seen`, JSON) and its perceptual hashes. The image itself is not kept."""

image_reference = _table(
    "image_reference",
    _required("tenant", Text, primary_key=True),
    _required("id", Text, primary_key=True),
    _required("kind", Text),
    _required("label", Text),
    _required("sha256", Text),
    _required("hashes", LargeBinary),
    _required("state", Text),
    _required("reason", Text),
    _required("added_by", Text),
    _required("added", Int64),
    Column("expires", Int64),
    Column("ended_by", Text),
    Column("end_approved_by", Text),
)
"""The known images that others are compared with."""

merchant = _table(
    "merchant",
    _required("tenant", Text, primary_key=True),
    _required("id", Text, primary_key=True),
    _required("tier", Text),
    _required("reason", Text),
    _required("updated", Int64),
)
"""The tier of a merchant, which the caller never sets."""

mode = _table(
    "mode",
    _required("tenant", Text, primary_key=True),
    _required("name", Text, primary_key=True),
    _required("until", Int64),
    _required("changed", Int64),
    _required("by", Text),
    _required("reason", Text),
    _required("record", Text),
)
"""The modes that somebody switched on, until when, with who and why it was the last time (`record` in the ledger)."""

incident = _table(
    "incident",
    _required("id", Text, primary_key=True),
    _required("tenant", Text),
    _required("playbook", Text),
    _required("rulebook", Text),
    _required("drill", Int64),
    _required("cause", Text),
    _required("known", Int64),
    _required("opened", Int64),
    _required("opened_by", Text),
    _required("reason", Text),
    Column("closed", Int64),
    Column("closed_by", Text),
    Column("conclusion", Text),
    _required("record", Text),
)
"""Incidents and drills: the playbook and the rulebook that has it, what opened it, when it was known, and its end."""

Index("incident_playbook", incident.c.tenant, incident.c.playbook)

incident_step = _table(
    "incident_step",
    _required("incident", Text, ForeignKey("incident.id"), primary_key=True),
    _required("step", Text, primary_key=True),
    _required("state", Text),
    _required("at", Int64),
    _required("by", Text),
    _required("evidence", Text),
    _required("record", Text),
)
"""What was done in an incident: a step that is done, or passed over with its reason."""

opinion = _table(
    "opinion",
    _required("tenant", Text, primary_key=True),
    _required("source", Text, primary_key=True),
    _required("id", Text, primary_key=True),
    _required("at", Int64),
    _required("received_at", Int64),
    _required("sentiment", Int64),
    _required("volume", Int64),
    _required("record", Text),
)
"""What an opinion monitor reported: `sentiment` in thousandths from -1000 to 1000, `volume` in mentions."""

Index("opinion_received", opinion.c.tenant, opinion.c.received_at)

standing = _table(
    "standing",
    _required("tenant", Text, primary_key=True),
    _required("profile", Text, primary_key=True),
    _required("subject", Text, primary_key=True),
    _required("id", Text),
    Column("tier", Text),
    _required("since", Int64),
    _required("points", Int64),
    _required("factors", Text),
    Column("assessed", Int64),
    _required("review", Int64),
    Column("held_by", Text),
    Column("held_until", Int64),
    _required("set_by", Text),
)
"""Where somebody stands whom a profile is about; `subject` is a pseudonym where the name is personal, `id` names the
row in the log. `factors` is JSON; `held_by` says who set the tier, where a person did, and `held_until` until when."""

Index("standing_review", standing.c.review)

standing_step = _table(
    "standing_step",
    _required("tenant", Text, primary_key=True),
    _required("profile", Text, primary_key=True),
    _required("subject", Text, primary_key=True),
    _required("id", Text, primary_key=True),
    _required("at", Int64),
    Column("before", Text),
    _required("after", Text),
    Column("points", Int64),
    _required("factors", Text),
    _required("why", Text),
    _required("by", Text),
    _required("reason", Text),
    Column("until", Int64),
    _required("record", Text),
)
"""How somebody came from one tier to another, and why. `record` is the entry of the ledger that says so."""

rulebook = _table(
    "rulebook",
    _required("hash", Text, primary_key=True),
    _required("content", LargeBinary),
    _required("first_seen", Int64),
)
"""Every rulebook that ever decided, whole, by its hash."""

proposal = _table(
    "proposal",
    _required("id", Text, primary_key=True),
    _required("tenant", Text),
    _required("hash", Text),
    _required("base", Text),
    _required("author", Text),
    _required("reason", Text),
    _required("papers", Text),
    _required("created", Int64),
    Column("judged_by", Text),
    Column("judged", Int64),
    Column("judgement", Text),
    _required("approved", Int64),
    Column("activated_by", Text),
    Column("activated", Int64),
    Column("forced", Text),
    _required("content", LargeBinary),
    _required("attached", LargeBinary),
    _required("found", Text),
)
"""Rulebooks that were proposed, whole (`content`), with their papers (`attached`; `papers` has their hashes) and what
was found when they came (`found`, JSON)."""

setting = _table("setting", _required("name", Text, primary_key=True), _required("value", Text))
"""What must stay the same as long as this database lives, such as the fingerprint of its key file."""
