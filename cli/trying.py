"""A file of rules as it would be, beside all others, in a copy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from engine.rulebook import Rulebook, load
from engine.rules import Rule


@contextmanager
def tried(content: str, rules: Path, policies: Path, file: Path) -> Iterator[tuple[Rulebook, tuple[Rule, ...]]]:
    """The rulebook with the file as it would be, in a copy, and its rules of that file. `file` lies in `rules`, or is
    named as if it did. Raises PackError."""
    with TemporaryDirectory(prefix="arbiter-rule-") as folder:
        shutil.copytree(rules, Path(folder, rules.name))
        shutil.copytree(policies, Path(folder, policies.name))
        place = Path(folder, rules.name, file.relative_to(rules))
        place.write_text(content, encoding="utf-8")
        rulebook = load(Path(folder, rules.name), Path(folder, policies.name))
        name = (Path(rules.name) / file.relative_to(rules)).as_posix()
        yield rulebook, tuple(rule for rule in rulebook.rules if rule.document.file == name)
