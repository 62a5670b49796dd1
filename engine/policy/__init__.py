"""The policy: from findings to a verdict. The one door of the package.

pack        the policy file as models
checks      what must fit together across it
chaining    signals that follow from signals; the only home of durable-rules
judge       findings in a situation → verdict, actions, steps
resolution  what the end of a challenge or a review means
invariants  what is so of every event
running     breaker and review capacity
terms       what tiers drive beside scores
"""

from engine.policy.chaining import Chain, Chained, Clause
from engine.policy.checks import LONGEST_MODE, OFF, Fault, apart, name_problems, problems
from engine.policy.invariants import Promise, read_promises
from engine.policy.judge import Policy, Situation, placed, unforced
from engine.policy.pack import PolicyPack, Rate
from engine.policy.resolution import Resolution, Ruling, resolve
from engine.policy.running import Breaker, Capacity
from engine.policy.terms import MERCHANT, limit_name

__all__ = [
    "LONGEST_MODE",
    "MERCHANT",
    "OFF",
    "Breaker",
    "Capacity",
    "Chain",
    "Chained",
    "Clause",
    "Fault",
    "Policy",
    "PolicyPack",
    "Promise",
    "Rate",
    "Resolution",
    "Ruling",
    "Situation",
    "apart",
    "limit_name",
    "name_problems",
    "placed",
    "problems",
    "read_promises",
    "resolve",
    "unforced",
]
