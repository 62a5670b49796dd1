"""Every message of the officer's commands, as templates read from the source, beside the Chinese catalogue.

`python -m tests.messages` prints what cli/zh.yaml lacks, as entries to fill in, and what it has for no message any
more.

A template is a text of the source, its placeholders as `{0}`, `{1}`: f"unknown key '{key}'" is "unknown key '{0}'".
Any text of the modules below counts as a message when it has a space and a word in it and is no tag; what is never
told to anybody is named in SILENT, or given to a call in QUIET.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

from engine.schema import schema

ROOT = Path(__file__).parent.parent
CATALOGUE = ROOT / "cli/zh.yaml"

MODULES = """
    engine/packs engine/errors.py engine/money.py engine/expr/check.py engine/expr/functions.py engine/expr/hints.py
    engine/expr/syntax.py engine/expr/units.py engine/expr/patterns.py engine/expr/mutants.py engine/rules.py
    engine/policy/checks.py engine/policy/invariants.py engine/policy/pack.py engine/lists/entries.py
    engine/lists/files.py engine/lists/imports.py engine/lists/names.py engine/lists/phrases.py
    engine/lists/published.py engine/lists/tables.py engine/lists/xmlrecords.py engine/links/pack.py
    engine/exemptions.py
    engine/experiments.py engine/metrics.py engine/targets.py engine/alerts.py
    engine/retention.py engine/rates.py engine/rulebook engine/detectors.py
    engine/rollout.py engine/suites engine/mapping engine/schema/own.py engine/schema/fields.py
    engine/schema/refusals.py engine/schema/values.py engine/schema/times.py engine/schema/nesting.py
    engine/schema/events.py engine/trial.py engine/invariants.py engine/features/facts.py engine/coverage.py
    engine/wording.py engine/appeal.py engine/hearings.py cli/appeal.py
    engine/counterfactual.py cli/counterfactual.py
    engine/bodies.py engine/columns/cells.py engine/columns/gathering.py engine/columns/lowering.py
    engine/columns/meanings.py engine/columns/rates.py engine/columns/spark_session.py engine/columns/spark.py
    engine/columns/windows.py engine/reasoning/conditions.py
    engine/reasoning/policies.py engine/reasoning/prove.py engine/reasoning/remark.py engine/assembly.py
    engine/law.py engine/proposals.py engine/approvals.py engine/force.py cli/packs.py cli/notices.py cli/testing.py
    cli/mutating.py cli/fmt.py cli/prove.py cli/proposing.py cli/remote.py cli/score.py cli/tables.py cli/replay.py
    cli/backtest.py cli/revision.py cli/settings.py cli/history.py cli/schemas.py cli/rules.py cli/draft.py
    cli/papers.py cli/progress.py cli/lists.py cli/language.py cli/group.py cli/report.py cli/diff.py
    cli/warehouses.py cli/experiment.py cli/figures.py cli/alerts.py cli/processing.py
    cli/fairness.py engine/processing/pack.py cli/tune.py cli/tuned.py cli/tunable.py
    cli/scorecard.py cli/tunedraft.py cli/observing.py cli/features.py cli/law.py
    cli/images.py engine/images/card.py engine/references.py
    cli/compliance.py engine/checklists.py engine/compliance.py engine/tuning engine/modes.py cli/mode.py
    engine/playbooks.py engine/incidents.py engine/opinions.py cli/playbook.py
    engine/profiles engine/policy/terms.py engine/assessments.py engine/standings.py cli/merchants.py
""".split()

QUIET = frozenset(
    "Row _compared _textual FieldDef RuntimeError AssertionError execute split compile model_constr fires".split()
)
"""Calls whose texts reach nobody: the reference of the language, fields of events, SQL, mistakes of our own."""

SILENT = frozenset(yaml.safe_load((Path(__file__).with_name("cases") / "silent.yaml").read_text("utf-8")))
"""Texts that are no messages: code, what a parser says before we say it better, labels of figures."""


def templates() -> dict[str, str]:
    """Every template with the file it is in, in the order of the source."""
    found: dict[str, str] = {}
    for file in _files():
        for template in _in(ast.parse(_source(file))):
            if template not in SILENT:
                found.setdefault(template, file.relative_to(ROOT).as_posix())
    return found


def _files() -> Iterator[Path]:
    for name in MODULES:
        place = ROOT / name
        yield from sorted(place.glob("*.py")) if place.is_dir() else [place]


def _in(node: ast.AST) -> Iterator[str]:
    """The templates below a node. The docstring of a thing, its types, its decorators and assertions have none."""
    if isinstance(node, ast.Assert) or (isinstance(node, ast.Call) and _quiet(node)):
        return
    pieces = _pieces(node)
    if pieces is not None:
        template = written(pieces)
        if _is_message(template):
            yield template
        for piece in pieces:
            if not isinstance(piece, str):
                yield from _in(piece)
        return
    for name, value in ast.iter_fields(node):
        if name in ("decorator_list", "annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not (
                isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            ):
                yield from _in(child)


def _quiet(call: ast.Call) -> bool:
    function = ast.unparse(call.func).split(".")
    return function[-1] in QUIET or (function[0] in ("click", "re") and function[-1] != "echo")


def _pieces(node: ast.AST) -> list[str | ast.AST] | None:
    """A text, piece by piece: fixed text, or what stands in a placeholder. None for what is no text."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        parts = (each for each in node.values if isinstance(each, ast.Constant | ast.FormattedValue))
        return [str(each.value) if isinstance(each, ast.Constant) else each.value for each in parts]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _pieces(node.left), _pieces(node.right)
        if left is not None or right is not None:
            return (left or [node.left]) + (right or [node.right])
    return None


def written(pieces: list[str | ast.AST]) -> str:
    """The text with numbered placeholders, as the catalogue has it."""
    text = ""
    number = 0
    for piece in pieces:
        if isinstance(piece, str):
            text += piece
        else:
            text += f"{{{number}}}"
            number += 1
    return text.strip()


def _is_message(template: str) -> bool:
    fixed = re.sub(r"\{\d+\}", "\0", template)
    return bool(re.search(r"[A-Za-z][a-z]", fixed)) and " " in fixed.strip() and not re.match(r"<(?!p>)", fixed)


@cache
def catalogue() -> dict[str, dict[str, str]]:
    """The catalogue as it is written: messages, composed and words."""
    read: dict[str, dict[str, str]] = yaml.safe_load(CATALOGUE.read_text("utf-8"))
    return read


def missing() -> list[str]:
    """Templates without a translation, as entries for cli/zh.yaml."""
    known = {
        *catalogue()["messages"],
        *(each.replace("{n}", "{0}").replace("{m}", "{1}") for each in catalogue()["composed"]),
    }
    return [f"{_quoted(each)}: ''  # {file}" for each, file in templates().items() if each not in known]


def stale() -> list[str]:
    """Translations of no message, and words that the source does not have."""
    there = templates()
    spoken = set(re.findall(r"[A-Za-z.]+", " ".join(_source(file) for file in _files())))
    spoken |= set(schema().kinds)
    words = [*catalogue()["words"], *(each for each in catalogue()["composed"] if each.startswith("{n} "))]
    return [each for each in catalogue()["messages"] if each not in there] + [
        each
        for each in words
        if not all(
            word in spoken or word.removesuffix("s") in spoken for word in re.findall(r"[A-Za-z.]+", _fixed(each))
        )
    ]


def _source(file: Path) -> str:
    return file.read_text("utf-8")


def _fixed(template: str) -> str:
    return re.sub(r"\{[0-9nm]\}", " ", template)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'" if "\n" not in text else repr(text)


if __name__ == "__main__":
    print("\n".join([*missing(), *(f"no message any more: {each}" for each in stale())]))
