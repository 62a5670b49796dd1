"""What an anomaly model looks at: features declared in YAML, compiled, and the models pinned to them.

    anomaly: checkout
    about: Orders that look like no others.
    for: transaction
    owner: payments-risk
    features:
      amount: {value: amount, unit: CNY, scale: log, label: {en: amount, zh: 金额}}
      orders: {value: "count(last 1d by card.ref)", label: {en: orders on this card in a day, zh: 该卡一天内订单数}}
    segment: {by: merchant.category, at_least: 5000}      # a forest of its own for each category with rows enough
    model: 3fa9…                                          # the champion: its verdicts count
    challengers: [91c0…]                                  # looked at beside it; recorded, and change nothing

`arbiter train` trains a model on them. A feature sees public fields and windows only: what makes an event odd is shown
to the caller and stands in the log.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.anomaly import FeatureCard, Model, Odd, Share, read_model
from engine.errors import ModelUnavailable, PackError, Problem, did_you_mean, with_article
from engine.expr import BOOL, DURATION, MONEY, NUMBER, TEXT, Env, Expression, Type, Vocabulary, Window, value_of
from engine.expr import read as read_expression
from engine.money import CURRENCIES, Money
from engine.packs import FORMAT_MEANS, Document, Form, Loc, Text, fit, parse
from engine.schema import FieldDef

ANOMALY = "anomaly"
"""The number that conditions may ask for where a kind has a detector: the champion's percentile, 0 to 100."""
FIELD = FieldDef(
    ANOMALY, "number", "How unusual the event is: the percentile that the model gives", 99.7, "0 to 100", derived=True
)
MAX_FEATURES = 64
SHOWN = 3
"""Most features that a verdict names as unusual."""

_NAME = Form("[a-z][a-z0-9_]*", "write small letters, digits and '_', beginning with a letter")
_HASH = Form("[0-9a-f]{64}", "write the 64 digits that `arbiter train` printed")
_MICROSECONDS = 1_000_000
_UNITS = {NUMBER: "", BOOL: "yes = 1", DURATION: "s"}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Label(_Model):
    """What a feature is called in a reason."""

    en: Text = Field(description="in English")
    zh: Text = Field(description="in Chinese")


class FeatureText(_Model):
    """One feature as written."""

    value: Text = Field(description="a number, an amount, a duration or a yes/no, as conditions write it")
    unit: Text | None = Field(default=None, description="a currency for an amount, else a word that is shown")
    scale: Literal["plain", "log"] = Field(default="plain", description="log for what grows by factors")
    label: Label = Field(description="what it is called in a reason")


class SegmentText(_Model):
    """By which field there are forests of their own, and how many rows a value of it must have."""

    by: Text = Field(description="the field by whose values there are models of their own")
    at_least: int = Field(default=5000, strict=True, ge=256, description="the rows that a value of it must have")


class DetectorPack(_Model):
    """A file that declares the features of an anomaly model."""

    format: Literal[1] = Field(default=1, description=FORMAT_MEANS)
    anomaly: Annotated[Text, _NAME] = Field(description="its name")
    about: Text = Field(description="what it is to find")
    kind: Text = Field(alias="for", description="the kind of event that it looks at")
    owner: Text = Field(description="who answers for it")
    features: dict[Annotated[Text, _NAME], FeatureText] = Field(
        min_length=1, max_length=MAX_FEATURES, description="name → what the model looks at"
    )
    segment: SegmentText | None = Field(default=None, description="models of their own for values of a field")
    trees: int = Field(default=100, strict=True, ge=10, le=500, description="the trees of a forest")
    sample: int = Field(default=256, strict=True, ge=16, le=4096, description="the rows that each tree is grown on")
    model: Annotated[Text, _HASH] | None = Field(
        default=None, description="the hash of the champion, whose verdicts count"
    )
    challengers: list[Annotated[Text, _HASH]] = Field(
        default=[], max_length=4, description="hashes of models that look beside it and change nothing"
    )


Read = Callable[[dict[str, Any], Sequence[Any], Env], Any]


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature, checked. `unit` is a currency for money, s for durations."""

    name: str
    expression: Expression
    unit: str
    scale: Literal["plain", "log"]
    label: Mapping[str, str]


@dataclass(frozen=True)
class Detector:
    """The declared features of one kind of event, and the models pinned to them."""

    name: str
    kind: str
    features: tuple[Feature, ...]
    by: Expression | None
    at_least: int
    trees: int
    sample: int
    champion: str | None
    challengers: tuple[str, ...]
    document: Document

    @property
    def windows(self) -> tuple[Window, ...]:
        """The windows that the features read."""
        return tuple(dict.fromkeys(window for each in self.features for window in each.expression.windows))

    @property
    def segment(self) -> str | None:
        """The canonical text of what rows are told apart by."""
        return self.by.text if self.by else None

    @property
    def cards(self) -> tuple[FeatureCard, ...]:
        """The features as the card of a model trained on them has them."""
        return tuple(
            FeatureCard(name=each.name, expression=each.expression.meaning, unit=each.unit, scale=each.scale)
            for each in self.features
        )

    def unusual(self, look: Look) -> list[dict[str, Any]]:
        """The features that make an event odd, the oddest first, at most `SHOWN`, as the record has them.

        Values and ranges are decimal text in the feature's unit. `share` is the feature's part of all that makes the
        event odder, in percent.
        """
        odder = [share for share in look.shares() if share.change > 0]
        whole = sum(share.change for share in odder)
        return [
            {
                "feature": feature.name,
                "label": dict(feature.label),
                "value": spell_float(share.value),
                "usual": [spell_float(share.low), spell_float(share.high)],
                "unit": feature.unit,
                "share": round(100 * share.change / whole),
            }
            for share in odder[:SHOWN]
            for feature in (self.features[share.feature],)
        ]

    def reader(self, windows: Sequence[Window]) -> Reader:
        """The features compiled against the windows of a rulebook."""
        give = [_number(each, value_of(each.expression, windows)) for each in self.features]
        return Reader(tuple(give), value_of(self.by, windows) if self.by else None)


@dataclass(frozen=True, slots=True)
class Row:
    """One event as a model sees it: a float a feature in its own unit, NaN where it is unknown, and its segment."""

    values: tuple[float, ...]
    segment: str | None


@dataclass(frozen=True, slots=True)
class Reader:
    """Gives the row of an event."""

    give: tuple[Callable[[dict[str, Any], Sequence[Any], Env], float], ...]
    segment: Read | None

    def __call__(self, values: dict[str, Any], features: Sequence[Any], env: Env) -> Row:
        """The row of an event, given its values and those of the rulebook's windows."""
        row = tuple([give(values, features, env) for give in self.give])
        return Row(row, self.segment(values, features, env) if self.segment else None)


def _number(feature: Feature, read: Read) -> Callable[[dict[str, Any], Sequence[Any], Env], float]:
    kind, unit = feature.expression.type, feature.unit
    if kind == MONEY:
        return lambda values, features, env: _money(read(values, features, env), unit, env)
    divisor = _MICROSECONDS if kind == DURATION else 1

    def number(values: dict[str, Any], features: Sequence[Any], env: Env) -> float:
        value = read(values, features, env)
        return math.nan if value is None else float(value) / divisor

    return number


def _money(value: Money | None, unit: str, env: Env) -> float:
    # At the event's own time: a row in training is then the row that was served.
    found = None if value is None else env.convert(value, unit, env.at)
    return math.nan if found is None else float(found.amount)


@dataclass(frozen=True, slots=True)
class Seat:
    """A model in its place beside the features of a file: it looks at those that it was trained on, and at no others.

    So a file may declare a feature that a challenger tries while the champion goes on without it.
    """

    model: Model
    places: tuple[int, ...]
    """Of each feature of the model, in its own order, the place among the file's."""

    def seen(self, row: Row) -> tuple[float, ...]:
        """The part of a row that the model looks at."""
        values = row.values
        return tuple([values[place] for place in self.places])

    def look(self, row: Row) -> Odd:
        """How unusual a row is to the model."""
        return self.model.look(self.seen(row), row.segment)

    def look_all(self, rows: Sequence[Row]) -> list[Odd]:
        """The same for many rows at once."""
        return self.model.look_all([self.seen(row) for row in rows], [row.segment for row in rows])

    def why(self, row: Row) -> tuple[Share, ...]:
        """What each feature adds, the largest addition first; features by their places in the file."""
        shares = self.model.why(self.seen(row), row.segment)
        return tuple([replace(share, feature=self.places[share.feature]) for share in shares])


@dataclass(frozen=True, slots=True)
class Models:
    """The models in force, by kind of event. `missing` says of each kind whose champion cannot be used, why."""

    champions: Mapping[str, Seat] = field(default_factory=dict)
    challengers: Mapping[str, tuple[Seat, ...]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


NO_MODELS = Models()


def pins_in(files: Iterable[bytes]) -> dict[str, str | None]:
    """Detector → pinned champion, of a rulebook's files as they are; what is no sound YAML pins nothing."""
    found: dict[str, str | None] = {}
    for body in files:
        if b"anomaly:" not in body:
            continue
        try:
            data = parse(body.decode()).data
        except PackError:
            continue
        if isinstance(data, dict) and isinstance(data.get("anomaly"), str):
            found[str(data["anomaly"])] = str(data["model"]) if data.get("model") else None
    return found


def read_models(folder: Path | None, detectors: Iterable[Detector], *, strict: bool) -> Models:
    """The pinned models, each checked byte by byte.

    With `strict` a model that cannot be used is a PackError where it is pinned; without, its kind is `missing` one.
    """
    champions: dict[str, Seat] = {}
    challengers: dict[str, tuple[Seat, ...]] = {}
    missing: dict[str, str] = {}
    problems: list[Problem] = []
    for detector in detectors:
        beside = []
        pinned: list[tuple[Loc, str]] = [(("challengers", i), name) for i, name in enumerate(detector.challengers)]
        if detector.champion is None:
            missing[detector.kind] = f"'{detector.name}' pins no model yet"
        else:
            pinned.insert(0, (("model",), detector.champion))
        for loc, name in pinned:
            try:
                seat = seated(_read(folder, name), detector)
            except ModelUnavailable as error:
                problems.append(detector.document.problem(loc, f"the model cannot be used: {error}"))
                if loc == ("model",):
                    missing[detector.kind] = str(error)
                continue
            if loc == ("model",):
                champions[detector.kind] = seat
            else:
                beside.append(seat)
        challengers[detector.kind] = tuple(beside)
    if strict and problems:
        raise PackError(problems)
    return Models(champions, challengers, missing)


def _read(folder: Path | None, name: str) -> Model:
    if folder is None:
        raise ModelUnavailable("ARBITER_MODEL_DIR does not say in which folder models are")
    return read_model(folder, name)


def seated(model: Model, detector: Detector) -> Seat:
    """The model beside the features of a file. Raises ModelUnavailable, with what differs, when it does not fit them.

    It fits when the file declares each feature that the model was trained on, just so; the file may declare more.
    """
    card, declared = model.card, {feature.name: feature for feature in detector.cards}
    if card.kind != detector.kind:
        raise ModelUnavailable(f"it looks at {card.kind} events, this file at {detector.kind} events")
    if card.segment != detector.segment:
        raise ModelUnavailable(
            f"it has segments by {card.segment or 'nothing'}, this file by {detector.segment or 'nothing'}"
        )
    other = [feature.name for feature in card.features if declared.get(feature.name) != feature]
    if other:
        what = "it was trained on other features than this file declares"
        raise ModelUnavailable(
            f"{what}: {', '.join(map(repr, other))}; declare them as its card has them, or train again"
        )
    places = {name: place for place, name in enumerate(declared)}
    return Seat(model, tuple(places[feature.name] for feature in card.features))


def unseen(detector: Detector, models: Models) -> list[str]:
    """The features that no pinned model looks at, where the champion can be used."""
    champion = models.champions.get(detector.kind)
    if champion is None:
        return []
    seen = {place for seat in (champion, *models.challengers[detector.kind]) for place in seat.places}
    return [feature.name for place, feature in enumerate(detector.features) if place not in seen]


@dataclass(frozen=True)
class DetectorReader:
    """Reads the files that declare detectors against the fields and lists of a rulebook; problems pile up."""

    vocabulary: Callable[[tuple[str, ...]], Vocabulary]
    kinds: tuple[str, ...]
    problems: list[Problem]

    def detectors(self, documents: Iterable[Document]) -> tuple[Detector, ...]:
        """The detectors of all files: one a kind at most."""
        found: dict[str, Detector] = {}
        for document in documents:
            fits = fit(document, DetectorPack)
            self.problems.extend(fits.problems)
            if fits.pack is None:
                continue
            before = len(self.problems)
            detector = self._detector(fits.document, fits.pack)
            if detector is None or fits.problems or len(self.problems) > before:
                continue
            if detector.kind in found:
                what = f"{with_article(detector.kind)} has the detector '{found[detector.kind].name}' already"
                self.problems.append(document.problem(("for",), what, "one kind has one detector"))
            found.setdefault(detector.kind, detector)
        return tuple(found.values())

    def _detector(self, document: Document, pack: DetectorPack) -> Detector | None:
        kind = str(pack.kind)
        if kind not in self.kinds:
            hint = did_you_mean(kind, self.kinds) or "one of " + ", ".join(self.kinds)
            self.problems.append(document.problem(("for",), f"there is no kind of event '{kind}'", hint))
            return None
        vocabulary = self.vocabulary((kind,))
        features = [self._feature(document, str(name), each, vocabulary) for name, each in pack.features.items()]
        by = self._public(pack.segment.by, vocabulary, TEXT) if pack.segment else None
        for at, name in enumerate(pack.challengers):
            if name == pack.model:
                self.problems.append(document.problem(("challengers", at), "the champion cannot challenge itself"))
            elif name in pack.challengers[:at]:
                self.problems.append(document.problem(("challengers", at), "this model is listed twice"))
        return Detector(
            name=str(pack.anomaly),
            kind=kind,
            features=tuple(each for each in features if each is not None),
            by=by,
            at_least=pack.segment.at_least if pack.segment else 0,
            trees=pack.trees,
            sample=pack.sample,
            champion=None if pack.model is None else str(pack.model),
            challengers=tuple(map(str, pack.challengers)),
            document=document,
        )

    def _feature(self, document: Document, name: str, written: FeatureText, known: Vocabulary) -> Feature | None:
        loc = ("features", name)
        expression = self._public(written.value, known)
        if expression is None:
            return None
        unit = written.unit
        if expression.type == MONEY:
            if unit is None or unit not in CURRENCIES:
                what = "a feature of money names the currency it is compared in"
                place = (*loc, "value") if unit is None else (*loc, "unit")
                hint = "add unit: CNY" if unit is None else did_you_mean(unit, CURRENCIES)
                self.problems.append(document.problem(place, what, hint))
                return None
        elif expression.type not in _UNITS:
            hint = "compare it (a yes/no is 0 or 1), count it, or take a time from 'now'"
            self.problems.append(written.value.problem(0, f"a feature is a number; this is {expression.type}", hint))
            return None
        return Feature(
            name=name,
            expression=expression,
            unit=str(unit) if unit is not None else _UNITS[expression.type],
            scale=written.scale,
            label={"en": str(written.label.en), "zh": str(written.label.zh)},
        )

    def _public(self, source: Text, vocabulary: Vocabulary, wanted: Type | None = None) -> Expression | None:
        """The expression, if it is one, names public fields only and looks into no list."""
        try:
            expression = read_expression(source, vocabulary, wanted)
        except PackError as error:
            self.problems.extend(error.problems)
            return None
        if expression.lists:
            what = f"this looks into a list ({', '.join(sorted(expression.lists))})"
            hint = "what a model saw must be known from the record alone, and lists change: leave that to a rule"
            self.problems.append(source.problem(0, what, hint, len(source)))
            return None
        personal = sorted(path for path in expression.paths if vocabulary.fields[path].privacy != "public")
        if personal:
            what = f"this looks at personal data ({', '.join(personal)})"
            hint = "what makes an event odd is shown and logged: use counts, amounts or public fields"
            self.problems.append(source.problem(0, what, hint, len(source)))
            return None
        return expression


@dataclass(frozen=True, slots=True)
class Look:
    """What the models said of one event."""

    row: Row
    odd: Odd
    seat: Seat
    beside: tuple[tuple[str, Decimal], ...] = ()

    def shares(self) -> tuple[Share, ...]:
        """What each feature adds to the oddness, the largest addition first."""
        return self.seat.why(self.row)


def spell_float(value: float | None) -> str | None:
    """A feature's value as people read it: plain digits, at most six places; None when it is unknown."""
    if value is None or math.isnan(value):
        return None
    return format(Decimal(f"{value:.6f}").normalize(), "f")
