"""The help texts in docs/cli.md: `python -m cli.page` writes them anew, and a test holds the page to them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from cli import main

PAGE = Path(__file__).parent.parent / "docs/cli.md"
WIDTH = 100
_BLOCK = re.compile(r"```text\n\$ arbiter (.*?)--help\n.*?```", re.DOTALL)


def commands() -> Iterator[tuple[str, click.Context]]:
    """Every command that does something, by what is typed, such as 'audit export'."""

    def below(command: click.Command, ctx: click.Context, typed: str) -> Iterator[tuple[str, click.Context]]:
        if not isinstance(command, click.Group):
            yield typed, ctx
            return
        for name in command.list_commands(ctx):
            inner = command.get_command(ctx, name)
            assert inner is not None
            yield from below(
                inner, click.Context(inner, info_name=name, parent=ctx, **_FORM), f"{typed} {name}".strip()
            )

    yield from below(main, click.Context(main, info_name="arbiter", **_FORM), "")


_FORM: dict[str, Any] = {"terminal_width": WIDTH, "max_content_width": WIDTH, "help_option_names": ["-h", "--help"]}


def written(page: str) -> str:
    """The page with the help texts of now."""
    texts = {typed: ctx.get_help() for typed, ctx in commands()}
    return _BLOCK.sub(lambda block: _block(block[1].strip(), texts), page)


def _block(typed: str, texts: dict[str, str]) -> str:
    lines = "\n".join(line.rstrip() for line in texts[typed].splitlines())
    return f"```text\n$ arbiter {typed} --help\n{lines}\n```"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
