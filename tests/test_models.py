"""cli.models: train, list, show, compare and promote, as a data scientist types them."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import main
from tests import models
from tests.books import book, write

MAP = """\
map: payments
about: Payments of a till.
kind: payment
zone: UTC
columns:
  fraud: {column: fraud, type: number}
fields:
  event_id: id
  at: at
  amount: {column: amount, currency: CNY}
  card.ref: card
  payment.stage: {value: attempt}
outcome:
  when: fraud == 1
  result: confirmed_fraud
  delay: 1d
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with packs, a mapping and 40 days of payments, of which every hundredth is a large fraud."""
    folder = tmp_path_factory.mktemp("desk")
    book(folder, models.files())
    (folder / "till.map.yaml").write_text(MAP, "utf-8")
    rows = models.rows(size=4000, seed=3)
    with (folder / "till.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "at", "amount", "card", "fraud"])
        for number, (row, fraud) in enumerate(zip(rows.values, rows.fraud, strict=True)):
            day, minute = divmod(number, 100)
            at = f"2026-{5 + day // 20:02}-{1 + day % 20:02}T{minute // 5 + 1:02}:{minute % 5 * 10:02}:00Z"
            out.writerow([f"e{number}", at, f"{row[0]:.2f}", f"c{number % 3}", int(fraud)])
    return folder


def arbiter(desk: Path, *args: str) -> Result:
    packs = ("--rules", str(desk / "rules"), "--policies", str(desk / "policies"))
    folder = ("--models", str(desk / "models"))
    given = [*args, *([] if args[:2] == ("model", "show") else packs), *folder]
    return CliRunner().invoke(main, given, env={"ARBITER_MODEL_DIR": None})


def table(desk: Path, *more: str) -> tuple[str, ...]:
    return ("--data", str(desk / "till.csv"), "--map", str(desk / "till.map.yaml"), *more)


@pytest.fixture(scope="module")
def names(desk: Path) -> list[str]:
    """Three models, trained on the first 20 days."""
    made = [arbiter(desk, "train", *table(desk, "--until", "2026-06-01", "--seed", seed)) for seed in "123"]
    assert [each.exit_code for each in made] == [0, 0, 0], made
    return [each.stdout.strip() for each in made]


def test_train_prints_the_name_alone_and_writes_the_model_under_it(desk: Path, names: list[str]) -> None:
    for name in names:
        card = json.loads((desk / "models" / name / "card.json").read_bytes())
        assert (card["detector"], card["kind"]) == ("till", "payment")
        # A day begins in Shanghai.
        assert (card["data"]["first"], card["data"]["last"]) == ("2026-05-01T01:00:00Z", "2026-05-20T20:40:00Z")
        assert card["data"]["rows"] == 2000
        assert 0 < card["metrics"]["fraud"] < card["metrics"]["known"] == 2000


def test_train_says_what_it_was_trained_on_and_where_to_pin_it(desk: Path, names: list[str]) -> None:
    said = arbiter(desk, "train", *table(desk, "--until", "2026-06-01", "--seed", "1")).stderr
    assert "2,000 rows, 2026-05-01T01:00:00Z to 2026-05-20T20:40:00Z" in said
    assert f"pin it in policies/anomaly.yaml:  model: {names[0]}" in said
    assert "amount" in said


def test_rows_before_the_first_day_only_feed_windows(desk: Path) -> None:
    made = arbiter(desk, "train", *table(desk, "--from", "2026-05-11", "--until", "2026-06-01"))
    card = json.loads((desk / "models" / made.stdout.strip() / "card.json").read_bytes())
    assert card["data"]["rows"] == 1025  # ten days, and what comes after midnight in Shanghai of the day before
    assert card["segments"][0]["usual"][1]["high"] >= 1  # payments on the card within the hour before


def test_compare_gives_each_figure_with_its_interval(desk: Path, names: list[str]) -> None:
    said = arbiter(desk, "model", "compare", names[0][:6], names[1], *table(desk, "--from", "2026-06-01"))
    assert said.exit_code == 0, said.output
    lines = said.stdout.splitlines()
    assert lines[0].startswith("2,000 rows, ")
    assert [line[:20].strip() for line in lines[2:]] == ["AUC", "average precision", "recall at 1 %", "recall at 5 %"]
    for line in lines[2:]:
        value, low, high = map(float, re.findall(r"[0-9.]+", line[20:46]))
        assert 0 <= low <= value <= high <= 1


def test_models_of_different_features_are_compared_as_long_as_the_file_declares_them(
    desk: Path, names: list[str]
) -> None:
    made = arbiter(desk, "train", *table(desk, "--until", "2026-06-01"), "--without", "tries")
    card = json.loads((desk / "models" / made.stdout.strip() / "card.json").read_bytes())
    assert [each["name"] for each in card["features"]] == ["amount"]
    assert [each["high"] > 20 for each in card["segments"][0]["usual"]] == [True]
    said = arbiter(desk, "model", "compare", names[0], made.stdout.strip(), *table(desk, "--from", "2026-06-01"))
    assert said.exit_code == 0, said.output
    assert "average precision" in said.stdout


WITHOUT = [
    ("a feature that is none", ["trys"], "declares no such feature; did you mean 'tries'?"),
    ("all of them", ["tries", "amount"], "leaves no feature"),
]


@pytest.mark.parametrize(("left", "said"), [row[1:] for row in WITHOUT], ids=[row[0] for row in WITHOUT])
def test_train_refuses_to_go_without(desk: Path, left: list[str], said: str) -> None:
    made = arbiter(desk, "train", *table(desk), *(word for name in left for word in ("--without", name)))
    assert made.exit_code == 2
    assert said in " ".join(made.output.split())


def test_check_names_a_feature_that_no_pinned_model_looks_at(desk: Path, names: list[str], tmp_path: Path) -> None:
    more = "  early: {value: 'hour(at) < 6', label: {en: early, zh: 清晨}}\n"
    book(tmp_path, {**models.files(names[0]), "policies/anomaly.yaml": models.DETECTOR + more + f"model: {names[0]}\n"})
    folders = ("--rules", str(tmp_path / "rules"), "--policies", str(tmp_path / "policies"))
    found = CliRunner().invoke(main, ["check", *folders], env={"ARBITER_MODEL_DIR": str(desk / "models")})
    assert found.exit_code == 0, found.output
    assert "policies/anomaly.yaml:8:10" in found.output
    assert "no pinned model looks at this feature" in found.output


def test_promote_pins_a_model_and_promoting_the_one_before_rolls_back(desk: Path, names: list[str]) -> None:
    file = desk / "policies/anomaly.yaml"
    before = file.read_text("utf-8")
    for name in (names[0], names[1], names[0]):
        assert arbiter(desk, "model", "promote", name[:8]).exit_code == 0
        pins = [line for line in file.read_text("utf-8").splitlines() if line.startswith("model:")]
        assert pins == [f"model: {name}"]
    assert file.read_text("utf-8").replace(f"model: {names[0]}\n", "") == before
    assert "is the champion of 'till' already" in arbiter(desk, "model", "promote", names[0]).stderr
    listed = arbiter(desk, "model", "list").stdout
    assert f"{names[0]}  till  2026-05-01..2026-05-20  2,000 rows  champion" in listed
    file.write_text(before, "utf-8")


CHALLENGERS = [
    ("the only one", "challengers: [NEXT]\n", ""),
    ("the first one", "challengers: [NEXT, OTHER]\n", "challengers: [OTHER]\n"),
    ("the last one", "challengers: [OTHER, 'NEXT'] # two\n", "challengers: [OTHER] # two\n"),
    ("the only one, on a line", "challengers:\n  - NEXT # new\n", ""),
    ("the first one, on a line", "challengers:\n  - NEXT # new\n  - OTHER\n", "challengers:\n  - OTHER\n"),
    ("the last one, on a line", "challengers:\n  - OTHER\n  - NEXT\n", "challengers:\n  - OTHER\n"),
]


@pytest.mark.parametrize(("listed", "left"), [row[1:] for row in CHALLENGERS], ids=[row[0] for row in CHALLENGERS])
def test_a_challenger_that_is_promoted_challenges_no_more(
    desk: Path, names: list[str], tmp_path: Path, listed: str, left: str
) -> None:
    shutil.copytree(desk, tmp_path / "desk")
    file = tmp_path / "desk/policies/anomaly.yaml"

    def written(model: str, challengers: str) -> str:
        challengers = challengers.replace("NEXT", names[1]).replace("OTHER", names[2])
        return models.DETECTOR + challengers + f"model: {model}\n"

    file.write_text(written(names[0], listed), "utf-8")
    assert arbiter(tmp_path / "desk", "model", "promote", names[1]).exit_code == 0
    assert file.read_text("utf-8") == written(names[1], left)


def test_check_looks_at_pinned_models_where_it_can_and_says_where_it_cannot(
    desk: Path, names: list[str], tmp_path: Path
) -> None:
    write(tmp_path, models.files(names[0]))
    packs = ["check", "--rules", str(tmp_path / "rules"), "--policies", str(tmp_path / "policies")]
    sound = CliRunner().invoke(main, packs, env={"ARBITER_MODEL_DIR": str(desk / "models")})
    unlooked = CliRunner().invoke(main, packs, env={"ARBITER_MODEL_DIR": None})
    wrong = CliRunner().invoke(main, packs, env={"ARBITER_MODEL_DIR": str(tmp_path)})
    assert [each.exit_code for each in (sound, unlooked, wrong)] == [0, 0, 1]
    assert "was not checked" in unlooked.stderr
    assert "was not checked" not in sound.stderr
    assert "anomaly.yaml:8:8: the model cannot be used" in wrong.stdout


def test_show_describes_the_model(desk: Path, names: list[str]) -> None:
    said = arbiter(desk, "model", "show", names[0][:8]).stdout
    assert "detector  till, payment: 100 trees of 256 rows, seed 1" in said
    assert "scikit-learn" in said


NOTHING = ("--data", "DATA", "--map", "MAP")
REFUSED = [
    ("no day", ("train", *NOTHING, "--from", "2026-13-05"), "2026-13-05"),
    ("a period without rows", ("train", *NOTHING, "--from", "2030-01-01"), "no row lies in the period"),
    ("a model that is not there", ("model", "promote", "ffff"), "there is no model 'ffff'"),
    ("an ambiguous name", ("model", "show", ""), "models begin with ''"),
]


@pytest.mark.parametrize(("args", "says"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_cannot_be_done_is_said(desk: Path, names: list[str], args: tuple[str, ...], says: str) -> None:
    places = {"DATA": str(desk / "till.csv"), "MAP": str(desk / "till.map.yaml")}
    result = arbiter(desk, *(places.get(each, each) for each in args))
    assert (result.exit_code in (1, 2), says in result.stderr) == (True, True)
    assert not isinstance(result.exception, ValueError)


def test_training_without_declared_features_says_what_to_write(tmp_path: Path, desk: Path) -> None:
    packs = {name: text for name, text in models.files().items() if name != "policies/anomaly.yaml"}
    write(tmp_path, packs)
    (tmp_path / "till.map.yaml").write_text(MAP, "utf-8")
    result = arbiter(tmp_path, "train", "--data", str(desk / "till.csv"), "--map", str(tmp_path / "till.map.yaml"))
    assert result.exit_code == 1
    assert "no file declares what a model of payment events looks at" in result.stderr


def test_score_serves_the_pinned_model(tmp_path: Path, desk: Path, names: list[str]) -> None:
    write(tmp_path, models.files(names[0]))
    packs = ("--rules", str(tmp_path / "rules"), "--policies", str(tmp_path / "policies"))
    out = tmp_path / "verdicts.csv"
    args = ["score", str(desk / "till.csv"), "--map", str(desk / "till.map.yaml"), "--out", str(out), *packs]
    result = CliRunner().invoke(main, args, env={"ARBITER_MODEL_DIR": str(desk / "models")})
    assert result.exit_code == 0, result.output
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    odd = [row for row in rows if float(row["anomaly"]) >= 99]
    assert 20 < len(odd) < 120
    assert {row["verdict"] for row in odd} <= {"challenge", "decline"}

    without = CliRunner().invoke(main, args, env={"ARBITER_MODEL_DIR": None})
    assert without.exit_code == 1
    assert "policies/anomaly.yaml:8:8: the model cannot be used" in without.stderr
