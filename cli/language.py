"""Messages in the reader's language: English as the code writes it, or Chinese from `zh.yaml`.

    said("unknown key 'whem'")    with --lang zh: 未知的键 'whem'

The code knows English only; `chinese` finds the Chinese text where one is shown (docs/decisions/0022). A text that it
does not know stays as it is. Nothing is loaded for English.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Literal, TypeVar

import click

from cli.chinese import chinese
from engine.errors import FieldProblem, Problem, cells

F = TypeVar("F", bound=Callable[..., Any])

LANGUAGES = ("en", "zh")
SETTING = "ARBITER_LANG"
_META = "arbiter.language"


def language_option(command: F) -> F:
    """Adds --lang. A language that there is not is a wrong option, also where the environment names it."""

    def keep(ctx: click.Context, param: click.Parameter, value: str) -> None:
        del param
        # Shared with the contexts above, so that errors are told in it too.
        ctx.meta[_META] = value

    return click.option(
        "--lang", type=click.Choice(LANGUAGES), envvar=SETTING, show_envvar=True, default=LANGUAGES[0], is_eager=True,
        expose_value=False, callback=keep, help="Language of messages.",
    )(command)  # fmt: skip


def language() -> str:
    """The language of the command that runs: that of --lang, else of ARBITER_LANG, else English."""
    ctx = click.get_current_context(silent=True)
    return LANGUAGES[0] if ctx is None else str(ctx.meta.get(_META, LANGUAGES[0]))


def said(text: str) -> str:
    """A message in the language of the reader."""
    return text if language() == "en" else chinese().translated(text)


def say(text: str, *, err: bool = False) -> None:
    """Prints a message in the language of the reader."""
    click.echo(said(text), err=err)


def term(word: str, of: str = "") -> str:
    """A word that stands alone, such as the head of a column, in the language of the reader. `of` says what it is about
    where the word alone means something else elsewhere: 'value (alerts)' is its name in the catalogue."""
    return word if language() == "en" else chinese().term(f"{word} ({of})" if of else word)


def label(word: str) -> str:
    """A word that stands before a message, with its colon: 'hint: '."""
    return f"{word}: " if language() == "en" else f"{chinese().term(word)}："


def listed(parts: Iterable[str]) -> str:
    """Messages in one line."""
    return (", " if language() == "en" else "，").join(map(said, parts))


def said_problem(problem: Problem) -> Problem:
    """A problem whose words are in the language of the reader."""
    return problem if language() == "en" else replace(problem, what=said(problem.what), hint=said(problem.hint))


def said_field(problem: FieldProblem) -> str:
    """A problem of an event, in one line."""
    return f"{said(problem.path)}: {said(problem.what)}"


def rendered(problem: Problem) -> str:
    """A problem as several lines: what is wrong, the source with a caret, the hint."""
    return said_problem(problem).render(label("hint"))


# Columns


def width(text: str) -> int:
    """How many cells of a terminal a text takes."""
    return sum(map(cells, text))


def padded(text: str, to: int, side: Literal["left", "right"] = "left") -> str:
    """A text on one side of so many cells of a terminal."""
    gap = " " * (to - width(text))
    return text + gap if side == "left" else gap + text
