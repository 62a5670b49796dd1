"""`audit replay`: recorded decisions computed again, from an export or from the ledger in the settings."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import click
import orjson

from cli.group import counted
from cli.opened import decision_of, with_vault
from cli.settings import actor, settings
from engine.archive import Library
from engine.assembly import wall_clock
from engine.build import build
from engine.errors import ArbiterError, NotFound, PackError, RequestRefused
from engine.jcs import canonical
from engine.journal import Journal
from engine.ledger import Ledger, Stored
from engine.replay import MALFORMED, REPLAY, Past, Replayed, Replayer
from engine.retrieval import Retrieval
from engine.rulebook import Rulebook, load
from engine.vault import Vault

ENTRIES, RULEBOOKS = "entries.jsonl", "rulebooks"
READY = 8
"""Rulebooks that are kept compiled."""
LONGEST_SHOWN = 400
"""Characters of a value that are shown; --json has all."""

NO_VAULT = "the vault was not opened"
_DECISION = b'"type":"decision"'

ByHash: TypeAlias = Callable[[str], Awaitable[Rulebook]]
Find: TypeAlias = Callable[[Mapping[str, Any], Rulebook], Awaitable[tuple[Past | None, tuple[str, ...]]]]


@click.command(short_help="Compute recorded decisions again; say what comes out otherwise.")
@click.argument("what", metavar="BUNDLE|ID...", nargs=-1, required=True)
@click.option("--level", type=click.Choice(["recorded", "full"]),
              help="One level for all; without it each entry is replayed at the fullest that it allows.")  # fmt: skip
@click.option("--vault", is_flag=True, help="For a BUNDLE: take personal values from the ledger in the settings.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a decision, one a line.")
def replay(what: tuple[str, ...], level: str | None, vault: bool, as_json: bool) -> None:
    """Compute recorded decisions again from what their records pin, and compare the whole record byte for byte.

    BUNDLE is a folder that `arbiter audit export` made, of which every decision is replayed. An ID is that of a
    decision, or of its event, in the ledger of the settings.

    \b
    recorded   from the recorded answers; needs the record and its rulebook, nothing personal, also after an erasure.
               Answers that the record itself gives (public fields, windows, the anomaly) are computed again, too
    full       from the values in the record and the vault, the lists as they were and the models of then: every
               answer is computed again, and everything that follows

    At level full personal values are opened, though none is shown; that is recorded first, with who did it.

    What cannot be replayed at level full is replayed at level recorded, and each time it is said why; with --level full
    that is a failure. The exit code is 0 only when every decision was replayed and came out as recorded.

    It is the same engine that decided: it finds altered records, rulebooks and lists, not mistakes of the engine.

    \b
    Examples:
      arbiter audit replay november
      arbiter audit replay november --vault --json > replayed.jsonl
      arbiter audit replay 01939c3e-6f1c-7d52-a2b7-0d8f6f0b1c11 --level full
    """
    told = _Told(as_json, strict=level == "full")
    folder = Path(what[0])
    if len(what) == 1 and folder.is_dir():
        if level == "full" and not vault:
            raise click.UsageError("level full needs the vault: add --vault, with the settings of the ledger")
        bundle = _Bundle(folder)
        if vault and level != "recorded":
            with_vault(lambda ledger, opened: _with_values(ledger, opened, bundle, told))
        else:
            without = _without(() if level == "recorded" else (NO_VAULT,))
            asyncio.run(_replay(bundle.leaves(), bundle.rulebook, without, told))
    elif vault:
        raise click.UsageError("--vault is for a BUNDLE; decisions by their ID are read from the ledger as they are")
    else:
        with_vault(lambda ledger, opened: _by_id(ledger, opened, what, level, told))
    told.end()
    raise SystemExit(int(told.wrong > 0 or not told.total))


async def _with_values(ledger: Ledger, vault: Vault, bundle: _Bundle, told: _Told) -> None:
    # In the log of each tenant whose data is opened, as an export of that tenant holds it.
    known, counts = set(await ledger.tenants()), Counter(bundle.tenants())
    for tenant, count in sorted(counts.items()):
        if tenant not in known:
            continue  # Nothing of it can be opened here.
        await Journal(ledger, wall_clock).access(tenant, REPLAY, bundle.named, "audit", count, actor())
    await _replay(bundle.leaves(), bundle.rulebook, _from(ledger, vault), told)


async def _by_id(ledger: Ledger, vault: Vault, ids: tuple[str, ...], level: str | None, told: _Told) -> None:
    found = [(await decision_of(ledger, id)).entry for id in ids]
    leaves, library = (entry.leaf for entry in found), Library(ledger.database, wall_clock)
    if level == "recorded":
        await _replay(leaves, library.find, _without(()), told)
        return
    journal, by = Journal(ledger, wall_clock), actor()
    for entry in found:
        if any(cell.readable for cell in entry.sealed):  # Else there is nothing to open.
            await journal.access(entry.tenant, REPLAY, entry.id, "audit", 1, by)
    await _replay(leaves, library.find, _from(ledger, vault), told)


async def _replay(leaves: Iterator[bytes], rulebook: ByHash, find: Find, told: _Told) -> None:
    ready: dict[str, Replayer | str] = {}
    async for id, event, replayed in _replayed(leaves, rulebook, find, ready):
        told.tell(id, event, replayed)


async def _replayed(
    leaves: Iterator[bytes], rulebook: ByHash, find: Find, ready: dict[str, Replayer | str]
) -> AsyncIterator[tuple[str, str, Replayed]]:
    for number, leaf in enumerate(leaves, 1):
        try:
            record = orjson.loads(leaf)
            if record["type"] != "decision":
                continue
            id, event, named = str(record["id"]), str(record["event"]["id"]), str(record["pins"]["rulebook"])
        except (ValueError, KeyError, TypeError):
            yield f"line {number}", "", Replayed("none", ("it is no record",))
            continue
        replayer = await _replayer(named, rulebook, ready)
        if isinstance(replayer, str):
            yield id, event, Replayed("none", (replayer,))
            continue
        try:
            past, why = await find(record, replayer.rulebook)
        except ArbiterError as error:
            past, why = None, (str(error),)
        yield id, event, replayer.replay(leaf, past, why)


async def _replayer(named: str, rulebook: ByHash, ready: dict[str, Replayer | str]) -> Replayer | str:
    """What replays the decisions of a rulebook, or why nothing can."""
    if named not in ready:
        if len(ready) >= READY:
            ready.pop(next(iter(ready)))
        try:
            ready[named] = Replayer(await rulebook(named))
        except PackError as error:
            ready[named] = f"its rulebook {named[:12]} cannot be read by this version: {error.problems[0]}"
        except ArbiterError as error:
            ready[named] = str(error)
    return ready[named]


class _Bundle:
    """A folder that an export made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if not (folder / ENTRIES).is_file():
            raise RequestRefused(f"{folder} holds no {ENTRIES}: it is no export")

    @property
    def named(self) -> str:
        """What it is called in the log: the hash of its manifest, as canonical JSON."""
        manifest = self._folder / "manifest.json"
        if not manifest.is_file():
            raise RequestRefused(f"{self._folder} holds no {manifest.name}: it is no export")
        return canonical({"export": sha256(manifest.read_bytes()).hexdigest()}).decode()

    def leaves(self) -> Iterator[bytes]:
        """The leaves of all entries, one at a time."""
        with (self._folder / ENTRIES).open("rb") as file:
            for line in file:
                yield line.removesuffix(b"\n")

    def tenants(self) -> Iterator[str]:
        """Whose each decision is; of what is no record nobody's."""
        for leaf in self.leaves():
            if _DECISION in leaf:
                with suppress(ValueError, KeyError, TypeError):
                    yield str(orjson.loads(leaf)["tenant"])

    async def rulebook(self, named: str) -> Rulebook:
        """The rulebook with this hash. NotFound when it is not here, or is not the one with this hash."""
        files = self._folder / RULEBOOKS / Path(named).name
        if not files.is_dir():
            raise NotFound(f"its rulebook {named[:12]} is not in the export")
        book = load(files / "rules", files / "policies", strict=False)
        if book.hash != named:
            raise NotFound(f"its rulebook {named[:12]} was altered: these files have the hash {book.hash[:12]}")
        return book


def _without(why: tuple[str, ...]) -> Find:
    """Nothing beside the record."""

    async def find(record: Mapping[str, Any], rulebook: Rulebook) -> tuple[Past | None, tuple[str, ...]]:
        del record, rulebook
        return None, why

    return find


def _from(ledger: Ledger, vault: Vault) -> Find:
    """What the ledger in the settings and its vault hold beside the record."""
    retrieval = Retrieval(ledger, vault, settings().model_dir)

    async def find(record: Mapping[str, Any], rulebook: Rulebook) -> tuple[Past | None, tuple[str, ...]]:
        stored: Stored | None = await ledger.get(record["tenant"], record["id"])
        if stored is None:
            return None, ("the ledger in the settings does not hold this decision",)
        if orjson.loads(stored.entry.leaf) != record:
            return None, ("the ledger in the settings holds another record under this id",)
        try:
            return await retrieval.past(stored, rulebook)
        except MALFORMED as error:
            return None, (f"its record is not sound: {type(error).__name__} {error}",)

    return find


@dataclass
class _Told:
    """Says how each replay ended, and counts."""

    as_json: bool
    strict: bool
    wrong: int = 0
    """Decisions that were not replayed, or not as was asked, or came out otherwise."""
    levels: Counter[str] = field(default_factory=Counter)
    differ: int = 0

    def tell(self, id: str, event: str, replayed: Replayed) -> None:
        """One decision: a line of JSON, or words where there is something to say."""
        fell = self.strict and replayed.level != "full"
        self.levels[replayed.level] += 1
        self.differ += bool(replayed.differences)
        self.wrong += fell or not replayed.equal
        if self.as_json:
            line = {"id": id, "event_id": event, "equal": replayed.equal, **asdict(replayed)}
            click.echo(orjson.dumps(line))
        else:
            for text in _in_words(id, event, replayed):
                click.echo(text)

    @property
    def total(self) -> int:
        """How many decisions there were."""
        return sum(self.levels.values())

    def end(self) -> None:
        """The sum of it, on standard error."""
        total = self.total
        if not total:
            click.echo("there is no decision to replay", err=True)
            return
        said = [f"{self.levels[level]:,} at level {level}" for level in ("full", "recorded") if self.levels[level]]
        said += [f"{self.levels['none']:,} not replayed"] if self.levels["none"] else []
        said += [f"{self.differ:,} came out otherwise" if self.differ else "none came out otherwise"]
        click.echo(f"{counted(total, 'decision')}: {', '.join(said)}", err=True)
        if self.strict and total > self.levels["full"]:
            click.echo("--level full: not all could be replayed at level full", err=True)


def _in_words(id: str, event: str, replayed: Replayed) -> Iterator[str]:
    about = f"{id} ({event})" if event else id
    if replayed.level == "none":
        yield f"{about}  NOT REPLAYED: {'; '.join(replayed.why)}"
        return
    if replayed.why:
        yield f"{about}  level {replayed.level}: {'; '.join(replayed.why)}"
    if replayed.differences:
        yield f"{about}  DIFFERENT at level {replayed.level}"
        if replayed.build and replayed.build != build():
            yield f"  decided by {replayed.build}, computed again by {build()}"
    for each in replayed.differences:
        if each.about:
            yield f"  {each.path or 'record'}: {each.about}"
        else:
            yield f"  {each.path}"
        if each.recorded != each.recomputed:
            yield f"    recorded    {_shown(each.recorded)}"
            yield f"    recomputed  {_shown(each.recomputed)}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…"
