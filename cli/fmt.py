"""`fmt`: YAML files in the one layout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

import click

from cli.group import counted, tell
from cli.language import language_option, say
from cli.schemas import KINDS
from cli.settings import pack_options, settings
from cli.writing import write_whole
from engine.errors import PackError, Problem
from engine.packs import Document, fit, read, yaml_files
from engine.packs.layout import laid_out


@dataclass(frozen=True, slots=True)
class Laid:
    """A file, its text now and in the one layout."""

    document: Document
    path: Path
    after: str

    @property
    def changed(self) -> bool:
        """Whether the file is written otherwise."""
        return self.after.encode() != self.document.body

    def diff(self) -> str:
        """What would change, as a unified diff."""
        before, after = self.document.source.content.splitlines(), self.after.splitlines()
        return "\n".join(unified_diff(before, after, self.document.file, self.document.file, lineterm=""))


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(exists=True, path_type=Path))
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit code 1 when a file would change.")
@click.option("--diff", "only_diff", is_flag=True, help="Change nothing; show what would change.")
@pack_options
@language_option
def fmt(paths: tuple[Path, ...], only_check: bool, only_diff: bool, rules: Path | None, policies: Path | None) -> None:
    """Write YAML files in the one layout: two spaces a level, keys in the order of the reference, comments kept.

    It changes how a file looks, never what it says: values, words and comments stay. Without PATH it goes over all of
    ARBITER_RULES and ARBITER_POLICIES. A file with problems is left alone and its problems are shown; exit code 1.

    \b
    Examples:
      arbiter fmt
      arbiter fmt rules/payments/card-testing.yaml
      arbiter fmt --diff
      arbiter fmt --check docs/examples
    """
    given = settings(rules, policies)
    problems: list[Problem] = []
    found = list(_all_laid(paths or (given.rules, given.policies), problems))
    changed = [each for each in found if each.changed]
    for each in changed:
        if only_diff:
            click.echo(each.diff())
        elif only_check:
            say(f"would change: {each.path.as_posix()}")
        else:
            write_whole(each.path, each.after)
            say(f"changed: {each.path.as_posix()}")
    tell(problems)
    would = "would be changed" if only_check or only_diff else "changed"
    alone = f", {counted(len({each.file for each in problems}), 'file')} left alone" if problems else ""
    say(f"{counted(len(found), 'file')} looked at, {len(changed)} {would}{alone}", err=True)
    raise SystemExit(int(bool(problems) or (only_check and bool(changed))))


def _all_laid(paths: Iterable[Path], problems: list[Problem]) -> Iterator[Laid]:
    """The files below `paths` that can be laid out; what is wrong with the others goes to `problems`."""
    for path in paths:
        for file in yaml_files(path, problems) if path.is_dir() else (path,):
            try:
                yield _laid(file, path if path.is_dir() else path.parent)
            except PackError as error:
                problems += error.problems


def _laid(path: Path, root: Path) -> Laid:
    document = read(path, root=root)
    kind = next((name for name in ("map", *KINDS) if isinstance(document.data, dict) and name in document.data), None)
    if kind is None:
        hint = "it needs one of these keys: " + ", ".join(KINDS)
        raise PackError([document.problem((), "this is no file of Arbiter", hint)])
    problems = fit(document, KINDS[kind]).problems
    if problems:
        raise PackError(problems)
    return Laid(document, path, laid_out(document, KINDS[kind]))
