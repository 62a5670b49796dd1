"""Who calls: services and persons, and what each may do."""

from __future__ import annotations

from dataclasses import dataclass

SCOPES = ("score", "outcome", "rules", "audit", "reveal", "admin", "author", "approve", "deploy", "incident", "opinion")
"""What a key may allow: judge events, report outcomes and resolutions, change lists, read the log, see personal data,
reload and make keys; propose rulebooks, approve them, let them decide and roll back, and switch
modes on; work on incidents; report public opinion."""

KINDS = ("service", "person")


@dataclass(frozen=True, slots=True)
class By:
    """Who did it: the API key's name, whether it is a service or a person, and the person a service speaks for."""

    name: str
    kind: str
    person: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a service or a person, of one tenant, with what it may do."""

    name: str
    kind: str
    tenant: str
    scopes: frozenset[str]

    @property
    def by(self) -> By:
        """The caller as a record names it."""
        return self.speaking_for("")

    def speaking_for(self, person: str) -> By:
        """The caller, and the person it names. A person speaks for nobody else."""
        return By(self.name, self.kind, self.name if self.kind == "person" else person.strip())
