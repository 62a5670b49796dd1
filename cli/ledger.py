"""`explain` and `backup`: what was decided, read from the database in the settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson

from cli.group import counted
from cli.opened import decision_of, with_ledger
from cli.settings import settings
from cli.tables import stamp
from engine import database as db
from engine.anomaly import read_model
from engine.archive import Library
from engine.assembly import open_vault, wall_clock
from engine.callers import Caller
from engine.errors import RequestRefused, SettingsError
from engine.explain import SEALED
from engine.explain import exact as shares_of
from engine.expr import Type
from engine.ledger import Ledger
from engine.packs.moments import BEIJING
from engine.records import Records
from engine.rulebook import Rulebook
from engine.rules import show
from engine.schema import decode
from engine.vault import KeyFile

T = TypeVar("T")

PAGE = 200


@click.command()
@click.argument("id")
@click.option("--exact", is_flag=True, help="Shapley values of what the anomaly model saw; needs ARBITER_MODEL_DIR.")
@click.option("--json", "as_json", is_flag=True, help="The explanation as JSON.")
def explain(id: str, exact: bool, as_json: bool) -> None:
    """Explain a decision by its id, or by the id of its event: every rule that fired with its questions and their
    answers, every step of the policy, and what came after.

    Personal values and reasons in free text stay sealed; the API shows them to keys with the scope reveal. Times are in
    Asia/Shanghai, the zone of conditions that name no other; with --json they are microseconds since 1970, UTC.

    \b
    Examples:
      arbiter explain 01939c3e-6f1c-7d52-a2b7-0d8f6f0b1c11
      arbiter explain ev-2026-000184 --json
      ARBITER_MODEL_DIR=models arbiter explain ev-2026-000184 --exact
    """
    found, rulebook = with_ledger(lambda ledger: _explained(ledger, id, exact))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        fields = rulebook.vocabulary(found["event"]["kind"]).fields
        types = {path: Type(field.type) for path, field in fields.items()}
        types |= {window.name: window.type for window in rulebook.windows}
        click.echo("\n".join(as_text(found, types)))


async def _explained(ledger: Ledger, id: str, exact: bool) -> tuple[dict[str, Any], Rulebook]:
    stored = await decision_of(ledger, id)
    library, given = Library(ledger.database, wall_clock), settings()
    records = Records(ledger, open_vault(given, KeyFile.read(given.key_file), ledger.database), library.find)
    # As the API says it to an auditor.
    reader = Caller("explain", "service", stored.entry.tenant, frozenset({"audit"}))
    found = await records.explanation(stored.entry.id, reader)
    rulebook = await library.find(found["pins"]["rulebook"])
    if exact:
        found["anomaly"]["exact"] = _exact(orjson.loads(stored.entry.leaf), rulebook)
    return found, rulebook


def _exact(record: Mapping[str, Any], rulebook: Rulebook) -> list[dict[str, Any]]:
    named, folder = record["pins"]["model"], settings().model_dir
    if named is None:
        raise RequestRefused("no anomaly model looked at this event")
    if folder is None:
        raise SettingsError("ARBITER_MODEL_DIR does not say in which folder models are")
    return shares_of(record, rulebook, read_model(folder, named))


def as_text(found: Mapping[str, Any], types: Mapping[str, Type]) -> Iterator[str]:
    """An explanation for people, line by line. `types` are those of fields and windows, by name."""
    event = found["event"]
    order = f", order {event['order']}" if event["order"] else ""
    yield f"{found['verdict'].upper()}  score {found['score']}"
    yield f"decision  {found['id']}"
    yield f"event     {event['id']} ({event['kind']}{order}) of {found['tenant']}"
    yield f"at        {stamp(event['at'], BEIJING)}, received {stamp(event['received_at'], BEIJING)}"
    yield f"zone      all times are in {BEIJING}, as in conditions that name no zone"
    yield f"rulebook  {found['pins']['rulebook']}"
    yield from _steps("How the verdict came about", found["steps"])
    yield from _anomaly(found["anomaly"])
    yield from _images(found.get("images"))
    for rule in found["rules"]:
        yield from _rule(rule, types)
    if found["notices"]:
        yield f"\nArbiter noticed: {', '.join(found['notices'])}"
    if found["unknown"]:
        yield f"\nWithout an answer, for lack of data: {counted(len(found['unknown']), 'rule')}"
        yield "  " + ", ".join(found["unknown"])
    for later in found["resolutions"]:
        yield f"\n{stamp(later['decided_at'], BEIJING)}  {later['what']} {later['said']} by {_who(later['by'])}"
        if later["id"] in found["notes"]:
            yield f"  reason: {'sealed' if found['notes'][later['id']] == SEALED else 'erased'}"
        yield from _steps(f"Verdict then: {later['verdict'] or later['before']}", later["steps"])


def _who(by: Mapping[str, str]) -> str:
    """Who did it; a service that speaks for a person is named as such, for its word is all there is."""
    person = by["person"]
    return by["name"] if not person or person == by["name"] else f"{person} (says the service {by['name']})"


def _steps(title: str, steps: list[dict[str, str]]) -> Iterator[str]:
    yield f"\n{title}"
    for step in steps:
        yield f"  {step['by']} {step['name']}: {step['before']} → {step['after']}"


def _images(found: Mapping[str, Any] | None) -> Iterator[str]:
    """What its images were found to show, each with the known ones it is like and the boxes of a detector."""
    for image in found["seen"] if found else ():
        looks = f"broken: {image['broken']}" if image["broken"] else f"{image['width']} × {image['height']}"
        yield f"\nImage sha256:{image['sha256']}  {looks}"
        for match in image["matches"]:
            what = f"{match['kind']} {match['label']} ({match['reference']})"
            yield f"  like {what}: {match['distance']} of 256 bits differ"
        for box in image["detections"]:
            yield f"  {box['label']} at {box['score'] / 1000:.3f}, left top width height {box['box']}"


def _anomaly(found: Mapping[str, Any]) -> Iterator[str]:
    if found["percentile"] is None:
        return
    yield f"\nMore unusual than {found['percentile']} % of what the model {found['model'][:12]} was trained on"
    for each in found["unusual"]:
        usual = " to ".join("?" if end is None else end for end in each["usual"])
        unit = f" {each['unit']}" if each["unit"] not in ("", "yes = 1") else ""
        value = "unknown" if each["value"] is None else each["value"] + unit
        yield f"  {each['share']:>3} %  {each['label']['en']} {value}, usual {usual}{unit}"
    for each in found["challengers"]:
        yield f"  {each['model'][:12]} looked on: {each['anomaly']} %"
    if found.get("exact"):
        yield "  Shapley values: by how many nodes each feature shortens the mean path; above 0 makes it more unusual"
    for each in found.get("exact", ()):
        value = "unknown" if each["value"] is None else each["value"]
        yield f"  {each['nodes']:+.4f} nodes  {each['feature']} = {value} {each['unit']}".rstrip()


def _rule(rule: Mapping[str, Any], types: Mapping[str, Type]) -> Iterator[str]:
    state = f", {rule['mode']}" if rule["mode"] != "live" else ""
    state += f", rolled out to {rule['rollout']}" if rule["rollout"] else ""
    state += f", set aside by the exception {rule['exemption']}" if rule["exemption"] else ""
    yield f"\n{rule['rule']}  {rule['severity']}, {rule['points']} points, signal {rule['signal']}{state}"
    for text in (rule["message"] or {}).values():
        yield f"  {text}"
    if rule["law"]:
        yield f"  law: {', '.join(rule['law'])}"
    for article in rule["articles"]:
        yield f"    {_article(article)}"
    for question in rule["questions"]:
        values = ", ".join(f"{name} = {_value(value, types[name])}" for name, value in question["values"].items())
        yield f"    {question['answer']:<8}{question['asks']}" + (f"    [{values}]" if values else "")
    yield from (f"    {_hit(hit)}" for hit in rule["hits"])


def _hit(hit: Mapping[str, Any]) -> str:
    """Where a phrase of a list stands, and the words there for those who may see them."""
    phrase = "an entry that came through the API" if hit["phrase"] is None else f"'{hit['phrase']}'"
    words = (
        "sealed" if hit["words"] == SEALED else "not there any more" if hit["words"] is None else f"'{hit['words']}'"
    )
    return f"{hit['list']}: {phrase} at {hit['start']}:{hit['end']} of {hit['field']}: {words}"


def _article(article: Mapping[str, Any]) -> str:
    if article["number"] is None:
        return f"{article['id']}: no version of the day when it happened is in the table of law"
    name = f"{article['law']['en']} Art. {article['number']} ({article['name']['en']}), in force from {article['from']}"
    name += "" if article["verified"] else f"; not verified: {article['open']}"
    now = article.get("decision")
    if now is None:
        return name
    return name + (f"; on the day of the decision Art. {now['number']}, in force from {now['from']}" if now["number"]
                   else "; not in force on the day of the decision")  # fmt: skip


def _value(value: Any, type_: Type) -> str:
    return "sealed" if value == SEALED else show(decode(value), type_, "en", BEIJING)


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
def backup(out: Path) -> None:
    """Copy the SQLite ledger to OUT while it is in use. For PostgreSQL use pg_dump. The key file is not in it.

    \b
    Examples:
      arbiter backup /backups/arbiter-2026-11-20.db
    """
    db.backup(settings().database_url, out)
    click.echo(f"{out} made. The key file is not in it: keep a copy of that elsewhere.", err=True)
