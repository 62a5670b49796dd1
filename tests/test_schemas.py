"""The JSON Schemas of the YAML files: what editors show, held to the files that are shipped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from cli import main
from cli.schemas import KINDS
from engine.packs import parse, read

ROOT = Path(__file__).parent.parent
FILES = sorted(
    file for folder in ("rules", "policies", "docs/examples") for file in ROOT.joinpath(folder).glob("**/*.yaml")
)
SHOWN = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


def printed(*args: str) -> Any:
    found = CliRunner().invoke(main, ["schema", *args], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


ALL = printed()
ANY = printed("any")


def plain(data: Any) -> Any:
    return json.loads(json.dumps(data, default=float))


def kind_of(data: dict[str, Any]) -> str:
    return next(name for name in ("map", *ALL) if name in data)


def without_meaning(node: Any, path: str) -> Iterator[str]:
    """The properties below `node` of which nothing is said."""
    if isinstance(node, list):
        for at, each in enumerate(node):
            yield from without_meaning(each, f"{path}/{at}")
    if isinstance(node, dict):
        yield from (
            f"{path}/{name}" for name, each in node.get("properties", {}).items() if not each.get("description")
        )
        for key, each in node.items():
            yield from without_meaning(each, f"{path}/{key}")


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_every_kind_says_what_it_means(kind: str) -> None:
    jsonschema.Draft202012Validator.check_schema(ALL[kind])
    assert ALL[kind]["description"]
    assert list(without_meaning(ALL[kind], kind)) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_a_shipped_file_fits_the_schema_of_its_kind_and_that_of_any(file: Path) -> None:
    data = plain(read(file, root=ROOT).data)
    jsonschema.Draft202012Validator(ALL[kind_of(data)]).validate(data)
    jsonschema.Draft202012Validator(ANY).validate(data)


@pytest.mark.parametrize(
    ("kind", "page"), [("exceptions", "policies/exceptions/README.md"), ("experiment", "docs/packs.md")]
)
def test_what_a_page_shows_fits_where_no_file_of_the_kind_is_shipped(kind: str, page: str) -> None:
    blocks = [plain(parse(shown).data) for shown in SHOWN.findall((ROOT / page).read_text())]
    (data,) = [block for block in blocks if kind in block]
    for schema in (ALL[kind], ANY):
        jsonschema.Draft202012Validator(schema).validate(data)


def test_the_files_that_are_shipped_are_of_every_other_kind() -> None:
    missing = {"exceptions", "experiment"}
    assert {kind_of(read(file, root=ROOT).data) for file in FILES} == KINDS.keys() - missing


@pytest.mark.parametrize(
    ("old", "new", "at"),
    [
        ("severity: high", "severity: hihg", ["rules", 0, "severity"]),
        ("points: 45", "pionts: 45", ["rules", 0]),
        ("signal: card_testing", "signal: Card Testing", ["rules", 0, "signal"]),
        ("    because:\n", "    because: of fraud\n    reason:\n", ["rules", 0, "because"]),
    ],
)
def test_an_editor_that_knows_any_underlines_what_does_not_fit(old: str, new: str, at: list[str | int]) -> None:
    content = (ROOT / "rules/payments/card-testing.yaml").read_text()
    data = plain(parse(content.replace(old, new, 1)).data)
    errors = list(jsonschema.Draft202012Validator(ANY).iter_errors(data))
    assert at in [list(error.absolute_path) for error in errors]


def test_a_file_that_says_not_what_it_is_fits_no_schema() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(ANY).validate({"rules": []})


def test_schema_without_a_kind_has_all_and_a_wrong_one_is_told() -> None:
    assert ALL.keys() == KINDS.keys()
    assert "did you mean 'policy'?" in CliRunner().invoke(main, ["schema", "polciy"]).stderr
