"""The name of the code that records carry."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

import engine
from engine.build import build, hash_of

SOURCES = Path(engine.__file__).parent


def test_it_is_the_version_and_the_hash_of_the_sources() -> None:
    number, _, digits = build().partition("+")
    assert number == version("arbiter")
    assert digits == hash_of(SOURCES)[:16]


def test_it_is_the_same_elsewhere_and_another_when_a_source_is_another(tmp_path: Path) -> None:
    shutil.copytree(SOURCES, tmp_path / "engine", ignore=shutil.ignore_patterns("__pycache__"))
    assert hash_of(tmp_path / "engine") == hash_of(SOURCES)
    seen = {hash_of(tmp_path / "engine")}
    for name in ("decide.py", "expr/grammar.lark", "policy/new.py"):
        with (tmp_path / "engine" / name).open("a") as file:
            file.write("\n")
        seen.add(hash_of(tmp_path / "engine"))
    (tmp_path / "engine/money.py").rename(tmp_path / "engine/moneys.py")
    seen.add(hash_of(tmp_path / "engine"))
    assert len(seen) == 5
