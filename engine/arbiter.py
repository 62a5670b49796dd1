"""A running Arbiter: what the API and the command line call. One per process.

Here is only the surface. Behind it stand `intake` (the hot path), `records` (reading back), `docket` (what happens
after a verdict), `registers` (lists and merchants), `force` (the rulebook) and `callers` (API keys).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog

from engine.alarms import Alarms, Turn
from engine.anchors import Anchor, Anchors
from engine.apikeys import ApiKeys
from engine.appeal import STATES, Added, AppealDecided, MoreAsked, NewAppeal, Taken, Withdrawn
from engine.approvals import Activation, Approvals, Judgement, NewProposal, Rollback
from engine.archive import Library
from engine.callers import SCOPES, By, Caller
from engine.changes import Changes
from engine.claim import Claim
from engine.detectors import Models
from engine.docket import Docket
from engine.erasure import Erasure, ErasureRequest
from engine.errors import NotAllowed, NotFound, Unavailable
from engine.experiments import Standing
from engine.force import IN_FORCE, LEFT, Folders, Force, MakeStore, generation_of, live_of
from engine.gallery import Gallery, ImageAddress
from engine.hearings import Hearings
from engine.incidents import IncidentClosed, Incidents, NewIncident, StepTaken
from engine.intake import Clock, Intake, Live
from engine.journal import EVERYONE, Journal
from engine.ledger import Filter, Ledger, Log
from engine.letters import Letters, NoticeSent
from engine.modes import ModeOff, ModeOn, Modes
from engine.notes import verifier
from engine.opinions import Opinion
from engine.policy import MERCHANT
from engine.records import Records
from engine.references import NewReference, References
from engine.registers import Entries, Merchants, NewEntry, TierChange
from engine.reveals import NOTHING, PURPOSES, Reveal, Reveals
from engine.rulebook import Rulebook
from engine.schema import Schema
from engine.snapshots import Snapshots
from engine.standings import REQUEST, NamedSubject, Standings, SubjectTier
from engine.statement import AUDIENCES, Audience
from engine.tally import tally
from engine.team import Team
from engine.vault import KeyFile, Vault
from engine.warmth import Warmth

__all__ = [
    "AUDIENCES",
    "PURPOSES",
    "SCOPES",
    "STATES",
    "Activation",
    "Added",
    "AppealDecided",
    "Arbiter",
    "Audience",
    "Caller",
    "ErasureRequest",
    "ImageAddress",
    "IncidentClosed",
    "Judgement",
    "ModeOff",
    "ModeOn",
    "MoreAsked",
    "NamedSubject",
    "NewAppeal",
    "NewEntry",
    "NewIncident",
    "NewProposal",
    "NewReference",
    "NoticeSent",
    "Opinion",
    "Reveal",
    "Reveals",
    "Rollback",
    "StepTaken",
    "SubjectTier",
    "Taken",
    "TierChange",
    "Withdrawn",
]


log = structlog.get_logger("arbiter")

SELF = By("arbiter", "service")
"""Who does what nobody asked for."""

READY = "ready"
"""What other processes are asked: why verdicts are not as good as they get."""


class Arbiter:
    """Everything one process does. `start` before use, `close` after; `assembly.open_arbiter` does the first."""

    def __init__(
        self,
        folders: Folders,
        rulebook: Rulebook,
        models: Models,
        make_store: MakeStore,
        vault: Vault,
        ledger: Ledger,
        keys: KeyFile,
        claim: Claim | None,
        team: Team,
        clock: Clock,
        anchors: Sequence[Anchor] = (),
        configuration: str = "",
        gallery: Gallery | None = None,
    ) -> None:
        """`configuration` is what `start` records: the settings, without secrets. Without a `gallery` there is one that
        asks no detector."""
        database = ledger.database
        journal = Journal(ledger, clock)
        changes = Changes(journal, team, self._read_registers)
        store = make_store(rulebook.rates.hash, generation=generation_of(team.board, rulebook))
        self._vault = vault
        self._ledger = ledger
        self._clock = clock
        self._claim = claim
        self._team = team
        self._signer = keys.signer
        library = Library(database, clock)
        self._api_keys = ApiKeys(database, journal, clock)
        self._intake = Intake(live_of(rulebook, store, models), vault, ledger, team, clock)
        self._stands = Standings(ledger, changes, self._intake, vault, team, clock)
        self._merchants = Merchants(database, changes, self._intake, self._stands, team, clock)
        self._gallery = gallery or Gallery(database, clock)
        self._intake.sights = self._gallery.look
        self.references = References(database, changes, self._intake, self._gallery, team, clock)
        """The known images that others are compared with."""
        self._entries = Entries(database, changes, self._intake, vault, team, clock)
        self.modes = Modes(database, changes, self._intake, team, clock)
        """What is switched on for a while."""
        snapshots = folders.snapshots and Snapshots(folders.snapshots, self._intake, ledger, keys.fingerprint, clock)
        self._warmth = Warmth(store, self._intake, ledger, team, clock, snapshots or None)
        self._force = Force(
            folders, make_store, self._warmth, self._intake, ledger, library, changes, self._entries, team
        )
        self.reveals = Reveals(journal, ledger, team, clock)
        """Who sees personal data."""
        self.approvals = Approvals(
            *(ledger, self._force, library, changes, self._intake, clock), required=folders.approval
        )
        """Rulebooks that are proposed, and come into force by a second person."""
        self._records = Records(ledger, vault, self._force.rulebook, self.reveals)
        self._docket = Docket(ledger, self._records, self._force.rulebook, self._intake, team, clock)
        self.incidents = Incidents(
            *(ledger, changes, self._intake, self.modes, self._force.rulebook, team, clock),
        )
        """What is going on, and what is done about it."""
        self._intake.noticed = self.incidents.triggers.saw
        self._letters = Letters(ledger, self._records, team, clock)
        self.hearings = Hearings(
            *(ledger, self._records, self._force.rulebook, lambda: self._live.rulebook, self._intake, team, clock)
        )
        """Appeals against verdicts."""
        self._erasure = Erasure(ledger, vault, self._intake, self._warmth, changes, team, clock)
        self._changes = changes
        self._journal = journal
        self._configuration = configuration
        self._anchors = Anchors(ledger.log, anchors, clock)
        self.alarms = Alarms(
            *(ledger, self._force.rulebook, lambda: self._live.rulebook, journal, team, clock, self._own_figures)
        )
        """Who watches the alert lines."""
        self.alarms.on_turn(self._open_by_alert)
        self._standings: dict[tuple[str, str], Standing] = {}
        self._tasks: list[asyncio.Task[None]] = []
        team.on(READY, lambda _: self._reasons())
        team.on(LEFT, self._left)

    # Start and stop

    async def start(self) -> None:
        """Let the rulebook in and load what the database holds; then rebuild windows and look for overdue cases in the
        background. PackError when a rulebook that is new fails its own tests."""
        if "rulebook" not in self._team.board:
            await self._force.begin()
        else:
            await self._team.tell(IN_FORCE, self._live.rulebook.hash)
        await self._read_registers()
        newest = await self._ledger.newest()
        self._intake.go_on_from(newest)
        last = max((fact.arrival for fact in newest), default=0)
        await self._say("started", self._configuration)
        work = [self._warmth.keep_warm(last), self._warmth.keep_snapshots(), self._docket.sweep()]
        work += [self.alarms.keep()]
        work += [self.incidents.keep()]
        work += [self.alarms.keep(), self.hearings.sweep()]
        work += [self._warmth.keep_hearing(), self._changes.keep_sure()] if self._team.size > 1 else []
        work += [self._claim.keep()] if self._claim else []
        work += [self._ledger.log.keep(self._clock), self._anchors.keep(), self._stands.keep()]
        self._tasks = [asyncio.create_task(each) for each in work]

    async def _say(self, what: str, after: str | None) -> None:
        """Record that this process begins or ends: between the two nothing else decides here."""
        await self._journal.change(EVERYONE, what, f"worker {self._team.index}", None, after, SELF)

    async def _read_registers(self) -> None:
        """Lists, tiers, modes and known images as the database holds them. Nobody may change them meanwhile."""
        await self._merchants.load()
        await self.modes.load()
        await self.references.load()
        self._live.lists = await self._entries.onto(self._live.lists)

    async def _left(self, name: str) -> None:
        self._changes.doubt()
        await self._force.left(name)

    async def _open_by_alert(self, turn: Turn) -> None:
        """Open what has a line that is raised as its trigger."""
        if turn.raised:
            await self.incidents.raised(turn.tenant, turn.alert.line)

    async def close(self) -> None:
        """Stop the background work, commit what waits, write a last snapshot, and give everything back."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        await self._warmth.write_snapshot()
        try:
            await self._say("stopped", None)
        except Unavailable as error:
            log.warning("stop_not_recorded", reason=str(error))
        await self._gallery.close()
        self._vault.tenants.close()
        await self._ledger.close(self._clock())
        if self._claim is not None:
            await self._claim.release()

    def ready(self) -> dict[str, Any]:
        """Whether the verdicts of this process are as good as they get: {"ready": bool, "reasons": [...]}."""
        reasons = self._reasons()
        return {"ready": not reasons, "reasons": reasons}

    async def all_ready(self) -> dict[str, Any]:
        """The same, whichever process gives them."""
        team, reasons = self._team, self._reasons()
        others = await team.ask(READY)
        for index in range(team.size):
            if index != team.index:
                reasons += [f"worker {index}: {reason}" for reason in others.get(index, ["it does not answer yet"])]
        return {"ready": not reasons, "reasons": reasons}

    def _reasons(self) -> list[str]:
        database = "" if self._ledger.alive else "the database does not answer"
        lost = self._claim.problem if self._claim else self._team.problem
        problems = (database, lost, self._ledger.log.problem, self._vault.tenants.problem)
        return [*self._warmth.reasons(), *filter(None, problems)]

    @property
    def _live(self) -> Live:
        return self._intake.live

    @property
    def team(self) -> Team:
        """The processes that serve this ledger."""
        return self._team

    # The hot path

    @property
    def schema(self) -> Schema:
        """The fields that events may have now."""
        return self._live.rulebook.schema

    async def decide(self, body: bytes, caller: Caller, *, deadline_ms: int | None = None) -> bytes:
        """The verdict on one event, as JSON; see `Intake.decide`."""
        return await self._intake.decide(body, caller.tenant, deadline_ms)

    async def observe(self, body: bytes, caller: Caller) -> bytes:
        """The receipt of an event that only feeds windows, as JSON; see `Intake.observe`."""
        return await self._intake.observe(body, caller.tenant)

    # Callers

    async def authenticate(self, secret: str) -> Caller:
        """Who holds this API key. NotAllowed when it is unknown, revoked or past its time."""
        return await self._api_keys.holder(secret)

    async def create_key(
        self, name: str, kind: str, tenant: str, scopes: Iterable[str], expires: int | None = None
    ) -> str:
        """A new API key, shown this once: only its SHA-256 is kept. Recorded as made by this server."""
        return await self._api_keys.create(name, kind, tenant, scopes, expires, SELF)

    @property
    def log(self) -> Log:
        """The signed tree over everything that was written."""
        return self._ledger.log

    async def log_state(self) -> dict[str, Any]:
        """How far the log goes, how far it is signed and seen outside, and what is wrong."""
        tree = self._ledger.log
        published, seen = await tree.latest(), await tree.anchored()
        size = published.checkpoint.size if published else 0
        return {
            "log": self._signer.log,
            "entries": await tree.size(),
            "signed": {"entries": size, "at": published.signed_at} if published else None,
            "anchored": {"entries": seen.size, "at": seen.at, "by": seen.name} if seen else None,
            "open": size - (seen.size if seen else 0),
            "problems": {**({"log": tree.problem} if tree.problem else {}), **self._anchors.problems},
        }

    async def proof(self, id: str, caller: Caller) -> str:
        """The C2SP tlog-proof that an entry of the caller's tenant is in the log; NotFound while none covers it."""
        return await self._ledger.log.proof(await self._records.stored(id, caller.tenant))

    @property
    def public_key(self) -> dict[str, str]:
        """What receipts and checkpoints are checked with: the log's name, the key's id, the Ed25519 key in hex, and all
        of it as C2SP writes a key."""
        signer = self._signer
        key = {"log": signer.log, "key_id": signer.key_id, "ed25519": signer.public_key.hex()}
        return {**key, "vkey": verifier(signer).text}

    # Reading back

    async def decision(self, id: str, caller: Caller, reveal: Reveal = NOTHING) -> dict[str, Any]:
        """A decision as it was recorded, its receipt, and everything that came after it.

        Reasons in free text are shown only where `reveal` says what for, to a caller that may, and after it was
        recorded.
        """
        return await self._records.decision(id, caller, reveal)

    async def decisions(
        self,
        caller: Caller,
        *,
        event_id: str | None = None,
        verdict: str | None = None,
        kind: str | None = None,
        merchant_id: str | None = None,
        order_id: str | None = None,
        since: int | None = None,
        until: int | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> dict[str, Any]:
        """A page of decisions, newest first: {"items": [...], "next": cursor or None}.

        Raises RequestRefused for a verdict or kind that does not exist, and for a cursor that is none.
        """
        wanted = Filter(
            verdict=verdict,
            kind="decision",
            event_id=event_id,
            event_kind=kind,
            merchant_id=merchant_id,
            order_id=order_id,
            since=since,
            until=until,
        )
        return await self._records.page(caller.tenant, wanted, cursor, limit, self._live.rulebook)

    async def explanation(self, id: str, caller: Caller, reveal: Reveal = NOTHING) -> dict[str, Any]:
        """Why a decision came out as it did: every rule that fired, its questions with their answers, every step.

        Personal values are shown only where `reveal` says what for, to a caller that may, and after it was recorded.
        """
        return await self._records.explanation(id, caller, reveal)

    async def notice(
        self,
        id: str,
        caller: Caller,
        audience: Audience,
        language: str,
        of: str | None = None,
        reveal: Reveal = NOTHING,
    ) -> dict[str, Any]:
        """What a person is told of a decision, or what an officer sees of it; see `Records.statement`.

        What officers see needs the scope audit.
        """
        if audience == "officer" and "audit" not in caller.scopes:
            raise NotAllowed("scope missing", missing="audit")
        return await self._records.statement(id, caller, audience, language, of, reveal)

    async def notice_sent(self, id: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Take in that a notice was sent; the new record and its receipt."""
        return await self._letters.sent(id, body, caller)

    # What happens after a verdict

    async def resolve(self, id: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Take in how a challenge or a review ended, or what was enforced. Gives the new record and its receipt.

        The same report again gets the first one's answer. Conflict when nothing of the kind is open.
        """
        return await self._docket.resolve(id, body, caller)

    async def close_overdue(self) -> int:
        """End every challenge and review whose time is over; how many there were."""
        return await self._docket.close_overdue()

    # Merchants and lists

    async def merchant(self, merchant_id: str, caller: Caller) -> dict[str, Any]:
        """A merchant's tier, why, and since when."""
        return await self._merchants.read(merchant_id, caller)

    async def set_merchant_tier(self, merchant_id: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Give a merchant a tier. Every policy's tiers are known here; another name is refused."""
        return await self._merchants.change(merchant_id, body, caller)

    async def own_standing(self, merchant_id: str, caller: Caller) -> dict[str, Any]:
        """What a merchant may know of its tier: why, and how to come into a better one; no points and no limits."""
        return await self._merchants.own(merchant_id, caller)

    async def assess_merchant(self, merchant_id: str, caller: Caller) -> dict[str, Any]:
        """Assess a merchant now, and say where it stands; see `Standings.assess`."""
        await self._stands.assess(self._stands.named(caller.tenant, MERCHANT, merchant_id), REQUEST, caller.by)
        return await self._merchants.read(merchant_id, caller)

    async def review_merchants(self, caller: Caller, *, everybody: bool = False) -> dict[str, int]:
        """Assess those whose review is due, a part of them at once: how many were, moved, and are left. With
        `everybody` also merchants that were never assessed; how many of those there were is `new`."""
        new = await self._stands.enrol(caller.tenant) if everybody else 0
        return {**await self._stands.review(caller.tenant, caller.by), "new": new}

    async def standing(self, profile: str, body: bytes, caller: Caller, *, own: bool = False) -> dict[str, Any]:
        """Where somebody of another profile stands, named in the body; `own` for what they may know themselves."""
        return await self._stands.told(profile, body, caller, own=own)

    async def assess(self, profile: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Assess somebody of another profile now."""
        return await self._stands.assessed(self._stands.read_named(profile, body, caller), caller.by)

    async def set_standing(self, profile: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Let somebody of another profile stand in a tier, until a time or for good."""
        return await self._stands.change(profile, body, caller)

    def lists(self, caller: Caller) -> list[dict[str, Any]]:
        """Every list: its name, how it compares, what being on it does, how many entries its files hold."""
        return self._entries.lists(caller)

    async def list_entries(self, name: str, caller: Caller) -> list[dict[str, Any]]:
        """The entries of a list that came through the API, ended ones too. Personal values are pseudonyms."""
        return await self._entries.read(name, caller)

    async def add_list_entry(self, name: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Add a value to a list. Where that lowers the risk it waits for a second person."""
        return await self._entries.add(name, body, caller)

    async def approve_list_entry(self, name: str, entry_id: str, caller: Caller) -> dict[str, Any]:
        """Let happen what an entry waits for: that it counts, or that it ends. Only a second person approves."""
        return await self._entries.approve(name, entry_id, caller)

    async def withdraw_list_entry(self, name: str, entry_id: str, caller: Caller) -> dict[str, Any]:
        """Say no to what an entry waits for: a new one ends, one whose end was asked for stays."""
        return await self._entries.withdraw(name, entry_id, caller)

    async def remove_list_entry(self, name: str, entry_id: str, caller: Caller) -> dict[str, Any]:
        """Take an entry off a list; it stays to be read, as ended. Where that lowers the risk it waits, too."""
        return await self._entries.remove(name, entry_id, caller)

    # Images

    async def take_image(self, body: bytes, caller: Caller) -> dict[str, Any]:
        """What an image shows, and which known ones it looks like; its bytes are not kept. TooMuch."""
        return await self._gallery.take(caller.tenant, body)

    async def fetch_image(self, body: bytes, caller: Caller, size: int) -> dict[str, Any]:
        """The same of an image of at most `size` bytes at the URL in a JSON body; see `Gallery.fetch`."""
        return await self._gallery.fetch(caller.tenant, body, size)

    async def image(self, sha256: str, caller: Caller) -> dict[str, Any]:
        """The same of an image that was sent before. NotFound."""
        return await self._gallery.shown(caller.tenant, sha256)

    # Persons

    async def erase(self, body: bytes, caller: Caller) -> dict[str, Any]:
        """Erase a person, named by identities as events have them; what was done, in numbers. See `Erasure.erase`."""
        return await self._erasure.request(caller.tenant, body, caller.by)

    async def erase_person(self, tenant: str, identities: Mapping[str, str], reason: str, by: By) -> dict[str, Any]:
        """The same for an operator without a key: field of an event → value."""
        return await self._erasure.erase(tenant, identities, reason, by)

    # Rulebook and models

    def drift(self) -> Mapping[tuple[str, str, str], float]:
        """How far events of late differ from the champions' training data: PSI by (detector, segment, feature)."""
        return self._force.drift()

    @property
    def store_failures(self) -> int:
        """How many calls the store of windows did not answer since the start."""
        return self._warmth.store.failures

    def _own_figures(self) -> tuple[Mapping[str, float], int]:
        """How far the events of late differ from the training data, by detector, of its worst feature; and calls that
        the store of windows did not answer."""
        worst: dict[str, float] = {}
        for (detector, _, _), figure in self.drift().items():
            worst[detector] = max(worst.get(detector, 0.0), figure)
        return worst, self.store_failures

    async def alerts(self, caller: Caller) -> dict[str, Any]:
        """What is raised for the caller's tenant, and how each alert line stood at the last look."""
        return await self.alarms.state(caller.tenant)

    async def experiments(self, caller: Caller) -> dict[str, Any]:
        """How far each experiment of the rulebook in force is for the caller's tenant, and its result where the sample
        is full."""
        book, tenant = self._live.rulebook, caller.tenant
        found = await tally(self._ledger, book, book.experiments, self._force.rulebook, tenant, self._clock())
        of_others = {key: each for key, each in self._standings.items() if key[0] != tenant}
        self._standings = of_others | {(tenant, each.experiment.name): each for each in found}
        return {"experiments": [each.json() for each in found]}

    @property
    def standings(self) -> Mapping[tuple[str, str], Standing]:
        """(tenant, experiment) → how far it was when somebody asked last."""
        return self._standings

    @property
    def fired(self) -> Mapping[tuple[str, str], int]:
        """How often each rule gave a finding since the start: (rule, live or shadow) → events."""
        return self._intake.fired

    def rulebook_info(self) -> dict[str, Any]:
        """What decides now."""
        return self._force.info()

    def article(self, id: str) -> dict[str, Any]:
        """An article of the table of law in force, in all its versions. NotFound where there is none."""
        law = self._live.rulebook.law
        if id not in law.articles:
            raise NotFound(f"there is no article '{id}' in the table of law")
        return law.shown(id)

    async def reload(self, caller: Caller) -> dict[str, Any]:
        """Read the packs and models again and switch to them as a whole; what is different then.

        Packs that need approval stay as they are (`approvals`). PackError leaves the ones in force as they are.
        """
        return await self._force.reload(caller)
