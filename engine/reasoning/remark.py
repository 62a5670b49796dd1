"""What reasoning has to say about a rule or a policy."""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import Problem
from engine.packs import Document, Loc


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing found. `grave`: what is written cannot do what it says, so `check` fails; else someone should look.

    `witness` is a test in YAML that shows it, to be put under the tests of the rule at `problem`; empty where there is
    none. It was played, and gives what it expects.
    """

    problem: Problem
    grave: bool
    witness: str = ""


def undecided(document: Document, loc: Loc, question: str) -> Remark:
    """That a question was not answered within the work that it may cost."""
    what = f"it was not decided whether {question}: the solver reached its limit"
    return Remark(
        document.problem(loc, what, "split the condition, or give its parts names and rules of their own"), grave=False
    )
