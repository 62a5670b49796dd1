"""A research table names nobody, holds what it promises, or is not written."""

from __future__ import annotations

import asyncio
import csv
import io
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from cli import main
from engine import database as db
from engine.assembly import Settings
from engine.ledger import Ledger
from engine.vault import KeyFile
from tests.books import SMALL, Clock, judged, payment, running, write

PERIOD = ("--from", "2026-11-01", "--to", "2026-11-30", "--kind", "payment", "--tenant", "shop-a")


@pytest.fixture
def place(sqlite_url: str, key_path: Path, tmp_path: Path) -> dict[str, str]:
    """Twelve buyers with three payments each, half of them odd; one more buys as often as all others, from Japan."""
    write(tmp_path, SMALL)
    db.migrate(sqlite_url)
    settings = Settings(sqlite_url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")

    async def fill() -> None:
        async with running(settings, Clock()) as arbiter:
            for buyer in range(12):
                for number, amount in enumerate((41, 44, 15)):
                    who = {"buyer": {"account": f"u-{buyer}", "phone": f"1380013800{buyer % 10}"}}
                    await judged(arbiter, payment(f"e{buyer}-{number}", amount, **who, ip_country="CN"))
            for number in range(2):
                who = {"buyer": {"account": "u-jp"}}
                await judged(arbiter, payment(f"jp{number}", 41 + 3 * number, **who, ip_country="JP"))

    asyncio.run(fill())
    return settings.environ()


def run(place: dict[str, str], *args: str) -> Result:
    return CliRunner().invoke(main, ["audit", "research", *PERIOD, *args], env=place)


def table(out: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(out.read_bytes().decode("utf-8-sig"))))


async def accesses(place: dict[str, str]) -> list[bytes]:
    keys = KeyFile.read(Path(place["ARBITER_KEY_FILE"]))
    ledger = await Ledger.open(place["ARBITER_DATABASE_URL"], keys)
    try:
        return await ledger.accesses("shop-a", "research", 0)
    finally:
        await ledger.close()


BY_AMOUNT = ("--quasi", "time:month", "--quasi", "amount:band", "--sensitive", "verdict")


def test_a_table_holds_what_it_promises_and_names_nobody(place: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "november.csv"
    done = run(place, *BY_AMOUNT, "--k", "10", "--l", "1", "--out", str(out))
    assert done.exit_code == 0, done.output

    header, *rows = table(out)
    assert header == ["time:month", "amount:band", "verdict"]
    assert len(rows) == 38
    assert {row[1] for row in rows} == {"20-50 CNY", "10-20 CNY"}
    assert rows == sorted(rows)
    text = out.read_text("utf-8-sig")
    for name in ("u-", "138", "e1-", "shop-a", "2026-11-2", "CN,"):
        assert name not in text
    assert "k = 10, l = 1, 0 left out" in done.stderr
    (record,) = map(orjson.loads, asyncio.run(accesses(place)))
    assert (record["count"], record["what"]) == (38, "research")
    assert orjson.loads(record["object"])["columns"] == header


def test_k_counts_persons_who_share_a_phone_as_one(place: dict[str, str], tmp_path: Path) -> None:
    """Twelve accounts with ten phones: ten persons, whatever they are called."""
    out = tmp_path / "x.csv"
    assert run(place, *BY_AMOUNT, "--k", "12", "--l", "1", "--out", str(out)).exit_code == 1
    assert not out.exists()


def test_rows_in_small_classes_are_left_out_up_to_a_share(place: dict[str, str], tmp_path: Path) -> None:
    columns = ("--quasi", "ip_country", "--sensitive", "verdict", "--sensitive", "score")
    refused = run(place, *columns, "--most-left-out", "0.01", "--out", str(tmp_path / "x.csv"))
    assert refused.exit_code == 1
    assert "2 of 38 rows are in classes of fewer than 10 persons or 2 values" in refused.stderr
    assert not (tmp_path / "x.csv").exists()
    assert asyncio.run(accesses(place)) == []
    done = run(place, *columns, "--most-left-out", "0.1", "--out", str(tmp_path / "x.csv"))
    assert done.exit_code == 0, done.output
    assert {row[0] for row in table(tmp_path / "x.csv")[1:]} == {"CN"}


def test_parquet_has_the_same_rows(place: dict[str, str], tmp_path: Path) -> None:
    for name in ("x.csv", "x.parquet"):
        assert run(place, *BY_AMOUNT, "--l", "1", "--out", str(tmp_path / name)).exit_code == 0
    read = pq.read_table(tmp_path / "x.parquet")
    shown = [[cell.removeprefix("'") for cell in row] for row in table(tmp_path / "x.csv")[1:]]
    assert [list(row.values()) for row in read.to_pylist()] == shown
    assert read.column_names == table(tmp_path / "x.csv")[0]


REFUSED = {
    "--quasi buyer.name --sensitive verdict": "'buyer.name' cannot be in it",
    "--quasi event_id --sensitive verdict": "'event_id' cannot be in it",
    "--quasi at --sensitive verdict": "'at' cannot be in it",
    "--quasi merchant.id --sensitive verdict": "'merchant.id' cannot be in it",
    "--quasi amout --sensitive verdict": "did you mean 'amount'?",
    "--quasi time:day --sensitive verdict": "there is no level 'day'; there are: week, month, quarter, year",
    "--quasi time --sensitive verdict --kind outcome": "there is no judged kind of event 'outcome'",
}


@pytest.mark.parametrize("args", REFUSED)
def test_what_would_name_somebody_or_does_not_exist_is_refused(
    place: dict[str, str], tmp_path: Path, args: str
) -> None:
    done = run(place, *args.split(), "--out", str(tmp_path / "x.csv"))
    assert done.exit_code == 1
    assert REFUSED[args] in done.stderr
    assert not (tmp_path / "x.csv").exists()


def test_another_tenant_and_another_period_are_not_in_it(place: dict[str, str], tmp_path: Path) -> None:
    for more in (("--tenant", "shop-b"), ("--to", "2026-11-10")):
        done = run(place, *BY_AMOUNT, *more, "--out", str(tmp_path / "x.csv"))
        assert "0 of 0 rows" in done.stderr
