"""Backtests on Spark: as on DuckDB, which is as `arbiter score`; and what is said where there is no Spark."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.columns.duckdb import _MACROS
from engine.columns.macros import MACROS
from engine.columns.spark_sql import _TEXTS
from tests import books
from tests.books import ROOT
from tests.test_backtest import HANDBOOK, TIGHT, agree, arbiter, payments, written

__all__ = ["payments"]

MAPPING = ROOT / "docs/examples/handbook.map.yaml"
FOLDERS = ("--rules", HANDBOOK / "rules", "--policies", HANDBOOK / "policies")


def command(payments: Path, *more: Any) -> tuple[Any, ...]:
    return ("backtest", "--data", payments, "--map", MAPPING, *FOLDERS, "--engine", "spark", *more)


def test_every_macro_has_its_text_for_each_engine() -> None:
    """But that of patterns, about which Spark is not asked."""
    assert set(_MACROS) == set(MACROS)
    assert set(_TEXTS) == set(MACROS) - {"arb_found"}


@pytest.mark.spark
def test_a_backtest_on_spark_says_what_score_says(tmp_path: Path, spark_session: Any) -> None:
    """Every kind of rule, window and state; queues fill up, breakers trip, and the engine is asked."""
    from engine.columns.spark import on_spark

    book = books.book(tmp_path, TIGHT, strict=False)
    run = agree(book, *written(tmp_path, 3, 400), opening=on_spark)
    assert {"a pattern over several events", "a quantile of a window"} <= {each.reason for each in run.found.questions}
    assert 0 < run.found.asked <= run.past.events
    assert {each.id for each in run.figures.rules if each.tally.events} > {"tight.count", "tight.share", "tight.mean"}


@pytest.mark.spark
def test_the_command_gives_the_figures_and_tables_of_duckdb(tmp_path: Path, payments: Path, spark_session: Any) -> None:
    said, tables = {}, {}
    for name in ("duckdb", "spark"):
        asked = command(payments, "--by", "extra.terminal", "--out", tmp_path / name)
        found = arbiter(*asked, "--engine", name)
        assert found.exit_code == 0, found.output
        said[name] = [line for line in found.stdout.splitlines() if not line.startswith("reading ")]
        tables[name] = {path.name: pq.read_table(path).to_pylist() for path in (tmp_path / name).glob("*.parquet")}
    assert said["spark"] == said["duckdb"]
    assert said["spark"][0].startswith("handbook: 280 transactions, 2018-04-01 to 2018-04-15")
    assert tables["spark"] == tables["duckdb"]
    assert [len(tables["spark"][name]) for name in ("verdicts.parquet", "rules.parquet")] == [280, 3]


@pytest.mark.spark
def test_a_diff_on_spark_is_that_on_duckdb_with_the_same_sample(
    tmp_path: Path, payments: Path, spark_session: Any
) -> None:
    rules = (HANDBOOK / "rules/handbook.yaml").read_text("utf-8").replace("amount > 220 EUR", "amount >= 22 EUR")
    policies = {f"policies/{path.name}": path.read_text("utf-8") for path in (HANDBOOK / "policies").iterdir()}
    books.write(tmp_path / "new", {"rules/handbook.yaml": rules, **policies})
    asked = ("diff", HANDBOOK, tmp_path / "new", "--data", payments, "--map", MAPPING, "--engine")
    duckdb, spark = arbiter(*asked, "duckdb"), arbiter(*asked, "spark")
    assert (duckdb.exit_code, spark.exit_code) == (0, 0), duckdb.output + spark.output
    assert spark.stdout == duckdb.stdout
    assert "### approve → decline" in spark.stdout


# ---------------------------------------------------------------- where there is none


def test_without_its_package_spark_is_refused_with_what_to_install(
    payments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("pyspark", "py4j")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("engine.columns.spark", "engine.columns.spark_session"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "pyspark", None)
    monkeypatch.setitem(sys.modules, "py4j", None)
    found = arbiter(*command(payments))
    assert found.exit_code == 1
    assert "pip install 'arbiter[spark]', and Java 17 or 21" in found.output


def test_a_url_without_spark_is_refused(payments: Path) -> None:
    found = arbiter(*command(payments, "--spark-url", "local[2]", "--engine", "duckdb"))
    assert (found.exit_code, "--spark-url is of --engine spark" in found.output) == (1, True)


@pytest.mark.spark
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("spark:7077", "is no URL of Spark"),
        ("http://spark.example", "is no URL of Spark"),
        ("spark://127.0.0.1:1", "no Spark answers at spark://127.0.0.1:1: [Errno 111] Connection refused"),
        ("sc://127.0.0.1:1/;token=secret", "no Spark answers at sc://127.0.0.1:1: "),
        ("spark://127.0.0.1:99999", "no Spark answers at spark://127.0.0.1:99999"),
        ("spark://127.0.0.1:port", "no Spark answers at spark://127.0.0.1:port"),
    ],
)
def test_a_cluster_that_is_not_there_is_said_at_once(payments: Path, url: str, says: str) -> None:
    found = arbiter(*command(payments, "--spark-url", url))
    assert (found.exit_code, found.output.count("\n")) == (1, 1)
    assert says in found.output
    assert "secret" not in found.output


@pytest.mark.spark
@pytest.mark.parametrize("java", ["absent", "broken"])
def test_without_a_java_spark_is_refused_with_what_to_install(tmp_path: Path, payments: Path, java: str) -> None:
    if java == "broken":
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/java").write_text("#!/bin/sh\necho 'Error: a Java that does not start' >&2\nexit 1\n", "utf-8")
        (tmp_path / "bin/java").chmod(0o755)
    code = "import sys; from cli import main; main(sys.argv[1:])"
    asked = [sys.executable, "-c", code, *map(str, command(payments))]
    found = subprocess.run(
        asked, env=os.environ | {"JAVA_HOME": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert "Java 17 or 21" in found.stderr
    assert ("where none is" if java == "absent" else "Error: a Java that does not start") in found.stderr
    assert "Traceback" not in found.stderr
