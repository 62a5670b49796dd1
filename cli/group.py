"""The group of all commands: loads each when it is asked for, and turns errors into words."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

import click

from cli.language import rendered, said, said_field
from engine.errors import ArbiterError, EventRefused, FieldProblem, PackError, Problem, RequestRefused


class Commands(click.Group):
    """Commands by name: where each is found and what it does in a few words. `arbiter check` imports no server."""

    def __init__(self, name: str, about: str, lazy: Mapping[str, tuple[str, str]]) -> None:
        settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
        super().__init__(name=name, help=about, context_settings=settings)
        self._lazy = lazy
        click.version_option(package_name="arbiter")(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the help."""
        del ctx
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        del ctx
        if cmd_name not in self._lazy:
            return None
        module, _, name = self._lazy[cmd_name][0].partition(":")
        found = getattr(import_module(module), name)
        assert isinstance(found, click.Command), cmd_name
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in self._lazy.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it refuses is said on standard error, without a traceback."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Whoever read has seen enough; Python would complain once more when it flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except KeyboardInterrupt:
            ctx.exit(130)
        except (ArbiterError, OSError) as error:
            for line in in_words(error):
                click.echo(line, err=True)
            ctx.exit(1)


def in_words(error: Exception) -> Iterable[str]:
    """What to say about an error, line by line: what is wrong, where, and how to mend it."""
    if isinstance(error, PackError):
        yield from (rendered(problem) + "\n" for problem in error.problems)
        yield f"arbiter: {said(counted(len(error.problems), 'problem'))}"
    elif isinstance(error, EventRefused | RequestRefused) and error.problems:
        yield from map(_in_a_line, error.problems)
    elif isinstance(error, OSError):
        yield f"arbiter: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}"
    else:
        yield f"arbiter: {said(str(error))}"


def _in_a_line(problem: FieldProblem) -> str:
    hint = f" ({said(problem.hint)})" if problem.hint else ""
    return f"arbiter: {said_field(problem)}{hint}"


def tell(problems: Iterable[Problem]) -> None:
    """Problems with their lines and carets, on standard output."""
    for problem in problems:
        click.echo(rendered(problem) + "\n")


def counted(count: int, noun: str, plural: str = "") -> str:
    """'1 rule', '2 rules'; `plural` where it is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
