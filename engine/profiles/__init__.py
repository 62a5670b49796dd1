"""Profiles: in which tier somebody stands, by what happened, and how to come into a better one.

    profile: merchant                    # whose tier: merchants are judged by theirs in every policy
    about: …
    owner: merchant-risk
    subject: merchant.id                 # the field of events that names them
    moments: {events: [merchant, complaint, outcome], wait: 1h}
    let:
      sales: count(transaction last 90d by merchant.id)
      complaints: count(complaint last 90d by merchant.id)
    factors:
      - id: complaints
        value: complaints / sales
        scale: [{from: 1%, points: 15}, {from: 3%, points: 40}]
        because: {en: "{complaints} complaints on {sales} orders in 90 days", zh: …}
        improve: {en: …, zh: …}
    start: standard
    tiers:                               # best first
      - {tier: trusted, stay: 30d, review: 180d}
      - {tier: standard, enter: 10, leave: 5, stay: 30d, review: 90d}
      - {tier: watched, enter: 40, leave: 25, stay: 30d, review: 30d}

An assessment is a function of the profile, the values of its windows, the time, and where the subject stood before:
`assess`. Its record holds all of them, so `recomputed` gives the same again.
"""

from engine.policy import MERCHANT
from engine.profiles.assessment import Assessment, Weighed, assess, recomputed
from engine.profiles.ladder import Ladder, Rung, Standing
from engine.profiles.pack import ProfilePack
from engine.profiles.profile import Factor, Profile, ProfileReader

__all__ = [
    "MERCHANT",
    "Assessment",
    "Factor",
    "Ladder",
    "Profile",
    "ProfilePack",
    "ProfileReader",
    "Rung",
    "Standing",
    "Weighed",
    "assess",
    "recomputed",
]
