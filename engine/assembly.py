"""Settings, and the one function that wires a running Arbiter from them. Only here is the environment read."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, fields
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import make_url

from engine.anchors import Anchor, FolderAnchor, TimestampAnchor, witnesses
from engine.arbiter import Arbiter
from engine.archive import Library
from engine.changes import RELOAD, TURN
from engine.claim import Claim
from engine.database import Database, address, migrate
from engine.detectors import read_models
from engine.errors import ModelUnavailable, SettingsError, did_you_mean
from engine.force import Folders, last_rulebook
from engine.gallery import Gallery
from engine.intake import Clock
from engine.jcs import canonical
from engine.ledger import Ledger
from engine.rulebook import Rulebook, load
from engine.shipped import shipped
from engine.stores import MemoryStore, SplitStore, Store, ValkeyStore
from engine.team import Alone, Team
from engine.vault import KeyFile, TenantKeys, Vault, check_service, open_services

PREFIX = "ARBITER_"
DEVELOPMENT, PRODUCTION = "development", "production"
OFF, HTTPS = "off", "https"
NONE, REQUIRED = "none", "required"
_SCHEMES = ("redis://", "rediss://", "unix://")

_TEXTS = ("database_url", "redis_url", "timestamp_url", "mode", "witnesses", "key_service", "approval", "image_fetch")

log = structlog.get_logger("arbiter")


@dataclass(frozen=True, slots=True)
class Settings:
    """How one Arbiter runs. Each field is the variable `ARBITER_` + its name in capitals.

    `database_url` is sqlite:///path or postgresql://…; `key_file` holds the secrets of this installation (`arbiter keys
    init`); `key_service` names what keeps the key above all data keys (`engine.vault.services`); `rules` and
    `policies` are folders, `model_dir` the one of anomaly models, `snapshot_dir` the one where windows are kept for the
    next start; `redis_url` names a Valkey or Redis that keeps the windows, which are in memory without it.

    Who outside sees what the log signs (docs/witness.md): `witnesses` are keys and addresses, `anchor_dir` is a folder
    in which nothing is changed, `timestamp_url` an authority whose certificate leads to `timestamp_roots`. In the
    `mode` production at least one of them is named.

    Where `approval` is required, packs come from their folders into force only once, as the first rulebook of a ledger:
    from then on each is proposed by one person and approved by another (docs/approval.md).

    `image_detector` is the folder of a model that looks at images of listings (docs/bring-a-detector.md);
    with `image_fetch` https images are fetched by their URL (docs/images.md).
    """

    database_url: str = "sqlite:///arbiter.db"
    redis_url: str = ""
    key_file: Path = Path("arbiter-keys.json")
    rules: Path = Path("rules")
    policies: Path = Path("policies")
    model_dir: Path | None = None
    snapshot_dir: Path | None = None
    workers: int = 1
    key_service: str = "file"
    mode: str = DEVELOPMENT
    witnesses: str = ""
    anchor_dir: Path | None = None
    timestamp_url: str = ""
    timestamp_roots: Path | None = None
    approval: str = NONE
    image_detector: Path | None = None
    image_fetch: str = OFF

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Settings:
        """The settings in the environment. SettingsError names the variable, its value and what is wrong with it.

        Without ARBITER_RULES and ARBITER_POLICIES the folders `rules` and `policies` of the working directory are
        used, and where there are none the packs that Arbiter ships.
        """
        known = {PREFIX + field.name.upper(): field.name for field in fields(cls)}
        given = {name: value for name, value in environ.items() if name.startswith(PREFIX) and not _others(name)}
        for name in given:
            if name not in known:
                raise SettingsError(f"{name} is not a setting; {did_you_mean(name, known) or ', '.join(known)}")
        values: dict[str, Any] = {known[name]: _typed(name, known[name], value) for name, value in given.items()}
        for folder in ("rules", "policies"):
            if folder not in values and not Path(folder).is_dir():
                values[folder] = shipped(folder)
        settings = cls(**values)
        settings.check()
        return settings

    def environ(self) -> dict[str, str]:
        """The variables that `read` makes the same settings of."""
        values = ((PREFIX + field.name.upper(), getattr(self, field.name)) for field in fields(self))
        return {name: str(value) for name, value in values if value not in (None, "")}

    def check(self) -> None:
        """Raises SettingsError for what cannot run."""
        address(self.database_url)
        check_service(self.key_service)
        if self.redis_url and not self.redis_url.startswith(_SCHEMES):
            raise SettingsError(
                f"ARBITER_REDIS_URL starts with {self.redis_url.partition(':')[0] + ':'!r}, "
                f"which is none of {', '.join(_SCHEMES)}"
            )
        if self.redis_url and self.snapshot_dir:
            raise SettingsError(
                "ARBITER_SNAPSHOT_DIR and ARBITER_REDIS_URL are both set, but only windows in memory have snapshots: "
                "unset one"
            )
        self._check_anchors()
        lacking = []
        if not self.redis_url:
            lacking.append("share their windows in a Valkey or Redis that ARBITER_REDIS_URL names")
        if address(self.database_url).drivername == "sqlite":
            lacking.append("write to a PostgreSQL that ARBITER_DATABASE_URL names, as one process writes a SQLite file")
        if self.workers > 1 and lacking:
            raise SettingsError(f"{self.workers} workers (ARBITER_WORKERS, --workers) {', and '.join(lacking)}")

        if self.approval not in (NONE, REQUIRED):
            raise SettingsError(f"ARBITER_APPROVAL is '{self.approval}': it is {NONE} or {REQUIRED}")
        if self.image_fetch not in (OFF, HTTPS):
            raise SettingsError(f"ARBITER_IMAGE_FETCH is '{self.image_fetch}': it is {OFF} or {HTTPS}")

    def _check_anchors(self) -> None:
        if self.mode not in (DEVELOPMENT, PRODUCTION):
            raise SettingsError(f"ARBITER_MODE is '{self.mode}': it is {DEVELOPMENT} or {PRODUCTION}")
        if bool(self.timestamp_url) != bool(self.timestamp_roots):
            raise SettingsError("ARBITER_TIMESTAMP_URL and ARBITER_TIMESTAMP_ROOTS go together: set both, or neither")
        if self.mode == PRODUCTION and not (self.witnesses or self.anchor_dir or self.timestamp_url):
            raise SettingsError(
                "ARBITER_MODE is production, and nobody outside sees what the log signs: a log that only its owner "
                "holds proves little. Set ARBITER_WITNESSES, ARBITER_TIMESTAMP_URL or ARBITER_ANCHOR_DIR "
                "(docs/witness.md)"
            )

    def told(self) -> dict[str, str]:
        """The settings as a record may show them: without passwords, and without those that are unset."""
        told = {name.removeprefix(PREFIX).lower(): value for name, value in self.environ().items()}
        for name in ("database_url", "redis_url", "timestamp_url"):
            if name in told:
                told[name] = make_url(told[name]).render_as_string(hide_password=True)
        return told

    def anchors(self) -> list[Anchor]:
        """Who outside sees what the log signs. SettingsError for one that cannot be."""
        found: list[Anchor] = [*witnesses(self.witnesses)] if self.witnesses else []
        if self.anchor_dir is not None:
            if not self.anchor_dir.is_dir():
                raise SettingsError(f"ARBITER_ANCHOR_DIR: {self.anchor_dir} is not a folder; mount or make it first")
            found.append(FolderAnchor(self.anchor_dir))
        if self.timestamp_url and self.timestamp_roots:
            found.append(TimestampAnchor(self.timestamp_url, self.timestamp_roots))
        return found


def _others(name: str) -> bool:
    """The API reads its own settings (`api.Limits`), the tests theirs, commands a server and a language."""
    return name == f"{PREFIX}LANG" or name.startswith((f"{PREFIX}API_", f"{PREFIX}TEST_", f"{PREFIX}SERVER"))


def _typed(name: str, field: str, value: str) -> str | int | Path:
    if field == "workers":
        if not value.isascii() or not value.isdigit() or int(value) < 1:
            raise SettingsError(f"{name} has the value '{value}', which is not a number of workers")
        return int(value)
    if not value.strip():
        raise SettingsError(f"{name} is empty; unset it to use the default")
    return value if field in _TEXTS else Path(value)


def _own_folder(path: Path | None) -> Path | None:
    """A folder that is made if it is not there, for this user alone."""
    if path is not None:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"ARBITER_SNAPSHOT_DIR is {path}, which cannot be made a folder: {error}") from error
    return path


def wall_clock() -> int:
    """UTC microseconds since 1970."""
    return time.time_ns() // 1_000


async def open_arbiter(
    settings: Settings, *, clock: Clock = wall_clock, rulebook: Rulebook | None = None, team: Team | None = None
) -> Arbiter:
    """A running Arbiter: packs loaded, tables migrated, windows being rebuilt from the ledger in the background.

    `rulebook` is one that was loaded from the settings' folders already. Of a `team` of several, the first to start
    loads the packs, the others take the rulebook that is in force. Raises PackError, SettingsError or Unavailable;
    nothing is left open then.
    """
    settings.check()
    team = team or Alone()
    # Nothing changes between what is read here and what this process hears of from then on.
    async with team.turn(RELOAD), team.turn(TURN):
        return await _open(settings, clock, rulebook, team)


async def _open(settings: Settings, clock: Clock, rulebook: Rulebook | None, team: Team) -> Arbiter:
    approval = settings.approval == REQUIRED
    snapshots = _own_folder(settings.snapshot_dir)
    folders = Folders(settings.rules, settings.policies, settings.model_dir, snapshots, approval)
    first = "rulebook" not in team.board
    if first and not approval:
        rulebook = rulebook or load(settings.rules, settings.policies, strict=False)
    keys = KeyFile.read(settings.key_file)
    anchors = settings.anchors()
    if team.size == 1:  # Else their parent has done it.
        migrate(settings.database_url)
    async with AsyncExitStack() as opened:
        claim = None
        if team.size == 1:
            claim = await Claim.take(settings.database_url)
            opened.push_async_callback(claim.release)
        ledger = await Ledger.open(settings.database_url, keys)
        opened.push_async_callback(ledger.close)
        if approval or not first:
            named = await last_rulebook(ledger) or team.board.get("rulebook")
            rulebook = await Library(ledger.database, clock).find(named) if named else None
        # The first rulebook of a ledger, which nobody could have proposed.
        rulebook = rulebook or load(settings.rules, settings.policies, strict=False)
        # As with a list that cannot be read: start, say so in every verdict, and let the policy see to it.
        models = read_models(settings.model_dir, rulebook.detectors, strict=False)
        for kind, problem in models.missing.items():
            log.warning("model_unavailable", kind=kind, reason=problem)
        make_store = partial(_store, settings.redis_url, keys.signer.key_id, clock, team)
        vault = open_vault(settings, keys, ledger.database)
        gallery = _gallery(ledger.database, clock, settings)
        arbiter = Arbiter(
            *(folders, rulebook, models, make_store, vault, ledger, keys, claim, team, clock),
            *(anchors, canonical({**settings.told(), "rulebook": rulebook.hash}).decode(), gallery),
        )
        await arbiter.start()
        opened.pop_all()  # From here on `Arbiter.close` gives them back.
    return arbiter


def _gallery(database: Database, clock: Clock, settings: Settings) -> Gallery:
    try:
        return Gallery(database, clock, settings.image_detector, fetching=settings.image_fetch == HTTPS)
    except ModelUnavailable as error:
        raise SettingsError(f"ARBITER_IMAGE_DETECTOR: {error}") from None


def open_vault(settings: Settings, keys: KeyFile, database: Database, before: str = "file") -> Vault:
    """The vault over a ledger's tables, with the key service of the settings, and with one that is being left.

    SettingsError when one cannot be used; the service itself is not asked before a key is needed.
    """
    services = open_services(settings.key_service, keys, settings.key_file, os.environ, before)
    return Vault(keys, TenantKeys(database, services))


def _store(
    url: str, ledger: str, clock: Clock, team: Team, rates: str, *, fresh: bool = False, generation: str = ""
) -> Store:
    """Where the windows of a ledger are kept whose money is converted by these rates."""
    if not url:
        return MemoryStore()
    space = sha256(f"{ledger} {rates}".encode()).hexdigest()[:16]
    server = ValkeyStore(
        *(url, space), fresh=fresh, generation=generation, member=team.name, living=team.living, clock=clock
    )
    return SplitStore(server, clock=clock)
