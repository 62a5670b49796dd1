"""`train` and `model`: anomaly models, trained from a table, compared on what was reported, and pinned."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np

from cli.group import counted
from cli.packs import rulebook
from cli.replay import Replay
from cli.settings import pack_options, settings
from cli.tables import Bad, format_of, read_rows
from engine.anomaly import CARD, Card, Model, Period, name_of, read_model
from engine.detectors import Detector, Row, read_models, seated
from engine.errors import ModelUnavailable, NotFound, PackError, RequestRefused, did_you_mean
from engine.mapping import read_map
from engine.packs import Place
from engine.packs.moments import start_of
from engine.rulebook import Rulebook, load
from engine.schema import FRAUD, Event

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_folder_option = click.option(
    "--models",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of models, instead of ARBITER_MODEL_DIR.",
)


def _table_options(command: Any) -> Any:
    """Adds --data, --map, --from, --until."""
    for option in (
        click.option("--until", metavar="DAY", help="The first day that is not used any more."),
        click.option("--from", "since", metavar="DAY", help="The first day used; earlier rows only feed windows."),
        click.option("--map", "mapping", required=True, type=_FILE, help="Which columns make which fields."),
        click.option("--data", required=True, type=_FILE, help="A table: CSV, TSV, JSON lines or Parquet."),
    ):
        command = option(command)
    return command


@click.command()
@_table_options
@_folder_option
@click.option("--without", metavar="FEATURE", multiple=True, help="A declared feature that it shall not look at.")
@click.option("--seed", default=1, show_default=True, help="Of the random splits: the same one gives the same model.")
@pack_options
def train(
    data: Path,
    mapping: Path,
    since: str | None,
    until: str | None,
    folder: Path | None,
    without: tuple[str, ...],
    seed: int,
    rules: Path | None,
    policies: Path | None,
) -> None:
    """Train an anomaly model on the features that a file with `anomaly:` declares for this kind of event.

    The table is read as `arbiter score` reads it: in the order of time, windows hold what was known at each moment. The
    model is a folder named by its SHA-256, with a card that says what it was trained on. Its name alone goes to
    standard output: pin it as `model:` in the file that declares the features.

    \b
    Examples:
      arbiter train --data orders.parquet --map orders.map.yaml --models models
      arbiter train --data orders.csv --map orders.map.yaml --from 2026-05-01 --until 2026-08-01
      arbiter train --data orders.csv --map orders.map.yaml --without night
    """
    from engine.training import Rows
    from engine.training import train as fit

    book = rulebook(rules, policies)
    into = _folder(folder)
    found = _measured(book, data, mapping, since, until)
    if not found.rows:
        raise RequestRefused("no row lies in the period: look at --from and --until")
    period = Period(sha256=_hash(data), rows=len(found.rows), first=_stamp(found.first), last=_stamp(found.last))
    detector = _less(found.detector, without)
    places = [place for place, feature in enumerate(found.detector.features) if feature in detector.features]
    values = np.array([row.values for row in found.rows], float)[:, places]
    rows = Rows(values, [row.segment for row in found.rows], found.fraud)
    card = fit(rows, detector, period, into, seed=seed)
    name = name_of(card.body())
    for line in _described(card):
        click.echo(line, err=True)
    click.echo(f"\npin it in {found.detector.document.file}:  model: {name}", err=True)
    click.echo(name)


def _less(detector: Detector, without: Sequence[str]) -> Detector:
    """The detector without some of its features."""
    names = [feature.name for feature in detector.features]
    for name in without:
        if name not in names:
            hint = did_you_mean(name, names) or "features are " + ", ".join(names)
            raise click.UsageError(f"--without {name}: '{detector.name}' declares no such feature; {hint}")
    left = tuple(feature for feature in detector.features if feature.name not in without)
    if not left:
        raise click.UsageError("--without leaves no feature to look at")
    return replace(detector, features=left)


@click.group()
def model() -> None:
    """List, show, compare and promote anomaly models."""


@model.command("list", short_help="The models in the folder.")
@_folder_option
@pack_options
def list_models(folder: Path | None, rules: Path | None, policies: Path | None) -> None:
    """List the models in the folder: name, detector, training period and rows, and which are pinned.

    \b
    Examples:
      arbiter model list --models models
    """
    into = _folder(folder)
    pinned: dict[str, str] = {}
    for each in rulebook(rules, policies).detectors:
        pinned |= dict.fromkeys(each.challengers, "challenger")
        if each.champion:
            pinned[each.champion] = "champion"
    for path in sorted(into.glob(f"*/{CARD}")):
        name = path.parent.name
        try:
            card = read_model(into, name).card
        except ModelUnavailable as error:
            click.echo(f"{name}  {error}")
            continue
        days = f"{card.data.first[:10]}..{card.data.last[:10]}"
        click.echo(f"{name}  {card.detector}  {days}  {card.data.rows:,} rows  {pinned.get(name, '')}".rstrip())


@model.command("show", short_help="What a model was trained on.")
@click.argument("name")
@_folder_option
def show(name: str, folder: Path | None) -> None:
    """Show the card of a model. NAME may be its first digits.

    \b
    Examples:
      arbiter model show 3fa9
    """
    for line in _described(_find(_folder(folder), name).card):
        click.echo(line)


@model.command("compare", short_help="Two models on what was reported.")
@click.argument("champion")
@click.argument("challenger")
@_table_options
@_folder_option
@pack_options
def compare(
    champion: str,
    challenger: str,
    data: Path,
    mapping: Path,
    since: str | None,
    until: str | None,
    folder: Path | None,
    rules: Path | None,
    policies: Path | None,
) -> None:
    """Compare two models of one detector on a table with outcomes: how well each ranks what was reported as fraud.

    They may look at different features, as long as the file declares them all.

    Every figure has its 95 % interval, from 200 bootstrap samples; the last column is the difference, over the same
    samples. Use days that neither was trained on.

    \b
    Examples:
      arbiter model compare 3fa9 91c0 --data orders.parquet --map orders.map.yaml --from 2026-08-08
    """
    from engine.ranking import compared

    into = _folder(folder)
    models = [_find(into, name) for name in (champion, challenger)]
    found = _measured(rulebook(rules, policies), data, mapping, since, until)
    seats = []
    for each in models:
        try:
            seats.append(seated(each, found.detector))
        except ModelUnavailable as error:
            raise RequestRefused(f"{each.name[:12]}: {error}") from None
    if found.fraud is None or not 0 < found.fraud.sum() < len(found.fraud):
        raise RequestRefused("nothing to compare by: the rows used need some that were reported as fraud, and others")
    scores = [np.array([odd.rank for odd in seat.look_all(found.rows)]) for seat in seats]
    click.echo(f"{counted(len(found.rows), 'row')}, {int(found.fraud.sum()):,} of them reported as fraud")
    click.echo(f"{'':<20}{models[0].name[:12]:<26}{models[1].name[:12]:<26}difference")
    for name, figures in compared(found.fraud, scores).items():
        cells = [f"{value:.3f} ({low:.3f} to {high:.3f})" for value, low, high in figures]
        click.echo(f"{name:<20}{cells[0]:<26}{cells[1]:<26}{cells[2]}")


@model.command("promote", short_help="Pin a model as the champion.")
@click.argument("name")
@_folder_option
@pack_options
def promote(name: str, folder: Path | None, rules: Path | None, policies: Path | None) -> None:
    """Pin a model as the champion, in the file that declares its features. To roll back, promote the one before.

    Nothing changes for a running server before it reloads its rulebook; then the change is recorded, with who asked.

    \b
    Examples:
      arbiter model promote 91c0
    """
    given = settings(rules, policies)
    into = _folder(folder)
    chosen = _find(into, name)
    detector = _detector(rulebook(rules, policies), chosen)
    if detector.champion == chosen.name:
        click.echo(f"{chosen.name} is the champion of '{detector.name}' already", err=True)
        return
    path, before = detector.document.path, detector.document.body
    assert path is not None, "a detector was read from a file"
    path.write_bytes(_pinned(detector, chosen.name).encode("utf-8"))
    try:
        book = load(given.rules, given.policies)
        read_models(into, book.detectors, strict=True)
    except PackError:
        path.write_bytes(before)
        raise
    click.echo(f"{detector.document.file}: {detector.champion or 'no model'} -> {chosen.name}", err=True)


def _pinned(detector: Detector, name: str) -> str:
    """The file with another champion, who challenges itself no more; everything else as it was."""
    text, keys = detector.document.source.content, detector.document.place.inside
    pin = f"model: {name}"
    if "model" in keys:
        edits = [(_key(keys["model"]), keys["model"].end, pin)]
    else:
        edits = [(_key(keys["features"]), _key(keys["features"]), f"{pin}\n")]
    if name in detector.challengers:
        edits.append((*_entry(text, keys["challengers"], detector.challengers.index(name)), ""))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _key(place: Place) -> int:
    assert place.key is not None, "the values of a file have keys"
    return place.key[0]


def _entry(text: str, around: Place, at: int) -> tuple[int, int]:
    """From where to where one entry of a list stands, written in one line or a line each; the only one with its key."""
    entries = list(around.inside.values())
    if len(entries) == 1:
        last = around.end if text[around.start] == "[" else entries[0].end
        return _key(around), text.find("\n", last) + 1 or len(text)
    if at + 1 < len(entries):
        return entries[at].start, entries[at + 1].start
    return entries[at - 1].end, entries[at].end


@dataclass
class _Measured:
    """The rows of a table as a model sees them."""

    detector: Detector
    rows: list[Row] = field(default_factory=list)
    first: int = 0
    last: int = 0
    numbers: list[int] = field(default_factory=list)
    reported: set[int] | None = None

    @property
    def fraud(self) -> Any | None:
        """Which rows were reported by the end of the table; None where it has no reports."""
        reported = self.reported
        return None if reported is None else np.array([number in reported for number in self.numbers])


def _measured(book: Rulebook, data: Path, mapping: Path, since: str | None, until: str | None) -> _Measured:
    mapped = read_map(mapping, book.schema)
    with closing(data.open("rb")) as source:
        rows = read_rows(source, str(data), format_of(data, None), mapped.columns, mapped.check)
    replay = Replay(book, mapped, rows)
    begin, end = _day(since, 0), _day(until, 1 << 62)
    detector = book.kinds[mapped.kind].detector
    found = _Measured(detector) if detector else None
    refused: list[Bad] = []
    reported: set[int] = set()

    def told(number: int, event: Event, row: Row) -> None:
        assert found is not None, "rows come of kinds with a detector"
        found.rows.append(row)
        found.first, found.last = found.first or event.at, event.at
        found.numbers.append(number)

    def known(number: int, outcome: Event) -> None:
        if outcome.values["outcome"]["result"] in FRAUD:
            reported.add(number)

    replay.measure(told, known, refused.append, wants=lambda _, event: begin <= event.at < end)
    if refused:
        click.echo(
            f"{counted(len(refused), 'row')} refused, the first: row {refused[0][0]}: {refused[0][1][0]}", err=True
        )
    assert found is not None, "measure refuses kinds without a detector"
    found.reported = reported if mapped.delay is not None else None
    return found


def _stamp(at: int) -> str:
    return datetime.fromtimestamp(at / 1_000_000, UTC).isoformat().replace("+00:00", "Z")


def _day(given: str | None, otherwise: int) -> int:
    try:
        return otherwise if given is None else start_of(given)
    except ValueError as error:
        raise click.UsageError(f"{given}: {error}") from None


def _hash(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _folder(given: Path | None) -> Path:
    folder = given or settings().model_dir
    if folder is None:
        raise click.UsageError("say where models are: --models FOLDER, or ARBITER_MODEL_DIR")
    return folder


def _find(folder: Path, name: str) -> Model:
    names = [path.parent.name for path in folder.glob(f"*/{CARD}")]
    found = [each for each in names if each.startswith(name)]
    if len(found) != 1:
        what = f"{len(found)} models begin with" if found else "there is no model"
        near = "" if found else did_you_mean(name, names)
        raise NotFound(f"{what} '{name}' in {folder}" + (f"; {near}" if near else ""))
    return read_model(folder, found[0])


def _detector(book: Rulebook, chosen: Model) -> Detector:
    for each in book.detectors:
        if each.name == chosen.card.detector and each.kind == chosen.card.kind:
            return each
    raise NotFound(f"no file declares the detector '{chosen.card.detector}' that this model was trained for")


def _described(card: Card) -> list[str]:
    data = card.data
    lines = [
        f"detector  {card.detector}, {card.kind}: {card.trees} trees of {card.sample} rows, seed {card.seed}",
        f"data      {data.rows:,} rows, {data.first} to {data.last}, file {data.sha256[:12]}",
        "versions  " + ", ".join(f"{name} {version}" for name, version in card.versions.items()),
    ]
    if card.metrics:
        m = card.metrics
        recalls = f"recall {m.recall_at_1_percent:.3f} at 1 % and {m.recall_at_5_percent:.3f} at 5 % of the others"
        lines += [
            f"ranking   {m.fraud:,} of {m.known:,} training rows reported as fraud: AUC {m.auc:.3f}",
            f"          average precision {m.average_precision:.3f}, {recalls}",
        ]
    for segment in card.segments:
        lines.append(f"\n{segment.value or 'all rows'}: {segment.rows:,} rows")
        lines.append(f"  {'feature':<24}{'5 %':>12}{'median':>12}{'95 %':>12}{'unknown':>10}  unit")
        for feature, usual in zip(card.features, segment.usual, strict=True):
            cells = ["" if value is None else f"{value:,.6g}" for value in (usual.low, usual.median, usual.high)]
            line = f"  {feature.name:<24}{cells[0]:>12}{cells[1]:>12}{cells[2]:>12}{usual.parts.shares[-1]:>10.1%}"
            lines.append(f"{line}  {feature.unit}{', log' if feature.scale == 'log' else ''}".rstrip())
    return lines
