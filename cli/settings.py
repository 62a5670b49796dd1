"""Settings from the environment, and the options that say the same for one command."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from getpass import getuser
from pathlib import Path
from typing import Any, TypeVar

import click

from engine import database as db
from engine.assembly import Settings
from engine.callers import By
from engine.errors import SettingsError

F = TypeVar("F", bound=Callable[..., Any])

TENANT = "default"
"""Whose keys and data it is where no tenant is named."""

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


def pack_options(command: F) -> F:
    """Adds --rules and --policies."""
    policies = click.option("--policies", type=_FOLDER, help="Folder of policies, instead of ARBITER_POLICIES.")
    rules = click.option("--rules", type=_FOLDER, help="Folder of rules, instead of ARBITER_RULES.")
    return rules(policies(command))


def settings(rules: Path | None = None, policies: Path | None = None) -> Settings:
    """The settings of the environment, with the folders given as options. Raises SettingsError."""
    found = Settings.read(os.environ)
    return replace(found, rules=rules or found.rules, policies=policies or found.policies)


def actor() -> By:
    """Who runs this command, as a record names him: the user of this machine, on the machine's word."""
    user = getuser()
    return By(user, "person", user)


def ledger_exists(given: Settings) -> bool:
    """Whether the settings name a ledger that is there, as far as one sees without opening it: one on PostgreSQL is."""
    parsed = db.address(given.database_url)
    return parsed.drivername != "sqlite" or db.sqlite_path(parsed).exists()


def must_exist(given: Settings) -> None:
    """Raises SettingsError where the settings name a SQLite ledger that is not there: whoever looks makes none."""
    if not ledger_exists(given):
        parsed = db.address(given.database_url)
        default = "" if db.SETTING in os.environ else " (it is not set; this is the default)"
        raise SettingsError(f"{db.SETTING}: there is no ledger at {parsed.database} yet{default}")
