"""What can be said of policies beside their rules: clauses that never hold, exceptions that never matter, thresholds
that no points reach, findings that nobody asks for.

Each is asked for every kind of event that the policy judges, with all rules that are not off: those in the shadow are
on their way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import z3

from engine.decide import notice
from engine.packs import Document, Loc
from engine.policy import Policy
from engine.reasoning.encode import Encoding
from engine.reasoning.judgement import Circumstances, Find, Judgement, Weighed
from engine.reasoning.remark import Remark, undecided
from engine.reasoning.solver import Questions
from engine.reasoning.terms import NO, Term, both, opposite
from engine.reasoning.witness import ground_of
from engine.reasoning.written import listed
from engine.rulebook import DEGRADED, OWN_SIGNALS, KindBook, Rulebook
from engine.rules import Rule
from engine.verdict import Finding


def about_policies(rulebook: Rulebook, documents: Iterable[Document]) -> Iterator[Remark]:
    """What is wrong with the policies of some files."""
    for document in documents:
        name = document.data.get("policy") if isinstance(document.data, dict) else None
        policy = rulebook.policies.get(name) if isinstance(name, str) else None
        if policy is not None:
            cases = [_Kind(rulebook, policy, rulebook.kinds[kind]) for kind in policy.pack.for_]
            yield from _clauses(policy, document, cases)
            yield from _thresholds(policy, document, cases)
            yield from _derived(policy, document)


class _Kind:
    """A policy over all that the rules of one kind of event can find."""

    def __init__(self, rulebook: Rulebook, policy: Policy, kind: KindBook) -> None:
        encoding = Encoding(ground_of(rulebook, (kind.kind,)))
        finds = [find for rule in kind.rules for find in _of_rule(rule, encoding)]
        finds += [Find(notice(signal), z3.Bool(f"{signal} is raised")) for signal in sorted(OWN_SIGNALS)]
        so = Circumstances(
            tier=z3.Int("the tier"),
            causes={cause: z3.Bool(f"{cause} is raised") for cause in DEGRADED},
            tests={cause: encoding.value(each.tree).true for cause, each in kind.degraded_ifs.items()},
            odd=z3.Bool("the anomaly counts") if policy.pack.score.anomaly else NO,
            tripped={},
            queue_full=NO,
            passed=NO,
        )
        self.weighed: Weighed = Judgement(policy, so).weigh(finds)
        self.questions = Questions()
        self.facts: list[Term] = list(encoding.facts())
        self.most_points = _sum_of_points(finds)


def _of_rule(rule: Rule, encoding: Encoding) -> Iterator[Find]:
    value = encoding.value(rule.condition.tree)
    yield Find(rule.finding, value.true)
    otherwise = rule.when_unknown()
    if otherwise is not None:
        yield Find(otherwise, opposite(value.known))


def _sum_of_points(finds: Sequence[Find]) -> int:
    """The most points that findings can come to, if all of them were found at once."""
    groups: dict[str, int] = {}
    for find in finds:
        if find.finding.group:
            groups[find.finding.group] = max(groups.get(find.finding.group, 0), find.finding.points)
    return sum(groups.values()) + sum(find.finding.points for find in finds if not find.finding.group)


# Clauses


def _clauses(policy: Policy, document: Document, cases: Sequence[_Kind]) -> Iterator[Remark]:
    """Rules of the policy that never hold, and `at_most` that something severer always overrules."""
    for index, rule in enumerate(policy.pack.rules):
        loc: Loc = ("rules", index)
        never = _nowhere(cases, [case.weighed.clauses[index] for case in cases]) if len(rule.when) > 1 else False
        if never is None:
            yield undecided(document, (*loc, "when"), f"'{rule.id}' can hold")
        elif never:
            what = f"the rule '{rule.id}' never holds: no event can give {listed(rule.when)} together"
            hint = "the rules that find them exclude each other" + (", or 'unless' does" if rule.unless else "")
            yield Remark(document.problem((*loc, "when"), what, hint), grave=True)
        elif rule.at_most is not None:
            yield from _eased(policy, document, cases, index)


def _eased(policy: Policy, document: Document, cases: Sequence[_Kind], index: int) -> Iterator[Remark]:
    """An `at_most` that lowers no verdict: nothing severe enough is found beside it, or something always wins."""
    rule = policy.pack.rules[index]
    bound = policy.verdicts.index(str(rule.at_most))
    eased = [both(case.weighed.eased[index], case.weighed.rank <= bound) for case in cases]
    never = _nowhere(cases, eased)
    if never is None:
        yield undecided(document, ("rules", index, "at_most"), f"'{rule.id}' ever lowers a verdict")
    elif never:
        what = (
            f"'{rule.id}' conflicts with the rest: whenever it holds, the verdict is '{rule.at_most}' or milder "
            "already, or something severer wins"
        )
        hint = "take the exception into the 'unless' of what wins, or take it out"
        yield Remark(document.problem(("rules", index, "at_most"), what, hint), grave=True)


def _nowhere(cases: Sequence[_Kind], claims: Sequence[Term]) -> bool | None:
    """Whether a claim holds of no event of any kind; None where that was not decided."""
    undecided = False
    for case, claim in zip(cases, claims, strict=True):
        if claim is NO:
            continue
        with case.questions.given(case.facts):
            answer = case.questions.ask(claim)
        if answer.possible:
            return False
        undecided = undecided or answer.undecided
    return None if undecided else True


# Thresholds


def _thresholds(policy: Policy, document: Document, cases: Sequence[_Kind]) -> Iterator[Remark]:
    """Scores at which a verdict is reached and which no findings come to."""
    anomaly = policy.pack.score.anomaly.points if policy.pack.score.anomaly else 0
    most = max((case.most_points for case in cases), default=0) + anomaly
    reached = 0
    rows = [(score, tier, verdict) for tier, each in policy.pack.tiers.items() for verdict, score in each.items()]
    unreached: set[int] = set()
    for score in sorted({score for score, _, _ in rows}, reverse=True):
        if score <= reached:
            break
        never = score > most or _nowhere(cases, [case.weighed.score >= score for case in cases])
        if never is None:
            yield undecided(document, ("tiers",), f"a score of {score} can be reached")
        elif never:
            unreached.add(score)
        else:
            reached = score
    for score, tier, verdict in rows:
        if score in unreached:
            kinds = listed(policy.pack.for_)
            what = f"no points reach '{verdict}' at {score}: the rules for {kinds} never give as many"
            hint = f"all of them together give {most}" if score > most else "what gives so many points excludes itself"
            yield Remark(document.problem(("tiers", tier, verdict), what, hint), grave=False)


# Findings that nobody asks for


def _derived(policy: Policy, document: Document) -> Iterator[Remark]:
    """Signals that a policy derives and asks nowhere."""
    for index, rule in enumerate(policy.pack.rules):
        if rule.derive and not policy.heeds(Finding(rule.id, rule.derive.signal, rule.derive.severity)):
            what = f"nobody uses the signal '{rule.derive.signal}' that '{rule.id}' derives"
            hint = "ask for it in a rule, a mandatory clause or an action, or take it out"
            yield Remark(document.problem(("rules", index, "derive", "signal"), what, hint), grave=False)


def about_signals(rulebook: Rulebook, rules: Iterable[Rule]) -> Iterator[Remark]:
    """Rules whose finding changes nothing: no points, and no policy that judges their events asks for the signal."""
    if not rulebook.policies:
        return  # rules without any policy are on their way to one
    for rule in rules:
        judged = [book.policy for kind in rule.kinds if (book := rulebook.kinds[kind]).policy is not None]
        if rule.mode == "off":
            continue
        if not judged:
            what = f"rule '{rule.id}' changes nothing: no policy judges {listed(rule.kinds)}"
            yield Remark(rule.document.problem((*rule.loc, "id"), what, "write a policy for them"), grave=False)
            continue
        otherwise = rule.when_unknown()
        for key, finding in (("signal", rule.finding), ("if_unknown", otherwise)):
            if finding is not None and not any(policy.heeds(finding) for policy in judged):
                what = f"nobody uses the signal '{finding.signal}' of rule '{rule.id}', and it gives no points"
                hint = f"ask for it in {listed([policy.name for policy in dict.fromkeys(judged)])}, or give it points"
                yield Remark(rule.document.problem((*rule.loc, key), what, hint), grave=False)
