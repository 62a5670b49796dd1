"""`check`, `test` and `schema`: for people who write rules and policies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from pydantic import BaseModel

from cli.group import counted, tell
from cli.settings import pack_options, settings
from engine.errors import PackError, Problem, RequestRefused, did_you_mean
from engine.packs.shape import FORMAT
from engine.rulebook import FILE_KINDS, Rulebook, load
from engine.rules import Rule
from engine.trial import Trial, try_rules

Names = Callable[[str], str | None]
"""The name under which a file of a rulebook is shown; None when it is not asked about."""

_paths = click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(exists=True, path_type=Path))


@dataclass(frozen=True)
class Part:
    """A rulebook to look at, and which of its files."""

    rules: Path
    policies: Path
    names: Names


@dataclass
class Found:
    """What came of looking: problems, notices, and the tests in order."""

    rules: int = 0
    trials: list[Trial] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notices: list[Problem] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Tests that did not go as written."""
        return sum(trial.problem is not None for trial in self.trials)


@click.command()
@_paths
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
@pack_options
def check(paths: tuple[Path, ...], as_json: bool, rules: Path | None, policies: Path | None) -> None:
    """Check rules and policies, and run the tests written beside the rules.

    Without PATH it checks everything in ARBITER_RULES and ARBITER_POLICIES. A PATH is a file or a folder: it is checked
    together with everything else, and only what concerns it is shown. A folder with its own rules/ and policies/ is
    checked by itself. Exit code 1 when there are problems.

    \b
    Examples:
      arbiter check
      arbiter check rules/payments/card-testing.yaml
      arbiter check docs/examples/handbook
      arbiter check --json | jq .problems
    """
    found = examined(paths, rules, policies)
    if as_json:
        click.echo(json.dumps(as_data(found), ensure_ascii=False, indent=2))
    else:
        tell(found.problems)
        passed = len(found.trials) - found.failed
        tests = f"{counted(passed, 'test')} passed" + (f", {found.failed} failed" if found.failed else "")
        click.echo(f"{counted(found.rules, 'rule')}, {tests}, {counted(len(found.problems), 'problem')}")
    for notice in found.notices:
        click.echo(f"notice: {notice}", err=True)
    raise SystemExit(int(bool(found.problems)))


@click.command()
@_paths
@click.option("--only", multiple=True, metavar="RULE", help="Only the tests of this rule; may be given several times.")
@pack_options
def test(paths: tuple[Path, ...], only: tuple[str, ...], rules: Path | None, policies: Path | None) -> None:
    """Run the tests written beside the rules, and list each with its sentence. Exit code 1 when one fails.

    \b
    Examples:
      arbiter test
      arbiter test rules/payments
      arbiter test --only card-testing.burst
    """
    found = examined(paths, rules, policies, only)
    if not found.trials and found.problems:
        tell(found.problems)
        raise SystemExit(1)
    for trial in found.trials:
        mark = "ok    " if trial.problem is None else "FAILED"
        click.echo(f"{mark}  {trial.rule}: {trial.it}")
    for trial in found.trials:
        if trial.problem is not None:
            click.echo("\n" + trial.problem.render())
    click.echo(f"\n{counted(len(found.trials), 'test')}, {found.failed} failed")
    raise SystemExit(int(bool(found.problems)))


def as_data(found: Found) -> dict[str, Any]:
    """The result in the form that `check --json` promises."""
    return {
        "ok": not found.problems,
        "rules": found.rules,
        "tests": {"passed": len(found.trials) - found.failed, "failed": found.failed},
        "problems": [
            {"file": one.file, "line": one.line, "column": one.column, "message": one.what, "hint": one.hint}
            for one in found.problems
        ],
    }


def examined(
    paths: Sequence[Path], rules: Path | None = None, policies: Path | None = None, only: Sequence[str] = ()
) -> Found:
    """Everything that is to be said about `paths`, or about the whole rulebook. `only` names rules to test."""
    given = settings(rules, policies)
    found = Found()
    with parts(given.rules, given.policies, paths) as looked_at:
        for part in looked_at:
            _examine(part, only, found)
    return found


def _examine(part: Part, only: Sequence[str], found: Found) -> None:
    try:
        rulebook = load(part.rules, part.policies)
    except PackError as error:
        mine = list(_named(error.problems, part.names))
        # Where only other files are wrong, those stand in the way of checking this one.
        found.problems += mine or error.problems
        return
    chosen = [rule for rule in rulebook.rules if part.names(rule.document.file) is not None]
    if only:
        chosen = _only(chosen, only)
    found.rules += len(chosen)
    trials = list(try_rules(rulebook, chosen))
    found.trials += trials
    found.problems += _named([trial.problem for trial in trials if trial.problem], part.names)
    found.notices += _named(_lagging(chosen), part.names)


def _named(problems: Sequence[Problem], names: Names) -> Iterator[Problem]:
    for problem in problems:
        name = names(problem.file)
        if name is not None:
            yield replace(problem, file=name)


def _only(rules: Sequence[Rule], only: Sequence[str]) -> list[Rule]:
    known = [rule.id for rule in rules]
    for name in only:
        if name not in known:
            raise RequestRefused(f"there is no rule '{name}' here; {did_you_mean(name, known)}".rstrip("; "))
    return [rule for rule in rules if rule.id in only]


def _lagging(rules: Sequence[Rule]) -> list[Problem]:
    """House policies whose day of review has passed: someone should look, nothing is wrong."""
    today = date.today()  # noqa: DTZ011  the day where the officer sits
    return [
        rule.document.problem(
            (*rule.loc, "basis", "review_by"), f"rule '{rule.id}' was to be looked at again by {rule.review_by}"
        )
        for rule in rules
        if rule.review_by is not None and rule.review_by < today
    ]


# Which files


@contextmanager
def parts(rules: Path, policies: Path, paths: Sequence[Path]) -> Iterator[list[Part]]:
    """The rulebooks to look at for `paths`. Files from elsewhere are laid beside the rulebook's own, in a copy."""
    inside = {name for path in paths for root in (rules, policies) if (name := _inside(path, root)) is not None}
    outside = [path for path in paths if not any(_inside(path, root) is not None for root in (rules, policies))]
    own = [path for path in outside if (path / "rules").is_dir() and (path / "policies").is_dir()]
    drafts = [path for path in outside if path not in own]
    with ExitStack() as stack:
        looked_at = [Part(path / "rules", path / "policies", _below(path)) for path in own]
        if drafts:
            looked_at.append(stack.enter_context(_beside(rules, policies, drafts, inside)))
        elif inside or not paths:
            looked_at.append(Part(rules, policies, _within(inside) if paths else _all))
        yield looked_at


def _inside(path: Path, root: Path) -> str | None:
    """The name that problems give to `path` in the folder `root`; None when it lies elsewhere."""
    if not path.resolve().is_relative_to(root.resolve()):
        return None
    rest = path.resolve().relative_to(root.resolve())
    return (Path(root.name) / rest).as_posix()


def _all(name: str) -> str | None:
    return name


def _within(names: set[str]) -> Names:
    return lambda name: name if any(name == one or name.startswith(f"{one}/") for one in names) else None


def _below(folder: Path) -> Names:
    return lambda name: (folder / name).as_posix()


@contextmanager
def _beside(rules: Path, policies: Path, drafts: Sequence[Path], inside: set[str]) -> Iterator[Part]:
    """A copy of the rulebook with drafts from elsewhere laid into it, which keep their own names."""
    with TemporaryDirectory(prefix="arbiter-check-") as folder:
        shutil.copytree(rules, Path(folder, rules.name))
        shutil.copytree(policies, Path(folder, policies.name))
        own_names: dict[str, Path] = {}
        for number, draft in enumerate(drafts):
            place = Path(rules.name, f"given-{number}", draft.name)
            target = Path(folder, place)
            target.parent.mkdir()
            (shutil.copytree if draft.is_dir() else shutil.copyfile)(draft, target)
            own_names[place.as_posix()] = draft
        known = _within(inside)

        def names(name: str) -> str | None:
            for place, draft in own_names.items():
                if name == place:
                    return draft.as_posix()
                if name.startswith(f"{place}/"):
                    return (draft / name.removeprefix(f"{place}/")).as_posix()
            return known(name)

        yield Part(Path(folder, rules.name), Path(folder, policies.name), names)


# JSON Schema


@click.command()
@click.argument("kind", required=False, metavar="[KIND]")
def schema(kind: str | None) -> None:
    """The JSON Schema of the YAML files, for editors: pack, policy, fields, list, exceptions, rates, map.

    \b
    Examples:
      arbiter schema pack > pack.schema.json
      arbiter schema | jq keys
    """
    from engine.mapping import MapPack

    kinds: dict[str, type[BaseModel]] = {**FILE_KINDS, "map": MapPack}
    if kind is not None and kind not in kinds:
        hint = did_you_mean(kind, kinds) or "one of " + ", ".join(kinds)
        raise RequestRefused(f"there is no kind of file '{kind}'; {hint}")
    shown = {name: _json_schema(model) for name, model in kinds.items() if kind in (None, name)}
    click.echo(json.dumps(shown[kind] if kind else shown, ensure_ascii=False, indent=2))


def _json_schema(model: type[BaseModel]) -> dict[str, Any]:
    found = model.model_json_schema()
    # Every file may say its format, whether or not its model looks at it.
    found["properties"] = {"format": {"const": FORMAT}} | found["properties"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def rulebook(rules: Path | None, policies: Path | None) -> Rulebook:
    """The rulebook of the settings. Raises PackError."""
    given = settings(rules, policies)
    return load(given.rules, given.policies)
