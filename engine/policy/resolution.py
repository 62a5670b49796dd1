"""What the end of a challenge or a review means by the policy: a new verdict, or to judge again."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from engine.errors import Conflict, with_article
from engine.policy.checks import RESCORE
from engine.policy.judge import Policy
from engine.verdict import Step

Asked = Literal["challenge", "review"]
Result = Literal["passed", "failed", "abandoned", "approved", "rejected", "late"]


class Resolution(NamedTuple):
    """How what was asked came to its end. `late`: nothing came in time."""

    asked: Asked
    result: Result


class Ruling(NamedTuple):
    """The verdict that follows, with the step that says why.

    `verdict` is None when the event is to be judged again with `Situation.challenge_passed`; the step's `after` is then
    the word `rescore`.
    """

    verdict: str | None
    step: Step


def resolve(policy: Policy, verdict: str, resolution: Resolution) -> Ruling:
    """What `resolution` means for an event whose verdict so far is `verdict`.

    A challenge ends as passed, failed, abandoned or late (which counts as abandoned); a review as approved, rejected or
    late. Raises Conflict when that is not what the verdict waits for; ValueError for a result that does not fit.
    """
    asked, result = resolution
    if asked not in get_args(Asked) or result not in _ends(policy, asked):
        raise ValueError(f"{with_article(asked)} does not end as '{result}'")
    if asked != verdict:
        raise Conflict(f"the verdict waits for no {asked}")
    after = _ends(policy, asked)[result]
    return Ruling(None if after == RESCORE else after, Step(asked, result, verdict, after))


def _ends(policy: Policy, asked: Asked) -> dict[str, str]:
    challenge, review = policy.pack.challenge, policy.pack.review
    if asked == "challenge" and challenge:
        ends = {"passed": challenge.passed, "failed": challenge.failed, "abandoned": challenge.abandoned}
        return ends | {"late": challenge.abandoned}
    if asked == "review" and review:
        approved, rejected = review.approved or policy.verdicts[0], review.rejected or policy.verdicts[-1]
        return {"approved": approved, "rejected": rejected, "late": review.if_late}
    raise Conflict(f"the policy '{policy.name}' knows no {asked}")
