"""Every error Arbiter raises, as one tree.

ArbiterError
├── PackError         YAML packs with problems, all of them at once
├── EventRefused      an event that breaks the schema, all reasons at once
├── BodyRefused       another body that does not fit, all reasons at once
├── RequestRefused    a request that is wrong in another way (bad cursor, bad header)
├── SettingsError     a setting that stops the start
├── NotAllowed        no key, an expired key, or a missing scope
├── SecondPerson      a step that another person must take
├── NotFound          nothing under that id
├── Conflict          the same id with another body, or a step that is not open any more
├── TooMuch           a limit on rate, size or depth is passed
├── Unavailable       a part that must answer does not; safe to retry
├── ModelUnavailable  an anomaly model that is missing, or is not what its name says
└── VaultError        a key is missing or a ciphertext is not what was written

`code` is the stable name that HTTP answers, logs and metrics show.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import ClassVar
from unicodedata import east_asian_width


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a file: where, what, and how to mend it. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    what: str
    hint: str = ""
    source: str = field(default="", compare=False)
    width: int = field(default=1, compare=False)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.what}"

    def render(self, hint: str = "hint: ") -> str:
        """The problem with its source line, a caret under the place and the hint behind its label, as several lines."""
        lines = [str(self)]
        if self.source:
            before = self.source[: self.column - 1]
            # The caret must stand under the place although a Chinese character is two cells wide.
            lead = "".join("\t" if c == "\t" else " " * cells(c) for c in before)
            marked = self.source[self.column - 1 : self.column - 1 + self.width]
            lines += [f"    {self.source}", f"    {lead}{'^' * max(1, sum(map(cells, marked)))}"]
        if self.hint:
            lines.append(f"    {hint}" + self.hint.replace("\n", "\n    "))
        return "\n".join(lines)


def cells(character: str) -> int:
    """How many terminal cells a character takes."""
    return 2 if east_asian_width(character) in "WF" else 1


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known name, or an empty string."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else ""


def with_article(noun: str) -> str:
    """The noun behind its article: 'a payment', 'an outcome'."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One thing wrong in an event, another body or a query. `what` never repeats the value that was sent."""

    path: str
    code: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


class ArbiterError(Exception):
    """Anything Arbiter refuses or cannot do."""

    code: ClassVar[str] = "error"


class PackError(ArbiterError):
    """Packs that cannot be used; `problems` holds every one found, sorted by place."""

    code = "pack_invalid"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class EventRefused(ArbiterError):
    """An event that breaks the schema; `problems` holds every reason, `path` first."""

    code = "event_invalid"

    def __init__(self, problems: Iterable[FieldProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


class BodyRefused(ArbiterError):
    """A body that is no event, such as a list entry or a report, and does not fit; `problems` as for an event."""

    code = "body_invalid"

    def __init__(self, problems: Iterable[FieldProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


class RequestRefused(ArbiterError):
    """A request that cannot be understood; `problems` name the parameters that are wrong, where some are."""

    code = "request_invalid"

    def __init__(self, message: str, problems: Iterable[FieldProblem] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__(message)


class SettingsError(ArbiterError):
    """A setting that is missing, wrong, or cannot be combined; the process must not start."""

    code = "settings_invalid"


class NotAllowed(ArbiterError):
    """The caller is not known (`missing` is empty) or lacks the scope named in `missing`."""

    code = "not_allowed"

    def __init__(self, message: str, missing: str = "") -> None:
        self.missing = missing
        super().__init__(message)


class SecondPerson(ArbiterError):
    """A step that nobody takes alone: a person must take it, and another one than who began it."""

    code = "second_person"


class NotFound(ArbiterError):
    """Nothing is stored under that id."""

    code = "not_found"


class Conflict(ArbiterError):
    """The id is taken by another body, or the step asked for is not open any more."""

    code = "conflict"


class TooMuch(ArbiterError):
    """A limit is passed. `retry_after` is in seconds, 0 where waiting does not help."""

    code = "too_much"

    def __init__(self, message: str, retry_after: int = 0) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class LogBroken(ArbiterError):
    """The database does not hold what the log signed before: nothing more may be signed."""

    code = "log_broken"


class ModelUnavailable(ArbiterError):
    """An anomaly model that is missing, or is not what its name and card say. Verdicts go on without it, and say so."""

    code = "model_unavailable"


class Unavailable(ArbiterError):
    """A part that must answer does not. Safe to retry with the same event id after `retry_after` seconds."""

    code = "unavailable"

    def __init__(self, message: str, code: str = "unavailable", retry_after: int = 1) -> None:
        self.reason = code
        self.retry_after = retry_after
        super().__init__(message)


class VaultError(ArbiterError):
    """A key is missing, or a ciphertext was moved, swapped or altered."""

    code = "vault"
