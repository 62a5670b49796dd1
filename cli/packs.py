"""`check`: for people who write rules and policies."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from cli.group import counted, tell
from cli.language import label, language_option, listed, said, said_problem, say
from cli.notices import notices, remarks
from cli.settings import pack_options, settings
from engine.assessments import try_profiles
from engine.detectors import Models, read_models, unseen
from engine.errors import PackError, Problem, RequestRefused, did_you_mean
from engine.invariants import try_invariants
from engine.packs import Document, read_all, yaml_files
from engine.packs.folder import SUFFIXES
from engine.rulebook import FILE_KINDS, Rulebook, load
from engine.rules import Rule
from engine.suites import Suite, read_suites, try_suites
from engine.trial import Trial, try_rules

paths_argument = click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(exists=True, path_type=Path))


@dataclass(frozen=True)
class Part:
    """A rulebook to look at, and which of its files: `asked` says how each file or folder is shown, None asks all.

    `drafts` are those of them that come from elsewhere and lie in a copy, under another name.
    """

    rules: Path
    policies: Path
    asked: Mapping[str, str] | None = None
    drafts: Mapping[str, str] = field(default_factory=dict)

    def shown(self, file: str) -> str | None:
        """The name under which a file of the rulebook is shown; None when it is not asked about."""
        if self.asked is None:
            return file
        for place, name in self.asked.items():
            if file == place or file.startswith(f"{place}/"):
                return name + file.removeprefix(place)
        return None

    def told(self, problems: Iterable[Problem]) -> Iterator[Problem]:
        """The problems of what is asked about, with the names that people gave."""
        for problem in problems:
            file = self.shown(problem.file)
            if file is not None:
                yield replace(problem, file=file, what=self._given(problem.what), hint=self._given(problem.hint))

    def _given(self, text: str) -> str:
        for place, name in self.drafts.items():
            text = text.replace(place, name)
        return text


@dataclass(frozen=True)
class Tried:
    """A rulebook that was looked at, where it lies, and those of its rules that were asked about."""

    part: Part
    rulebook: Rulebook
    rules: Sequence[Rule]


@dataclass
class Found:
    """What came of looking: problems, notices, and the tests in order."""

    rules: int = 0
    others: Counter[str] = field(default_factory=Counter)
    trials: list[Trial] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notices: list[Problem] = field(default_factory=list)
    untried: bool = False
    """Whether tests could not be run, for want of a rulebook."""
    tried: list[Tried] = field(default_factory=list)
    """The rulebooks that were looked at, and which of their rules."""

    @property
    def failed(self) -> int:
        """Tests that did not go as written."""
        return sum(trial.problem is not None for trial in self.trials)


@click.command()
@paths_argument
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
@pack_options
@language_option
def check(paths: tuple[Path, ...], as_json: bool, rules: Path | None, policies: Path | None) -> None:
    """Check rules and policies, and run the tests written beside the rules and invariants, and the suites.

    Beyond form and types it reasons: rules that can never fire or always do, that repeat, conflict or add nothing,
    clauses that never hold, scores that no points reach. What can only be a mistake is a problem, the rest a notice.

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
    found = examined(paths, rules, policies, reason=True)
    if as_json:
        click.echo(json.dumps(as_data(found), ensure_ascii=False, indent=2))
    else:
        tell(found.problems)
        click.echo(listed(summary(found)))
    if found.untried:
        say("the tests run once these are mended", err=True)
    for notice in found.notices:
        click.echo(noticed(notice), err=True)
    raise SystemExit(int(bool(found.problems)))


_OTHERS = {
    "list": ("list", ""),
    "links": ("group of linked accounts", "groups of linked accounts"),
    "policy": ("policy", "policies"),
    "anomaly": ("anomaly detector", ""),
    "exceptions": ("exception", ""),
    "rates": ("table of rates", "tables of rates"),
    "fields": ("own field", ""),
    "retention": ("table of retention", "tables of retention"),
    "suite": ("suite", ""),
    "experiment": ("experiment", ""),
    "targets": ("table of targets", "tables of targets"),
    "alerts": ("alert line", ""),
    "processing": ("record of processing", "records of processing"),
    "playbook": ("playbook", ""),
    "profile": ("profile", ""),
    "notices": ("file of notices", "files of notices"),
}
"""Kind of file → what is counted in it, once and more than once."""


def noticed(notice: Problem) -> str:
    """A notice with its hint."""
    hint = f"\n    {label('hint')}{said(notice.hint)}" if notice.hint else ""
    return f"{label('notice')}{said_problem(notice)}{hint}"


def summary(found: Found) -> Iterator[str]:
    """What was checked: rules with their tests, and what else there was."""
    if found.rules or not found.others:
        yield counted(found.rules, "rule")
    for kind, words in _OTHERS.items():
        if found.others[kind]:
            yield counted(found.others[kind], *words)
    if found.rules or found.trials or not found.others:
        passed = len(found.trials) - found.failed
        yield f"{counted(passed, 'test')} passed" + (f", {found.failed} failed" if found.failed else "")
    yield counted(len(found.problems), "problem")


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
    paths: Sequence[Path],
    rules: Path | None = None,
    policies: Path | None = None,
    only: Sequence[str] = (),
    *,
    reason: bool = False,
) -> Found:
    """Everything that is to be said about `paths`, or about the whole rulebook. `only` names rules to test; `reason`
    asks the solver too."""
    given = settings(rules, policies)
    found = Found()
    found.problems += (problem for path in paths if (problem := _no_pack(path)) is not None)
    sound = [path for path in paths if _no_pack(path) is None]
    with parts(given.rules, given.policies, sound, everything=not paths) as looked_at:
        for part in looked_at:
            _examine(part, only, found, given.model_dir, reason=reason)
    return found


def _examine(part: Part, only: Sequence[str], found: Found, models: Path | None, *, reason: bool) -> None:
    try:
        rulebook = load(part.rules, part.policies)
    except PackError as error:
        mine = list(part.told(error.problems))
        # Where only other files are wrong, those stand in the way of checking this one.
        found.problems += mine or error.problems
        found.untried = True
        return
    documents = [
        each for root in (part.rules, part.policies) for each in read_all(root) if part.shown(each.file) is not None
    ]
    chosen = [rule for rule in rulebook.rules if part.shown(rule.document.file) is not None]
    if only:
        chosen = _only(chosen, only, [suite.name for suite in _all_suites(part)[0]])
    found.rules += len(chosen)
    found.tried.append(Tried(part, rulebook, chosen))
    suites = _suites(part, only, found)
    trials = [*try_rules(rulebook, chosen), *try_suites(rulebook, suites)]
    if not only:
        asked = {each.file for each in documents}
        beside = (*try_invariants(rulebook), *try_profiles(rulebook))
        trials += [trial for trial, file in beside if file in asked]
    found.trials += trials
    found.others["suite"] += len(suites)
    found.others += _counts(documents)
    found.problems += part.told(trial.problem for trial in trials if trial.problem)
    found.notices += part.told(notices(rulebook, chosen, documents))
    if reason:
        grave, light = remarks(rulebook, chosen, documents)
        found.problems += part.told(grave)
        found.notices += part.told(light)
    if models is None:
        found.notices += part.told(_unlooked(rulebook))
        return
    try:
        pinned = read_models(models, rulebook.detectors, strict=True)
    except PackError as error:
        found.problems += part.told(error.problems)
        return
    found.notices += part.told(_unseen(rulebook, pinned))


def _suites(part: Part, only: Sequence[str], found: Found) -> list[Suite]:
    """The suites that are asked about. What is wrong with them, and names that two of them have, are problems."""
    suites, problems = _all_suites(part)
    asked = [suite for suite in suites if part.shown(suite.document.file) is not None]
    found.problems += part.told(problems)
    first: dict[str, Suite] = {}
    for suite in suites:
        other = first.setdefault(suite.name, suite)
        if other is not suite:
            what = f"there is a suite '{suite.name}' already"
            found.problems += part.told([suite.document.problem(("suite",), what, f"it is {other.document.file}")])
    return [suite for suite in asked if not only or suite.name in only]


def _all_suites(part: Part) -> tuple[list[Suite], list[Problem]]:
    read = [read_suites(root) for root in (part.rules, part.policies)]
    return [suite for suites, _ in read for suite in suites], [problem for _, problems in read for problem in problems]


def _unlooked(rulebook: Rulebook) -> Iterator[Problem]:
    """Pinned models that nobody can look at here."""
    for each in rulebook.detectors:
        if each.champion is not None:
            hint = "set ARBITER_MODEL_DIR to the folder of models"
            yield each.document.problem(("model",), "whether this model can be used was not checked", hint)


def _unseen(rulebook: Rulebook, pinned: Models) -> Iterator[Problem]:
    """Features that cost time at each event and that no pinned model looks at."""
    for each in rulebook.detectors:
        for name in unseen(each, pinned):
            hint = "pin a model that was trained on it, or delete it"
            yield each.document.problem(("features", name), "no pinned model looks at this feature", hint)


_INSIDE = {
    "exceptions": "exceptions",
    "fields": "fields",
    "links": "groups",
    "alerts": "lines",
    "processing": "records",
}
"""Kind of file → the key under which what is counted stands."""


def _counts(documents: Iterable[Document]) -> Counter[str]:
    """How many lists, policies and so on there are; of `_INSIDE`, those in the files."""
    counts: Counter[str] = Counter()
    for data in (document.data for document in documents):
        kind = next(key for key in FILE_KINDS if key in data)
        counted = _INSIDE.get(kind)
        counts[kind] += len(data[counted]) if counted else 1
    del counts["pack"]
    return counts


def _no_pack(path: Path) -> Problem | None:
    """What to say of a file that is no YAML file, or of a folder that has none."""
    if path.is_file() and (path.suffix.lower() not in SUFFIXES or path.name.startswith(".")):
        hint = "packs are files NAME.yaml; the text file of a list is checked with its list"
        return Problem(path.as_posix(), 1, 1, "this is no pack", hint)
    if path.is_dir() and not _has_packs(path):
        return Problem(path.as_posix(), 1, 1, "there is no pack in this folder", "packs are files NAME.yaml")
    return None


def _has_packs(folder: Path) -> bool:
    problems: list[Problem] = []
    try:
        return bool(yaml_files(folder, problems) or problems)
    except PackError:
        return True  # what is wrong with it is told when it is read


def _only(rules: Sequence[Rule], only: Sequence[str], suites: Sequence[str]) -> list[Rule]:
    known = [*(rule.id for rule in rules), *suites]
    for name in only:
        if name not in known:
            what, near = f"there is no rule or suite '{name}' here", did_you_mean(name, known)
            raise RequestRefused(f"{what}; {near}" if near else what)
    return [rule for rule in rules if rule.id in only]


# Which files


@contextmanager
def parts(rules: Path, policies: Path, paths: Sequence[Path], *, everything: bool = False) -> Iterator[list[Part]]:
    """The rulebooks to look at for `paths`. Files from elsewhere are laid beside the rulebook's own, in a copy."""
    inside = {name for path in paths for root in (rules, policies) if (name := _inside(path, root)) is not None}
    outside = [path for path in paths if not any(_inside(path, root) is not None for root in (rules, policies))]
    own = [path for path in outside if (path / "rules").is_dir() and (path / "policies").is_dir()]
    drafts = [path for path in outside if path not in own]
    known = {name: name for name in inside}
    with ExitStack() as stack:
        looked_at = [_alone(path) for path in own]
        if drafts:
            looked_at.append(stack.enter_context(_beside(rules, policies, drafts, known)))
        elif inside or everything:
            looked_at.append(Part(rules, policies, None if everything else known))
        yield looked_at


def _alone(folder: Path) -> Part:
    """A folder with its own rules and policies."""
    rules, policies = folder / "rules", folder / "policies"
    return Part(rules, policies, {"rules": rules.as_posix(), "policies": policies.as_posix()})


def _inside(path: Path, root: Path) -> str | None:
    """The name that problems give to `path` in the folder `root`; None when it lies elsewhere."""
    if not path.resolve().is_relative_to(root.resolve()):
        return None
    rest = path.resolve().relative_to(root.resolve())
    return (Path(root.name) / rest).as_posix()


@contextmanager
def _beside(rules: Path, policies: Path, drafts: Sequence[Path], known: dict[str, str]) -> Iterator[Part]:
    """A copy of the rulebook with drafts from elsewhere laid into it, which keep their own names."""
    with TemporaryDirectory(prefix="arbiter-check-") as folder:
        shutil.copytree(rules, Path(folder, rules.name))
        shutil.copytree(policies, Path(folder, policies.name))
        places: dict[str, str] = {}
        for number, draft in enumerate(drafts):
            # Policies are read last, and this folder last of them: what is there twice is told of the draft.
            place = Path(policies.name, f"~given-{number}", draft.name)
            target = Path(folder, place)
            target.parent.mkdir()
            (shutil.copytree if draft.is_dir() else shutil.copyfile)(draft, target)
            places[place.as_posix()] = draft.as_posix()
        yield Part(Path(folder, rules.name), Path(folder, policies.name), places | known, places)


def rulebook(rules: Path | None, policies: Path | None) -> Rulebook:
    """The rulebook of the settings. Raises PackError."""
    given = settings(rules, policies)
    return load(given.rules, given.policies)
