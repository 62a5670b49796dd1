"""`audit export` and `audit verify`: a period of the log in a folder, and whether it holds."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, dataclass
from hashlib import sha256
from operator import attrgetter, methodcaller
from pathlib import Path
from typing import Any, BinaryIO

import click
import orjson

from cli import verify
from cli.group import counted
from cli.opened import moment, with_vault
from cli.settings import actor, settings
from cli.tables import stamp
from cli.views import FORMS, Form, Pinned, Row, Views
from engine import database as db
from engine import merkle
from engine.anchors import Anchors, NotAnchored
from engine.apikeys import key_id
from engine.archive import Library
from engine.assembly import wall_clock
from engine.callers import By
from engine.difference import unified
from engine.errors import LogBroken, NotFound, PackError, RequestRefused
from engine.jcs import canonical
from engine.journal import EVERYONE, Journal
from engine.ledger import Entry, Ledger
from engine.listed import Listed
from engine.lists import NamedList
from engine.notes import Checkpoint, NoteError, open_note, sign, verifier
from engine.packs.moments import end_of, start_of
from engine.receipt import Signer, encoded
from engine.vault import KeyFile, Vault

FORMAT = 1
_LINE = b"\n"
_SCRIPT = Path(verify.__file__).read_bytes()


@dataclass(frozen=True)
class Wanted:
    """What to export: a period by the time received (UTC microseconds), one tenant or all, and how to show it."""

    since: int | None
    until: int | None
    tenant: str | None
    form: Form
    tiles: bool
    against: Checkpoint | None

    def told(self) -> dict[str, Any]:
        """The period and the tenant, as the record of the export has them."""
        return {"from": self.since, "to": self.until, "tenant": self.tenant}


@click.command("export", short_help="Write a period of the log into a folder that proves itself.")
@click.option("--from", "since", metavar="DAY", help="First day (Asia/Shanghai) or instant, by the time received.")
@click.option("--to", "until", metavar="DAY", help="Last day, included, or the instant up to which.")
@click.option("--tenant", help="Only this tenant's entries; of the others only hashes.")
@click.option("--format", "form", type=click.Choice(FORMS), default="jsonl", show_default=True, help="Of the tables.")
@click.option("--against", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="CHECKPOINT",
              help="A checkpoint from earlier; the proof that the log goes on from it is added.")  # fmt: skip
@click.option("--tiles", is_flag=True, help="The tree as C2SP tlog-tiles, for other programs; the whole log only.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new folder.")
def export(
    since: str | None, until: str | None, tenant: str | None, form: Form, against: Path | None, tiles: bool, out: Path
) -> None:
    """Write the entries of a period into a new folder, with all that is needed to check them without this server.

    \b
    entries.jsonl      one entry a line, in the order of the log; a line's bytes are the leaf's bytes
    checkpoint         what the log signed last; checkpoints.jsonl has those of the period
    anchors.jsonl      who outside saw them: witnesses' signatures, timestamps (RFC 3161), files
    tree.json          how the entries stand in the tree
    rulebooks/HASH/    the files of every rulebook that an entry names
    keys.json          the log's public key, to compare: an auditor checks with the key noted elsewhere
    views/             tables for people: decisions, resolutions, changes, access, lists, listed, keys
    manifest.json      a hash of every file; manifest.note is the log's signature over it
    verify.py          checks all of it; needs Python and the package cryptography

    A period holds all positions of the log between its first and its last entry, so that nothing can be left out of it.
    With --tenant, of others' entries there are only the hashes. Nothing personal is in it. The export itself is
    recorded, with who made it, before anything is written.

    \b
    Examples:
      arbiter audit export --from 2026-11-01 --to 2026-11-30 --out november
      arbiter audit export --against october/checkpoint --from 2026-11-01 --out november
      arbiter audit export --tiles --out everything
    """
    begin, end = moment(since, start_of, "--from"), moment(until, end_of, "--to")
    if begin is not None and end is not None and begin >= end:
        raise click.UsageError(f"--from {since} is not before --to {until}: no moment lies between them")
    if tiles and (since or until or tenant):
        raise click.UsageError("--tiles gives the whole log: leave out --from, --to and --tenant")
    if out.exists():
        raise RequestRefused(f"{out} exists already; an export never overwrites")
    signer = KeyFile.read(settings().key_file).signer
    wanted = Wanted(begin, end, tenant, form, tiles, _known(against, signer) if against else None)
    made = with_vault(lambda ledger, vault: _Export(ledger, vault, signer, wanted, out).write())
    where = f", positions {made['first']:,} to {made['end'] - 1:,}" if made["entries"] else ""
    click.echo(f"{out}: {counted(made['entries'], 'entry', 'entries')}{where}", err=True)
    click.echo(made["window"], err=True)
    check = f"python {out / 'verify.py'} {out} --key KEY"
    click.echo(f"{counted(made['rulebooks'], 'rulebook')}; check it with: {check}", err=True)


def _known(path: Path, signer: Signer) -> Checkpoint:
    try:
        return Checkpoint.read(open_note(path.read_text("utf-8"), [verifier(signer)])[0])
    except (NoteError, UnicodeDecodeError) as error:
        raise RequestRefused(f"{path} is no checkpoint of this log: {error}") from None


class _Files:
    """The files of an export on their way, each with its hash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hashes: dict[str, str] = {}

    def put(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.hashes[name] = sha256(data).hexdigest()

    def take_in(self) -> None:
        """Note the hash of every file that is not known yet."""
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and name not in self.hashes:
                with path.open("rb") as file:
                    self.hashes[name] = verify.whole_hash(file)


class _Hashed:
    """A file that is written from begin to end, and its hash."""

    def __init__(self, to: BinaryIO) -> None:
        self._to = to
        self._digest = sha256()

    def write(self, data: bytes) -> None:
        self._to.write(data)
        self._digest.update(data)

    @property
    def hash(self) -> str:
        return self._digest.hexdigest()


class _Export:
    """One export: recorded, sealed, written under another name, and there as a whole or not at all."""

    def __init__(self, ledger: Ledger, vault: Vault, signer: Signer, wanted: Wanted, out: Path) -> None:
        self._ledger = ledger
        self._listed = Listed(ledger, vault.pseudonym)
        self._log = ledger.log
        self._library = Library(ledger.database, wall_clock)
        self._signer = signer
        self._wanted = wanted
        self._out = out
        self._by: By = actor()
        self._unseen: dict[str, str] = {}
        """Who outside did not see the checkpoint of this export, and why."""

    async def write(self) -> dict[str, Any]:
        """The counts of what was written."""
        wanted = self._wanted
        await self._check_tenant()
        await self._log.catch_up()
        first, end = await self._log.positions(wanted.since, wanted.until)
        scope = canonical({**wanted.told(), "first": first, "end": end}).decode()
        tenant = wanted.tenant or EVERYONE
        journal = Journal(self._ledger, wall_clock)
        own = await journal.access(tenant, "export", scope, "audit", end - first, self._by)
        stored = await self._ledger.get(tenant, own)
        assert stored is not None, "it was just written"
        latest = await self._log.sealed(stored, wall_clock)
        await self._anchor()
        # A name of its own: what a try that was killed left behind is in nobody's way.
        part = self._out.with_name(f"{self._out.name}.part-{own[-12:]}")
        part.mkdir(parents=True)
        try:
            made = await self._fill(_Files(part), first, end, latest.checkpoint.size)
            part.rename(self._out)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return made

    async def _anchor(self) -> None:
        """Show it to whoever outside sees the log, so that as little as can be rests on the log's word alone."""
        anchors = Anchors(self._log, settings().anchors(), wall_clock)
        for anchor in anchors.all:
            try:
                await anchors.show(anchor)
            except NotAnchored as error:
                self._unseen[anchor.name] = str(error)
                click.echo(f"{anchor.name} has not seen this export's checkpoint: {error}", err=True)

    async def _check_tenant(self) -> None:
        tenants = await self._ledger.tenants()
        if self._wanted.tenant is not None and self._wanted.tenant not in tenants:
            known = ", ".join(one for one in tenants if one != EVERYONE)
            raise NotFound(f"there is no entry of a tenant '{self._wanted.tenant}'; there are: {known or 'none'}")

    async def _fill(self, files: _Files, first: int, end: int, size: int) -> dict[str, Any]:
        wanted = self._wanted
        if wanted.since is None and wanted.until is None:
            end = size  # its own record too: the whole log is the whole log
        entries, rulebooks = await self._entries(files, first, end)
        for named in sorted(rulebooks):
            await self._rulebook(files, named)
        await self._proofs(files, first, end, size)
        if wanted.tiles:
            await self._tiles(files, size)
        files.put("keys.json", _json({"log": verifier(self._signer).text}))
        files.put("verify.py", _SCRIPT)
        files.take_in()
        told = {"first": first, "end": end, "size": size, "entries": entries}
        self._manifest(files, told)
        return {**told, "rulebooks": len(rulebooks), "window": await self._window(size)}

    async def _window(self, size: int) -> str:
        """What rests on the log's word alone, in words."""
        seen = await self._log.anchored()
        if seen is None:
            return f"Nobody outside has seen this log: all of its {size:,} entries rest on the log's word alone."
        told = f"{seen.name} saw {seen.size:,} entries, at {stamp(seen.at)}"
        if seen.size == size:
            return f"{told}: all there are."
        return f"{told}: the last {size - seen.size:,} rest on the log's word alone."

    async def _entries(self, files: _Files, first: int, end: int) -> tuple[int, set[str]]:
        """entries.jsonl and the views; how many entries, and the rulebooks that they name."""
        tenant, named, count = self._wanted.tenant, set[str](), 0
        (files.folder / "views").mkdir()
        with (
            Views(files.folder / "views", self._wanted.form) as views,
            (files.folder / "entries.jsonl").open("wb") as to,
            (files.folder / "positions.txt").open("wb") as places,
            (files.folder / "leaf-hashes.bin").open("wb") as hashes,
        ):
            lines = _Hashed(to)
            async for position, entry in self._all(first, end):
                hashes.write(merkle.leaf_hash(entry.leaf))
                record = _record(entry)
                rulebook = (record["type"], record.get("what")) == ("change", "rulebook")
                # What judges for all is in the export of each.
                if tenant is not None and not rulebook and entry.tenant != tenant:
                    continue
                lines.write(entry.leaf + _LINE)
                places.write(b"%d\n" % position)
                if rulebook:
                    record |= await self._about(files, record["before"], record["after"])
                views.add(position, record)
                named.update(verify.rulebooks_in(entry.leaf))
                count += 1
            views.close(await self._keys(), *await self._lists(views.pinned))
        files.hashes["entries.jsonl"] = lines.hash
        if tenant is None:  # a line's place follows from its number
            for name in ("positions.txt", "leaf-hashes.bin"):
                (files.folder / name).unlink()
        return count, named

    async def _all(self, first: int, end: int) -> AsyncIterator[tuple[int, Entry]]:
        async for entries in self._log.entries(first, end):
            for each in entries:
                yield each

    async def _about(self, files: _Files, old: str | None, new: str) -> dict[str, Any]:
        """What differs between the rulebooks before and after a change, and how many tests the new one had passed. The
        lines that differ are put beside the tables."""
        before, after = await self._library.files(old) if old else {}, await self._library.files(new)
        if old:
            files.put(f"views/diffs/{old[:16]}-{new[:16]}.diff", "".join(unified(before, after)).encode())
        return {"diff": _difference(before, after), "tests": await self._tests(new)}

    async def _tests(self, named: str) -> int | None:
        """How many tests stand beside the rules of a rulebook; it came into force only once all passed."""
        try:
            return sum(len(rule.tests) for rule in (await self._library.find(named)).rules)
        except PackError:  # This version cannot read it any more: its files say it.
            return None

    async def _lists(self, pinned: Iterable[Pinned]) -> tuple[list[Row], list[Row]]:
        """Every list as decisions pin it, and every entry through the API that was on one of them."""
        lists: list[Row] = []
        listed: dict[tuple[str, str], list[Row]] = {}
        for each in sorted(pinned, key=attrgetter("rulebook", "tenant", "list", "hash")):  # one compiled at a time
            named = await self._named(each)
            changes = entries = None
            if named is not None and each.hash != "unavailable":
                history = await self._listed.history(each.tenant, named)
                changes, entries = history.after(each.hash) or (None, None)
                if (each.tenant, each.list) not in listed:
                    listed[each.tenant, each.list] = [
                        {"entry": self._listed.id(entry), "expires": entry.expires, "since": since, "until": until}
                        for entry, since, until in history.stays()
                    ]
            files = named.hash if named else None
            lists.append({**each._asdict(), "files": files, "changes": changes, "entries": entries})
        return lists, [
            {"tenant": tenant, "list": name, **row} for (tenant, name), rows in listed.items() for row in rows
        ]

    async def _named(self, pinned: Pinned) -> NamedList | None:
        """The list with what its files hold; None where this version cannot read that rulebook any more."""
        try:
            return (await self._library.find(pinned.rulebook)).lists.lists.get(pinned.list)
        except PackError:
            return None

    async def _keys(self) -> list[dict[str, Any]]:
        """The API keys by the records of them; and those of which there is no record, which nobody was granted."""
        keys: dict[str, dict[str, Any]] = {}
        for leaf in await self._ledger.key_changes():
            record = orjson.loads(leaf)
            if record["what"] == "key_created":
                told = orjson.loads(record["after"])
                keys[record["object"]] = {**told, "tenant": record["tenant"], "granted": record["decided_at"]}
            elif record["object"] in keys:
                keys[record["object"]]["revoked"] = record["decided_at"]
        for row in await db.Rows(self._ledger.database, db.api_key).find():
            keys.setdefault(key_id(row["hash"]), {**row, "scopes": row["scopes"].split()})
        return [key for key in keys.values() if self._wanted.tenant in (None, key["tenant"])]

    async def _rulebook(self, files: _Files, named: str) -> None:
        contents = await self._library.files(named)
        if not contents:
            raise NotFound(f"the rulebook {named} is not in the archive")
        for name in ("rules", "policies"):  # also where one of them is empty: who loads the rulebook names both
            (files.folder / "rulebooks" / named / name).mkdir(parents=True)
        for name, content in contents.items():
            files.put(f"rulebooks/{named}/{name}", content)

    async def _proofs(self, files: _Files, first: int, end: int, size: int) -> None:
        note = ""
        with (files.folder / "checkpoints.jsonl").open("wb") as to:
            async for each in self._log.checkpoints(max(first, 1), size):
                # Between the period and the last one nothing could be held against them.
                if each.checkpoint.size <= end or each.checkpoint.size == size:
                    note = each.note
                    to.write(orjson.dumps({"signed_at": stamp(each.signed_at), "note": note}) + _LINE)
        files.put("checkpoint", note.encode())
        with (files.folder / "anchors.jsonl").open("wb") as to:
            async for seen in self._log.anchors(max(first, 1), size):
                told = asdict(seen) | {"at": stamp(seen.at), "proof": encoded(seen.proof)}
                to.write(orjson.dumps(told) + _LINE)
        left, right = await self._log.tree(lambda tree: (tree.nodes(0, first), tree.nodes(end, size)))
        place = {"first": first, "end": end, "size": size}
        files.put("tree.json", _json({**place, "left": [x.hex() for x in left], "right": [x.hex() for x in right]}))
        known = self._wanted.against
        if known is not None and 0 < known.size <= size:
            path = await self._log.consistency(known.size, size)
            proof = {"old": known.size, "new": size, "path": [step.hex() for step in path]}
            files.put("consistency.json", _json(proof))

    async def _tiles(self, files: _Files, size: int) -> None:
        """The tree and the entries as C2SP tlog-tiles names them."""
        level = 0
        while width := size >> (8 * level):
            for n in range(-(-width // merkle.TILE)):
                hashes = await self._log.tree(methodcaller("tile", (level, n), width))
                files.put(f"tile/{level}/{_tile_name(n, len(hashes) // merkle.HASH_BYTES)}", hashes)
            level += 1
        bundle: list[bytes] = []
        n = 0
        async for position, entry in self._all(0, size):
            bundle.append(len(entry.leaf).to_bytes(2) + entry.leaf)
            if len(bundle) == merkle.TILE or position == size - 1:
                files.put(f"tile/entries/{_tile_name(n, len(bundle))}", b"".join(bundle))
                bundle, n = [], n + 1

    def _manifest(self, files: _Files, told: dict[str, Any]) -> None:
        manifest = {
            "format": FORMAT,
            "log": self._signer.log,
            "exported_at": stamp(wall_clock()),
            "by": asdict(self._by),
            "tenant": self._wanted.tenant,
            "period": {
                "from": None if self._wanted.since is None else stamp(self._wanted.since),
                "to": None if self._wanted.until is None else stamp(self._wanted.until),
            },
            **told,
            "unseen": self._unseen,
            "files": files.hashes,
        }
        data = _json(manifest)
        files.put("manifest.json", data)
        text = f"arbiter export v1\n{self._signer.log}\n{sha256(data).hexdigest()}\n"
        files.put("manifest.note", sign(text, self._signer).encode())


def _record(entry: Entry) -> dict[str, Any]:
    """The record in a leaf. LogBroken where its row says something else: the log proves the leaf alone."""
    record: dict[str, Any] = orjson.loads(entry.leaf)
    if (record["id"], record["tenant"], record["type"]) != (entry.id, entry.tenant, entry.kind):
        raise LogBroken(f"the row of the entry {record['id']} was altered: it does not say what its leaf says")
    return record


def _difference(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    signs = {name: "+" if name not in before else "-" if name not in after else "~" for name in {*before, *after}}
    return [f"{signs[name]} {name}" for name in sorted(signs) if before.get(name) != after.get(name)]


def _tile_name(n: int, width: int) -> str:
    """A tile's name in C2SP tlog-tiles: 1234067 is x001/x234/067, and a partial one ends in .p and its width."""
    parts = [f"{n % 1000:03}"]
    while n := n // 1000:
        parts.insert(0, f"x{n % 1000:03}")
    return "/".join(parts) + ("" if width == merkle.TILE else f".p/{width}")


def _json(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False, indent=1).encode() + _LINE


@click.command("verify", short_help="Check an export.")
@click.argument("folder", metavar="DIR")
@click.option("--key", help="The log's public key, as you know it from elsewhere than the export.")
@click.option("--against", metavar="CHECKPOINT", help="A checkpoint of this log that you keep.")
@click.option(
    "--witness", "witnesses", multiple=True, metavar="KEY", help="Must have signed a checkpoint of this tree."
)
@click.option("--receipt", "receipts", multiple=True, metavar="FILE", help="One that a caller kept.")
def check(
    folder: str, key: str | None, against: str | None, witnesses: tuple[str, ...], receipts: tuple[str, ...]
) -> None:
    """Check an export as its own verify.py does: DIR --key KEY, or DIR --against CHECKPOINT.

    The exit code is 0 only if all of it holds. To trust nothing of this installation, run verify.py elsewhere.

    \b
    Examples:
      arbiter audit verify november --key audit.example.com/decisions+18a5229a+AQOhB7/z...
      arbiter audit verify november --against october/checkpoint --receipt receipt.json
    """
    given = [("--key", key), ("--against", against)]
    given += [("--witness", each) for each in witnesses] + [("--receipt", each) for each in receipts]
    sys.exit(verify.main([folder, *(text for name, value in given if value for text in (name, value))]))
