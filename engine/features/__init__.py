"""Windows over past events, online: what `count(last 10m by card.ref)` is for the event at hand.

    features = Features(rulebook.windows, MemoryStore())
    features.restore(ledger_facts)              # at start; until then every window is unknown, with the gap not_warm
    reading = features.observe(facts)           # read and add, in one step
    reading.values[3]                           # the value of windows[3], None when unknown

A window at an event with time t and arrival a holds the events of the same tenant and key whose kind is in
`window.kinds`, for which `where` is true, and for which t - length <= their time and (their time, their arrival) is
before (t, a). Ties cannot hide from each other, an event never sees itself, and a late one lands where it belongs.
`including this` adds the event itself, if its own kind and `where` allow.

    count                  how many; 0 for none
    sum                    exact; events without the argument are passed over. 0 for none; an empty sum of money is 0
                           in the currency of this event's own argument, unknown if it has none. Several currencies
                           in one window: unknown (write `amount in CNY`)
    avg                    the sum by the number of events that have the argument, half-even to six places
    distinct               how many different values; events without one are passed over
    min, max               the smallest and the largest value
    median, quantile       the smallest value that at least such a share of the values do not pass
    stddev                 of a sample (n - 1), half-even to six places; unknown for fewer than two
    percentile             100 x the share of the values below this event's own one, half-even to six places
    share                  the part of the events for which a condition is true; unknown counts as not
    streak                 how many of the newest events in a row it is true for
    sequence               whether events of their own, one after the other, are the steps of a pattern
    absence                whether an event of step one is long enough ago, with none of step two soon after it
    first_seen, last_seen  the time of the first and the last event; unknown for none

An approximate window holds the events since the last whole 1/64 of its length before t - length, up to one 64th too
many, and of a late event's own 64th also those after it that were added before. Of their values sketches are kept
(engine.stores.sketches): `distinct` has a standard error of 1.63 %; `min`, `max`, `median` and `quantile` are less than
1/128 off, and `percentile` is that of a value less than 1/128 off; the others are exact for the events held.

A window by a group holds the events of all accounts that are linked with this event's own, as of this event, whose own
identifiers count. Three functions ask about the links alone:

    group_size             how many accounts, the event's own among them
    group_links            how many identifiers two or more of them share
    linked                 whether two accounts of the event are so many shared identifiers apart, at most

Why a value is unknown is said by a gap beside it (`GAPS`).
"""

from engine.features.facts import GAPS, STORE_UNAVAILABLE, THIN_IDENTITY, Convert, Facts, Reading
from engine.features.windows import Features

__all__ = ["GAPS", "STORE_UNAVAILABLE", "THIN_IDENTITY", "Convert", "Facts", "Features", "Reading"]
