"""`audit`: what an auditor takes out of the log, and how it is checked."""

from __future__ import annotations

from cli.group import Commands

audit = Commands(
    name="audit",
    lazy={
        "export": ("cli.export:export", "Write a period of the log into a folder that proves itself."),
        "verify": ("cli.export:check", "Check an export."),
        "announce": ("cli.sampling:announce", "Put the hash of an auditor's nonce into the log."),
        "sample": ("cli.sampling:sample", "Draw decisions that nobody can choose."),
        "research": ("cli.research:research", "An anonymised table."),
        "replay": ("cli.replaying:replay", "Compute decisions again and compare them."),
        "reconcile": ("cli.reconciling:reconcile", "Lay the shop's orders beside the verdicts."),
    },
    about="""Take the log out for an auditor, check it, sample, replay and reconcile it.""",
)
