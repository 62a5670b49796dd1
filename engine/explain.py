"""Why a decision came out as it did: read from its record, never computed from today's world.

Every rule that fired is shown with its questions, the answer each had, and the values behind it. Personal values are
in the vault: they are shown where the caller gives them, and are marked as sealed otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.anomaly import Model
from engine.detectors import ANOMALY, seated, spell_float
from engine.expr import Env, Window, truth
from engine.packs.moments import day_of
from engine.rulebook import KindBook, Rulebook
from engine.rules import Rule
from engine.schema import at_path, decode

SEALED = {"sealed": True}
"""Stands for a value that only the vault holds."""

ERASED = {"erased": True}
"""Stands for a value whose key was deleted: nobody can read it any more."""


def explanation(
    record: Mapping[str, Any], rulebook: Rulebook, private: Mapping[str, Mapping[str, Any]] | None
) -> dict[str, Any]:
    """The explanation of a recorded decision. `rulebook` is the one the record pins.

    `private` are the personal values by subject and path, None where the caller may not see them.
    """
    kind = rulebook.kinds[record["event"]["kind"]]
    values = _Values(record, rulebook, kind, private)
    fired = {*record["found"], *record["shadow"], *(hit["rule"] for hit in record["exempted"])}
    messages = {reason["rule"]: reason for reason in record["reasons"]}
    return {
        "id": record["id"],
        "event": {name: record["event"][name] for name in ("id", "kind", "order", "at", "received_at")},
        "verdict": record["verdict"],
        "score": record["score"],
        "steps": record["steps"],
        "situation": record["situation"],
        "notices": record["notices"],
        "rules": [
            _rule(rule, index, kind, values, messages.get(rule.id), record)
            for index, rule in enumerate(kind.rules)
            if rule.id in fired
        ],
        "unknown": [rule for rule in values.undecided(kind) if rule not in fired],
        "features": {
            rulebook.windows[slot].name: _plain(value)
            for slot, value in zip(kind.slots, record["features"], strict=True)
        },
        "anomaly": {
            "model": record["pins"]["model"],
            "percentile": record["anomaly"],
            "challengers": record["challengers"],
            "unusual": record["unusual"],
        },
        "pins": record["pins"],
        **({"images": record["images"]} if "images" in record else {}),
    }


def exact(record: Mapping[str, Any], rulebook: Rulebook, model: Model) -> list[dict[str, Any]]:
    """By how much each feature changed the oddness of a recorded decision: exact Shapley values of its path length.

    Each: feature, value, and `nodes` by which it shortens the mean path (larger makes odder); with `model`'s base they
    add up to the row's own. Computed from the record alone. `rulebook` and `model` are those that the record pins.
    """
    from engine.anomaly.shapley import shapley

    kind = rulebook.kinds[record["event"]["kind"]]
    detector, read = kind.detector, kind.row
    assert detector is not None, "a model looked at this record, so its kind has a detector"
    assert read is not None, "likewise"
    features: list[Any] = [None] * len(rulebook.windows)
    for slot, value in zip(kind.slots, record["features"], strict=True):
        features[slot] = decode(value)
    event = record["event"]
    env = Env(event["at"], event["received_at"], {}, rulebook.convert)
    row = read(decode(event["public"]), features, env)
    seen = seated(model, detector).seen(row)
    changes = shapley(model.forest(row.segment), model.scaled(seen))
    found = [
        {"feature": feature.name, "value": spell_float(value), "unit": feature.unit, "nodes": -change}
        for feature, value, change in zip(model.card.features, seen, changes, strict=True)
    ]
    return sorted(found, key=lambda each: -each["nodes"])


class _Values:
    """The recorded values of one decision, and the truth of each of its questions."""

    def __init__(
        self,
        record: Mapping[str, Any],
        rulebook: Rulebook,
        kind: KindBook,
        private: Mapping[str, Mapping[str, Any]] | None,
    ) -> None:
        self._anomaly = record["anomaly"]
        self._public = record["event"]["public"]
        self._fields = rulebook.schema.fields(kind.kind)
        self._features = dict(zip(kind.slots, record["features"], strict=True))
        self._slots = {window: slot for slot, window in enumerate(rulebook.windows)}
        self._private = private
        self._true, self._unknown = int(record["atoms"]["true"], 16), int(record["atoms"]["unknown"], 16)

    def truth(self, atom: int) -> str:
        return truth(atom, self._true, self._unknown)

    def undecided(self, kind: KindBook) -> list[str]:
        """The ids of the rules that could have fired with what was not known."""
        return [kind.rules[index].id for index in kind.matcher.undecided(self._true, self._unknown)]

    def at(self, path: str) -> Any:
        if path == ANOMALY:
            return self._anomaly
        field = self._fields[path]
        if field.privacy == "public":
            # What was typed into public text is masked there, and whole among the personal values.
            whole = [fields[path] for fields in (self._private or {}).values() if path in fields]
            return whole[0] if whole else at_path(self._public, path)
        if self._private is None:
            return SEALED
        return self._private.get(field.subject, {}).get(path)

    def of(self, window: Window) -> Any:
        return self._features.get(self._slots[window])


def _rule(
    rule: Rule, index: int, kind: KindBook, values: _Values, reason: Mapping[str, Any] | None, record: Mapping[str, Any]
) -> dict[str, Any]:
    exemption = next((hit["exemption"] for hit in record["exempted"] if hit["rule"] == rule.id), None)
    return {
        "rule": rule.id,
        "pack": rule.pack,
        "owner": rule.owner,
        # A rule of a rollout was in the shadow for those it was not yet live for.
        "mode": "shadow" if rule.id in record["shadow"] else rule.mode,
        "rollout": None if rule.rollout is None else str(rule.rollout),
        "signal": rule.finding.signal,
        "severity": rule.finding.severity,
        "points": rule.finding.points,
        "condition": rule.condition.source,
        "message": reason["message"] if reason else None,
        "law": list(rule.finding.cites),
        "articles": _articles(rule, kind, record),
        "exemption": exemption,
        "hits": [_hit(hit, values) for hit in record.get("hits", ()) if _looked(rule, hit)],
        "questions": [
            _question(kind, atom, values) for atom in dict.fromkeys(a for a, _ in kind.matcher.atoms_of(index))
        ],
    }


def _articles(rule: Rule, kind: KindBook, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The articles that the rule rests on, as they were when the conduct happened and when it was decided."""
    if not kind.law:
        return []
    return kind.law.told(rule.finding.cites, day_of(record["event"]["at"]), day_of(record["decided_at"]))


def _looked(rule: Rule, hit: Mapping[str, Any]) -> bool:
    return (hit["field"].partition("[")[0], hit["list"]) in rule.searched


def _hit(hit: Mapping[str, Any], values: _Values) -> dict[str, Any]:
    """Where a phrase of a list stands, and the words that stand there for those who may see the text."""
    path, _, place = hit["field"].partition("[")
    text = values.at(path)
    if place and isinstance(text, list):
        text = text[int(place.rstrip("]"))]
    words = text[hit["start"] : hit["end"]] if isinstance(text, str) else text
    return {**hit, "words": words}


def _question(kind: KindBook, number: int, values: _Values) -> dict[str, Any]:
    atom = kind.matcher.atoms[number]
    shown = {path: values.at(path) for path in sorted(atom.paths)}
    shown |= {window.name: values.of(window) for window in atom.windows}
    plain = {name: _plain(value) for name, value in shown.items()}
    return {"asks": atom.text, "answer": values.truth(number), "values": plain}


def _plain(value: Any) -> Any:
    """A recorded value without its marks (`encode`): '4980.00 CNY', '0.5'."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping) and len(value) == 1:
        return value.get("$m") or value.get("$n") or value
    return value
