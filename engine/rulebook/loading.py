"""From the files of two folders to a rulebook: every file says by one of its keys what it is, and all problems of all
files are told at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from pydantic import BaseModel

from engine.alerts import AlertsPack, Line, read_alerts
from engine.checklists import Checklist, ChecklistPack, Known, read_checklists
from engine.detectors import (
    ANOMALY,
    FIELD,
    Detector,
    DetectorPack,
    DetectorReader,
)
from engine.errors import PackError, Problem, did_you_mean, with_article
from engine.exemptions import ExemptionPack, Exemptions, read_exemptions
from engine.experiments import Asked, Experiment, ExperimentPack, read_experiments
from engine.expr import BOOL, Expression, Group, Vocabulary, Window, compile_rules, value_of
from engine.expr import read as read_expression
from engine.garbage import uncollected
from engine.jcs import canonical
from engine.law import LawPack, LawTable, citations, read_law, unknown
from engine.links import LinksPack, LinksReader
from engine.lists import ListPack, ListSet, read_lists
from engine.money import Rates
from engine.packs import Document, Fit, Loc, Text, fit, is_suite, read_through, yaml_files
from engine.playbooks import Around, Playbook, PlaybookPack, read_playbooks
from engine.policy import Policy, PolicyPack, Promise, apart, limit_name, name_problems, placed, read_promises
from engine.processing import Processing, ProcessingPack, read_processing
from engine.profiles import MERCHANT, Profile, ProfilePack, ProfileReader
from engine.rates import BASE, RatesPack, read_rates
from engine.retention import Retention, RetentionPack, read_retention
from engine.rulebook.book import DEGRADED, OWN_SIGNALS, KindBook, Rulebook
from engine.rules import PackReader, Rule, RulePack
from engine.schema import FieldDef, OwnField, Schema, SchemaPack, own_faults, schema
from engine.targets import TargetsPack, read_targets
from engine.wording import EVENTS, Judged, NoticesPack, PolicyWording, read_wording


def load(rules: Path, policies: Path, *, strict: bool = True) -> Rulebook:
    """The rulebook in two folders. Raises PackError with every problem of every file, none hiding another.

    With `strict` false a list whose text file cannot be read is unavailable, and everything else still works.
    """
    # By absolute paths, as the process may go elsewhere; by names, as problems and rules show them.
    place = rules.absolute(), policies.absolute(), rules.name, policies.name
    with uncollected():
        made = _held[place] = _Loading(strict, _held.get(place)).load(rules, policies)
    return made


_held: WeakValueDictionary[tuple[Path, Path, str, str], Rulebook] = WeakValueDictionary()
"""What somebody still holds of two folders: while their files stay as they are, nothing is made again."""


FILE_KINDS: Mapping[str, type[BaseModel]] = {
    "pack": RulePack,
    "list": ListPack,
    "links": LinksPack,
    "policy": PolicyPack,
    "fields": SchemaPack,
    "exceptions": ExemptionPack,
    "rates": RatesPack,
    "anomaly": DetectorPack,
    "retention": RetentionPack,
    "experiment": ExperimentPack,
    "law": LawPack,
    "checklist": ChecklistPack,
    "targets": TargetsPack,
    "alerts": AlertsPack,
    "processing": ProcessingPack,
    "playbook": PlaybookPack,
    "profile": ProfilePack,
    "notices": NoticesPack,
}
"""The key by which a file says what it is, and what it may then hold."""


_BROUGHT = re.compile(r"""\b(?:id|signal|if_unknown)["']?\s*:\s*["']?([a-z0-9][a-z0-9_.-]*)""")
"""Where the text of a file says which rule or signal it would bring."""

_GROUPED = re.compile(r"(?:\b(?:group_size|group_links|linked)\(|\bby\s)[a-z0-9_., ]+")
"""Where a condition may name a group."""

_MENTIONED = re.compile(r"[a-z0-9][a-z0-9_.-]*")
"""What may be a name in the text of a file."""


class _Judging(NamedTuple):
    """The policy of a kind of event, and the `if` of each of its degraded causes and of its modes."""

    policy: Policy
    degraded: Mapping[str, Expression]
    modes: Mapping[str, Expression]


class _Loading:
    """One load: documents in, a rulebook out; problems pile up, so that all are told at once."""

    def __init__(self, strict: bool, held: Rulebook | None = None) -> None:
        self.strict = strict
        self.held = held
        self.problems: list[Problem] = []
        self.files: dict[str, bytes] = {}
        self.documents: dict[str, list[Document]] = {}
        self.unread: list[Document] = []
        self.unseen: set[str] = set()  # folders in which something could not be read at all
        self.lost: frozenset[str] = frozenset()
        self.promises: dict[str, tuple[Promise, ...]] = {}
        self.limits: dict[str, dict[str, tuple[frozenset[str], Expression]]] = {}

    def load(self, rules: Path, policies: Path) -> Rulebook:
        self._read(rules, "rules")
        self._read(policies, "policies")
        vocabulary = self._schema()
        lists = self._lists(rules)
        if self.held is not None and not self.problems and self.files == self.held.files:
            return self.held
        groups = self._groups(vocabulary)
        detectors = self._detectors(vocabulary, lists, groups)
        vocabularies = self._vocabularies(vocabulary, lists, groups, self._watched())
        reader = PackReader(vocabularies, vocabulary.kinds, self.problems)
        found = tuple(rule for document in self.documents.get("pack", ()) for rule in reader.rules(document))
        self._once_each()
        self._own_signals()
        policies_by_kind = self._policies(found, vocabulary, vocabularies)
        rates = self._rates()
        law = self._law()
        profiles = self._profiles(reader, vocabulary, policies_by_kind)
        asked = [rule.windows for rule in found if rule.mode != "off"] + [each.windows for each in detectors]
        asked += [limit.windows for limits in self.limits.values() for _, limit in limits.values()]
        asked += [each.windows for each in profiles.values()]
        retention = self._retention(asked, vocabulary)
        exemptions = self._exemptions(found, policies_by_kind, vocabulary)
        experiments = self._experiments(found, policies_by_kind, vocabulary)
        checklists = self._checklists(found, vocabulary)
        targets = read_targets(self.documents.get("targets", ()), vocabulary.kinds, self.problems)
        alerts = read_alerts(self.documents.get("alerts", ()), vocabulary.kinds, self.problems)
        processing = self._processing(vocabulary)
        playbooks = self._playbooks(found, policies_by_kind, vocabulary, alerts)
        wording = self._wording(found, policies_by_kind, vocabulary, lists)
        if self.problems:
            raise PackError(self.problems)
        windows = tuple(dict.fromkeys(window for one in asked for window in one))
        by_kind = {each.kind: each for each in detectors}
        kinds = {
            kind: self._kind(kind, found, windows, policies_by_kind.get(kind), vocabulary, by_kind.get(kind), law)
            for kind in vocabulary.kinds
        }
        parts = (lists, rates, exemptions, detectors, retention, self.promises, experiments, groups, law, checklists)
        more = (targets, alerts, processing, playbooks, profiles, wording)
        return Rulebook(self.files, vocabulary, found, windows, kinds, *parts, *more)

    # Reading

    def _read(self, root: Path, name: str) -> None:
        """The files of one folder; a bad one does not hide the problems of the others."""
        before = len(self.problems)
        try:
            paths = yaml_files(root, self.problems)
        except PackError as error:
            self.problems.extend(error.problems)
            paths = ()
        if len(self.problems) > before:
            self.unseen.add(name)
        for path in (path for path in paths if not is_suite(path)):
            try:
                document = read_through(path, root=root)
            except PackError as error:
                self.problems.extend(error.problems)
                self.unseen.add(name)
            else:
                self.files[f"{name}/{path.relative_to(root).as_posix()}"] = document.body
                self.problems.extend(document.problems)
                self._sort(document)

    def _sort(self, document: Document) -> None:
        """Every file says by one of its keys what it is."""
        if document.data is None:
            self.unread.append(document)
            return
        keys = document.data if isinstance(document.data, dict) else {}
        kind = next((key for key in FILE_KINDS if key in keys), None)
        if kind is None and "suite" in keys:
            hint = "the name of a suite of tests ends with _test.yaml, such as checkout_test.yaml"
            self.problems.append(
                document.problem(("suite",), "this is a suite of tests by another name", hint, key=True)
            )
        elif kind is None:
            hint = "it needs one of the keys " + ", ".join(f"'{key}'" for key in FILE_KINDS)
            self.problems.append(document.problem((), "this file does not say what it is", hint))
        else:
            self.documents.setdefault(kind, []).append(document)

    def _fits(self, kind: str) -> Iterator[Fit[Any]]:
        """The files of one kind, each as far as it fits."""
        for document in self.documents.get(kind, ()):
            found = fit(document, FILE_KINDS[kind])
            self.problems.extend(found.problems)
            yield found

    def _unsure(self) -> frozenset[str]:
        """Names that files with problems may bring: of them nobody says that they are not there.

        What could not be read at all may bring any name that the other files mention.
        """
        if "rules" in self.unseen:
            return self._mentioned("policy", "exceptions", "checklist", "notices") | self.lost
        wrong = {problem.file for problem in self.problems}
        packs = [*self.unread, *self.documents.get("pack", ()), *self.documents.get("policy", ())]
        texts = (document.source.content for document in packs if document.file in wrong)
        return frozenset(name for text in texts for name in _BROUGHT.findall(text)) | self.lost

    def _mentioned(self, *kinds: str) -> frozenset[str]:
        texts = (document.source.content for kind in kinds for document in self.documents.get(kind, ()))
        return frozenset(name for text in texts for name in _MENTIONED.findall(text))

    def _may_be_unread(self, kind: str, folder: str) -> bool:
        """Whether a file of this kind may be among what could not be read."""
        key = re.compile(rf"""^["']?{kind}["']?\s*:""", re.MULTILINE)
        return folder in self.unseen or any(key.search(document.source.content) for document in self.unread)

    # Parts

    def _schema(self) -> Schema:
        """The fields there are. Own fields whose declaration has problems are kept as `lost`."""
        found = list(self._fits("fields"))
        for other in found[1:]:
            what = "there is a file with 'fields' already"
            self.problems.append(other.document.problem(("fields",), what, f"it is {found[0].document.file}"))
        if not found:
            if self._may_be_unread("fields", "policies"):
                self.lost = frozenset(name for name in self._mentioned("pack", "exceptions") if "." in name)
            return schema(None)
        written = self.documents["fields"][0].data["fields"]
        paths = frozenset(map(str, written)) if isinstance(written, dict) else frozenset()
        fields = self._sound(found[0], paths)
        self.lost = paths - fields.keys()
        return schema(fields)

    def _sound(self, found: Fit[SchemaPack], paths: frozenset[str]) -> dict[str, OwnField]:
        """The own fields without a fault; each fault is told at its own place."""
        fields = {str(path): own for path, own in found.pack.fields.items()} if found.pack else {}
        faults = own_faults(fields, sorted(paths))
        whole = self.documents["fields"][0]
        for fault in faults:
            document = found.document if fault.loc else whole
            loc = ("fields", fault.path, *fault.loc)
            self.problems.append(document.problem(loc, fault.what, fault.hint, key=fault.key or not fault.loc))
        return {path: own for path, own in fields.items() if path not in {fault.path for fault in faults}}

    def _lists(self, rules: Path) -> ListSet:
        try:
            lists = read_lists(self.documents.get("list", ()), strict=self.strict)
        except PackError as error:
            self.problems.extend(error.problems)
            # What the bad files would hold is not known: names of lists stay unchecked until they are mended.
            return ListSet({})
        for document in self.documents.get("list", ()):
            folder = "rules" if document.root == rules else "policies"
            for path, body in lists.lists[str(document.data["list"])].files.items():
                self.files[f"{folder}/{path}"] = body
        return lists

    def _groups(self, known: Schema) -> Mapping[str, Group]:
        """The groups of linked accounts. Names of those with problems are `lost`, too."""
        reader = LinksReader({kind: known.fields(kind) for kind in known.kinds}, self.problems)
        groups = reader.groups(self.documents.get("links", ()))
        self.lost |= reader.lost
        if self._may_be_unread("links", "rules"):
            texts = (
                document.source.content for kind in ("pack", "anomaly") for document in self.documents.get(kind, ())
            )
            places = (place for text in texts for place in _GROUPED.findall(text))
            self.lost |= frozenset(name for place in places for name in _MENTIONED.findall(place)) - groups.keys()
        return groups

    def _rates(self) -> Rates:
        try:
            return read_rates(self.documents.get("rates", ()))
        except PackError as error:
            self.problems.extend(error.problems)
            return Rates(BASE, {})

    def _profiles(self, reader: PackReader, known: Schema, policies: Mapping[str, _Judging]) -> dict[str, Profile]:
        """The profiles, and whether policies name tiers of theirs."""
        tiers = dict.fromkeys(tier for each in policies.values() for tier in each.policy.pack.tiers)
        kinds = {kind: known.fields(kind) for kind in known.kinds}
        found = ProfileReader(reader, kinds, tiers, self.lost).profiles(self.documents.get("profile", ()))
        if self._may_be_unread("profile", "policies") or len(found) < len(self.documents.get("profile", ())):
            return found  # What the others would be is not known before they are mended.
        ladders = {name: profile.ladder.tiers for name, profile in found.items()}
        for document in self.documents.get("policy", ()):
            self.problems.extend(_unknown_tiers(document, ladders))
        return found

    def _retention(self, asked: Sequence[Sequence[Window]], known: Schema) -> Retention:
        reach: dict[str, int] = {}
        for window in (window for one in asked for window in one):
            for kind in window.kinds:
                reach[kind] = max(reach.get(kind, 0), window.length)
        try:
            return read_retention(self.documents.get("retention", ()), known.kinds, reach)
        except PackError as error:
            self.problems.extend(error.problems)
            return Retention({})

    def _law(self) -> LawTable:
        """The table of law, against which all citations are held; without one they are believed."""
        before = len(self.problems)
        law = read_law(self.documents.get("law", ()), self.problems)
        if law and len(self.problems) == before:
            citing = (each for kind, documents in self.documents.items() if kind != "law" for each in documents)
            self.problems.extend(unknown(law, (each for document in citing for each in citations(document))))
        return law

    def _checklists(self, rules: Sequence[Rule], known: Schema) -> tuple[Checklist, ...]:
        """The checklists, held to what they ask of rules, policies and terms."""
        promised = {(policy, each.id) for policy, promises in self.promises.items() for each in promises}
        sure = Known({rule.id for rule in rules}, promised, known.kinds, self._unsure())
        return read_checklists(self.documents.get("checklist", ()), sure, self.problems)

    def _playbooks(
        self, rules: Sequence[Rule], policies: Mapping[str, _Judging], known: Schema, alerts: Sequence[Line]
    ) -> tuple[Playbook, ...]:
        """The playbooks, held to the events, signals, modes and alert lines that they name, and alert lines to them."""
        signals = {kind: set(OWN_SIGNALS) for kind in policies}
        for kind, (policy, *_) in policies.items():
            signals[kind] |= {rule.derive.signal for rule in policy.pack.rules if rule.derive}
            mine = (rule for rule in rules if kind in rule.kinds)
            signals[kind] |= {signal for rule in mine for signal in (rule.finding.signal, rule.if_unknown)}
        modes = {name for policy, *_ in policies.values() for name in policy.active(policy.pack.modes)}
        read = len({policy.name for policy, *_ in policies.values()}) == len(self.documents.get("policy", ()))
        whole = read and "policies" not in self.unseen
        around = Around(
            fields={kind: known.fields(kind) for kind in known.kinds},
            signals=signals if whole else None,
            modes=modes if whole else None,
            alerts={line.id for line in alerts} if alerts and self._sound_files("alerts") else None,
            unsure=self._unsure(),
            lost=self.lost,
        )
        playbooks = read_playbooks(self.documents.get("playbook", ()), around, self.problems)
        if playbooks and self._sound_files("playbook") and self._sound_files("alerts"):
            self.problems.extend(self._unknown_playbooks({book.id for book in playbooks}))
        return playbooks

    def _sound_files(self, kind: str) -> bool:
        """Whether every file of a kind was read without a problem."""
        wrong = {problem.file for problem in self.problems}
        return not self._may_be_unread(kind, "policies") and not any(
            document.file in wrong for document in self.documents.get(kind, ())
        )

    def _unknown_playbooks(self, known: Collection[str]) -> Iterator[Problem]:
        """Alert lines that name a playbook which is not there."""
        for document in self.documents.get("alerts", ()):
            for at, line in enumerate(document.data["lines"]):
                name = line.get("playbook")
                if name is not None and name not in known:
                    hint = did_you_mean(name, known) or "one of " + ", ".join(sorted(known))
                    yield document.problem(("lines", at, "playbook"), f"there is no playbook '{name}'", hint)

    def _exemptions(self, rules: Sequence[Rule], policies: Mapping[str, _Judging], known: Schema) -> Exemptions:
        fields = {path: each for kind in known.kinds for path, each in known.fields(kind).items()}
        protected = {signal for policy, *_ in policies.values() for signal in policy.mandatory_signals}
        documents = self.documents.get("exceptions", ())
        try:
            findings = [found for rule in rules for found in (rule.finding, rule.when_unknown()) if found is not None]
            return read_exemptions(documents, findings, fields, protected, self._unsure())
        except PackError as error:
            self.problems.extend(error.problems)
            return Exemptions()

    def _experiments(
        self, rules: Sequence[Rule], policies: Mapping[str, _Judging], known: Schema
    ) -> tuple[Experiment, ...]:
        asked = {rule.id: Asked(rule.kinds, rule.rollout, rule.watched) for rule in rules}
        results = known.fields("outcome")["outcome.result"].choices
        verdicts = dict.fromkeys(verdict for policy, *_ in policies.values() for verdict in policy.verdicts)
        documents = self.documents.get("experiment", ())
        # A rule that could not be read may be the one that is asked about: that is told of the rule.
        sure = [each for each in documents if not self.problems or each.data.get("rule") in asked]
        return read_experiments(sure, asked, results, verdicts, self.problems)

    def _processing(self, known: Schema) -> tuple[Processing, ...]:
        fields = {path: each for kind in known.kinds for path, each in known.fields(kind).items()}
        return read_processing(self.documents.get("processing", ()), fields, known.kinds, self.problems)

    def _wording(
        self, rules: Sequence[Rule], policies: Mapping[str, _Judging], known: Schema, lists: ListSet
    ) -> Mapping[str, PolicyWording]:
        by_name = {policy.name: policy for policy, *_ in policies.values()}
        derived = {rule.derive.signal for each in by_name.values() for rule in each.pack.rules if rule.derive}
        signals = {name for rule in rules for name in (rule.finding.signal, rule.if_unknown)} - {"quiet", "fire"}
        judged = Judged(
            verdicts={name: policy.verdicts for name, policy in by_name.items()},
            actions={name: policy.measures for name, policy in by_name.items()},
            signals={*signals, *derived, *OWN_SIGNALS, *EVENTS, *self._unsure()},
            fields={path for kind in known.kinds for path in known.fields(kind)},
            inner={*signals, *derived, *lists.lists, *(rule.id for rule in rules)},
        )
        # Of a policy that could not be read nobody knows the verdicts: that is told of the policy.
        documents = self.documents.get("notices", ()) if not self._policies_lost(by_name) else ()
        return read_wording(documents, judged, self.problems)

    def _policies_lost(self, known: Collection[str]) -> bool:
        """Whether some file of a policy is not among those that were read."""
        named = {str(document.data.get("policy")) for document in self.documents.get("policy", ())}
        return self._may_be_unread("policy", "policies") or not named <= set(known)

    def _detectors(self, known: Schema, lists: ListSet, groups: Mapping[str, Group]) -> tuple[Detector, ...]:
        reader = DetectorReader(self._vocabularies(known, lists, groups), known.kinds, self.problems)
        return reader.detectors(self.documents.get("anomaly", ()))

    def _watched(self) -> frozenset[str]:
        """The kinds that a detector is declared for, be it right or wrong otherwise."""
        data = [document.data for document in self.documents.get("anomaly", ())]
        return frozenset(str(each["for"]) for each in data if isinstance(each.get("for"), str))

    def _vocabularies(
        self, known: Schema, lists: ListSet, groups: Mapping[str, Group], watched: Collection[str] = ()
    ) -> Callable[[tuple[str, ...]], Vocabulary]:
        """What conditions for some kinds may name; for `watched` kinds that is the anomaly, too."""
        kinds = {kind: known.fields(kind) for kind in known.kinds}
        unsure = self._may_be_unread("list", "rules") or (self.documents.get("list") and not lists.lists)
        names = None if unsure else lists.names()

        def vocabulary(wanted: tuple[str, ...]) -> Vocabulary:
            fields = _common([kinds[kind] for kind in wanted])
            if wanted and all(kind in watched for kind in wanted):
                fields[ANOMALY] = FIELD
            return Vocabulary(fields, kinds, wanted, lists=names, groups=groups, unread=self.lost)

        return vocabulary

    def _once_each(self) -> None:
        """Every rule has its own id; those that have other problems count."""
        seen: dict[str, Document] = {}
        for document in self.documents.get("pack", ()):
            rules = document.data.get("rules")
            for index, rule in enumerate(rules if isinstance(rules, list) else ()):
                id = rule.get("id") if isinstance(rule, dict) else None
                if isinstance(id, str) and id in seen:
                    what, hint = f"the rule id '{id}' is taken", f"it is in {seen[id].file}"
                    self.problems.append(document.problem(("rules", index, "id"), what, hint))
                elif isinstance(id, str):
                    seen[id] = document

    def _own_signals(self) -> None:
        """What Arbiter itself raises says how an event was judged: no rule and no policy may say it in its place."""
        for kind, keys in (("pack", (("signal",), ("if_unknown",))), ("policy", (("derive", "signal"),))):
            for document in self.documents.get(kind, ()):
                rules = document.data.get("rules")
                for index, rule in enumerate(rules if isinstance(rules, list) else ()):
                    for key in keys:
                        name = _at(rule, key)
                        if isinstance(name, str) and name in OWN_SIGNALS:
                            what = f"Arbiter itself raises the signal '{name}'"
                            loc = ("rules", index, *key)
                            self.problems.append(document.problem(loc, what, "choose another name"))

    def _policies(
        self, rules: Sequence[Rule], known: Schema, vocabularies: Callable[[tuple[str, ...]], Vocabulary]
    ) -> dict[str, _Judging]:
        signals = {signal: frozenset(known.kinds) for signal in OWN_SIGNALS}
        for rule in rules:
            for signal in (rule.finding.signal, rule.if_unknown):
                signals[signal] = signals.get(signal, frozenset()).union(rule.kinds)
        found: dict[str, _Judging] = {}
        taken: dict[str, str] = {}
        for each in self._fits("policy"):
            if each.pack is None:
                continue
            kinds = self._judged(each.document, each.pack, known, taken)
            taken |= dict.fromkeys(kinds, each.pack.policy)
            degraded = self._degraded_tests(each.document, each.pack, known, kinds)
            modes = self._mode_tests(each.pack, known, kinds)
            limits = self._limits(each.pack, kinds, vocabularies)
            policy = self._policy(each, kinds, signals | dict.fromkeys(self._unsure(), frozenset(known.kinds)))
            if policy is not None:
                self.limits[policy.name] = limits
                found |= dict.fromkeys(kinds, _Judging(policy, degraded, modes))
                mine = [name for name, where in signals.items() if any(kind in where for kind in kinds)]
                mine += sorted(self._unsure())
                if kinds:
                    promises = read_promises(each.pack, each.document, vocabularies(kinds), mine, self.problems)
                    self.promises[policy.name] = promises
        return found

    def _policy(
        self, found: Fit[PolicyPack], kinds: Sequence[str], signals: Mapping[str, Collection[str]]
    ) -> Policy | None:
        """The policy of a file that judges `kinds`; `signals` are found for which kinds. Of a file that fits in part,
        only its names and what brings them are looked at."""
        pack, document = found.pack, found.document
        assert pack is not None
        if len(kinds) == len(pack.for_):
            self.problems.extend(found.beyond(placed(apart(pack, kinds, signals), pack, document)))
        if found.problems:
            self.problems.extend(found.beyond(placed(name_problems(pack, signals), pack, document)))
            return None
        try:
            return Policy(pack, signals, document)
        except PackError as error:
            self.problems.extend(error.problems)
            return None

    def _judged(self, document: Document, pack: PolicyPack, known: Schema, taken: Mapping[str, str]) -> tuple[str, ...]:
        """The kinds that this policy judges; each kind has one policy at most."""
        kinds = []
        for index, kind in enumerate(pack.for_):
            if kind not in known.kinds:
                hint = did_you_mean(kind, known.kinds) or "one of " + ", ".join(known.kinds)
                self.problems.append(document.problem(("for", index), f"there is no kind of event '{kind}'", hint))
            elif kind in taken:
                what = f"{with_article(kind)} is judged by the policy '{taken[kind]}' already"
                self.problems.append(document.problem(("for", index), what, "one kind has one policy"))
            else:
                kinds.append(str(kind))
        return tuple(kinds)

    def _degraded_tests(
        self, document: Document, pack: PolicyPack, known: Schema, kinds: tuple[str, ...]
    ) -> dict[str, Expression]:
        """The `if` of each degraded cause. It sees the event alone: windows may be what is missing."""
        for cause in pack.degraded:
            if cause not in DEGRADED:
                hint = did_you_mean(cause, DEGRADED) or "one of " + ", ".join(DEGRADED)
                loc = ("degraded", cause)
                self.problems.append(document.problem(loc, f"there is no cause '{cause}'", hint, key=True))
        asked = {str(cause): clause.if_ for cause, clause in pack.degraded.items() if clause.if_ is not None}
        return self._of_the_event(asked, known, kinds, "windows may be what does not work here")

    def _mode_tests(self, pack: PolicyPack, known: Schema, kinds: tuple[str, ...]) -> dict[str, Expression]:
        """The `if` of each mode. It sees the event alone, too: a mode is for when other things fail."""
        asked = {str(name): mode.if_ for name, mode in pack.modes.items() if mode.if_ is not None}
        return self._of_the_event(asked, known, kinds, "a mode asks about the event alone: a window may be empty")

    def _of_the_event(
        self, asked: Mapping[str, Text], known: Schema, kinds: tuple[str, ...], no_windows: str
    ) -> dict[str, Expression]:
        """Conditions on what all these kinds of event have, without windows and lists."""
        tests: dict[str, Expression] = {}
        fields = _common([known.fields(kind) for kind in kinds])
        vocabulary = Vocabulary(fields=fields, kind=kinds, lists={}, unread=self.lost)
        for name, text in asked.items() if kinds else ():
            try:
                condition = read_expression(text, vocabulary, BOOL)
            except PackError as error:
                self.problems.extend(error.problems)
                continue
            if condition.windows:
                self.problems.append(text.problem(0, no_windows, "ask about the event itself"))
            else:
                tests[name] = condition
        return tests

    def _limits(
        self, pack: PolicyPack, kinds: Sequence[str], vocabularies: Callable[[tuple[str, ...]], Vocabulary]
    ) -> dict[str, tuple[frozenset[str], Expression]]:
        """The conditions of limits and the kinds of event that they are about, by the names that records have their
        answers by. Lists and models may be what is missing, so they ask about the event and windows alone."""
        found: dict[str, tuple[frozenset[str], Expression]] = {}
        for limit in (limit for clause in pack.terms for limit in clause.limits):
            about = tuple(kind for kind in kinds if not limit.for_ or kind in limit.for_)
            if not about:
                continue  # The kinds are wrong, which is told.
            words = vocabularies(about)
            words = replace(words, lists={}, fields={k: v for k, v in words.fields.items() if k != ANOMALY})
            try:
                found[limit_name(limit.id)] = frozenset(about), read_expression(limit.if_, words, BOOL)
            except PackError as error:
                self.problems.extend(error.problems)
        return found

    # Compiling

    def _kind(
        self,
        kind: str,
        rules: Sequence[Rule],
        windows: Sequence[Window],
        judged: _Judging | None,
        fields: Schema,
        detector: Detector | None,
        law: LawTable,
    ) -> KindBook:
        mine = tuple(rule for rule in rules if kind in rule.kinds and rule.mode != "off")
        watched = [index for index, rule in enumerate(mine) if rule.watched]
        policy, degraded, modes = judged or (None, {}, {})
        written = self.limits.get(policy.name, {}) if policy is not None else {}
        limits = {name: limit for name, (about, limit) in written.items() if kind in about}
        limiting = {window for limit in limits.values() for window in limit.windows}
        read = {window for rule in mine for window in rule.windows} | set(detector.windows if detector else ())
        read |= limiting
        known = fields.fields(kind)
        matcher = compile_rules([rule.condition for rule in mine], windows, watch_unknown=watched)
        return KindBook(
            kind=kind,
            rules=mine,
            matcher=matcher,
            slots=tuple(index for index, window in enumerate(windows) if window in read),
            identities=frozenset(
                index
                for index, window in enumerate(windows)
                if window in read and any(known[path].entity for path in window.by if path in known)
            ),
            lists=tuple(sorted({name for rule in mine for name in rule.lists})),
            policy=policy,
            degraded_tests={cause: value_of(condition) for cause, condition in degraded.items()},
            degraded_ifs=degraded,
            mode_tests={name: value_of(condition) for name, condition in modes.items()},
            limits={name: value_of(limit, windows) for name, limit in limits.items()},
            limit_slots=frozenset(map(windows.index, limiting)),
            messages={
                rule.id: {name: (value_of(shown, windows), shown.type) for name, shown in rule.shown.items()}
                for rule in mine
            },
            questions=sha256(canonical([atom.text for atom in matcher.atoms])).hexdigest(),
            detector=detector,
            row=detector.reader(windows) if detector else None,
            reads={rule.id: frozenset(map(windows.index, rule.windows)) for rule in mine},
            detector_slots=frozenset(map(windows.index, detector.windows)) if detector else frozenset(),
            law=law,
        )


def _unknown_tiers(document: Document, ladders: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    """Terms of a policy for a profile that is not there, or for a tier that it does not have."""
    clauses = document.data.get("terms")
    for index, clause in enumerate(clauses if isinstance(clauses, list) else ()):
        name = clause.get("profile", MERCHANT) if isinstance(clause, dict) else MERCHANT
        if name == MERCHANT or not isinstance(name, str):
            continue
        if name not in ladders:
            hint = did_you_mean(name, ladders) or "add a file with profile: " + name
            yield document.problem(("terms", index, "profile"), f"there is no profile '{name}'", hint)
            continue
        named = clause.get("tier")
        for at, tier in enumerate(named if isinstance(named, list) else ()):
            if isinstance(tier, str) and tier not in ladders[name]:
                hint = did_you_mean(tier, ladders[name]) or "one of " + ", ".join(ladders[name])
                yield document.problem(("terms", index, "tier", at), f"'{name}' has no tier '{tier}'", hint)


def _at(data: Any, keys: Loc) -> Any:
    """The value under `keys`, or None."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _common(tables: Sequence[Mapping[str, FieldDef]]) -> dict[str, FieldDef]:
    """The fields that all of these kinds have: a rule for several kinds may name no other."""
    first, *rest = tables or [{}]
    return {path: each for path, each in first.items() if all(path in table for table in rest)}
