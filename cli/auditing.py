"""The group `audit` with all its commands, each from its own module."""

from __future__ import annotations

from cli.ledger import audit
from cli.reconciling import reconcile
from cli.replaying import replay

__all__ = ["audit"]

audit.add_command(replay)
audit.add_command(reconcile)
