"""The group `audit` with all its commands: each module adds its own."""

from __future__ import annotations

from cli import research
from cli.ledger import audit

__all__ = ["audit", "research"]
