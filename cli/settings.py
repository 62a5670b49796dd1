"""Settings from the environment, and the options that say the same for one command."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.assembly import Settings

F = TypeVar("F", bound=Callable[..., Any])

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
