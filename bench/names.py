"""What a list of names finds and what it finds wrongly, on real names, and how fast.

    python -m bench.names [--check]

The names are OFAC's Specially Designated Nationals with their aliases, four fifths of the listings on the list. Asked
are variants of names on it (bench._variants), and of real aliases one that was left out of the list; and names of
others: of the fifth of the listings that is not on it, with their relatives and sister companies; people put together
from a given name of one and a family name of another; and ordinary names of ten countries (Faker). A variant counts as
found when an entry of its own listing matches; another's name as found wrongly when any entry does. Listings and names
are halved by a seed: the threshold is the lowest one that finds at most 1 of 500 ordinary names wrongly in the first
half, all figures are of the second. Intervals are Wilson's, 95 %. Needs ../shared/data.

Speed: the time of one question through the index beside comparing with each entry by the same likeness, in turns, on
this list and on one of 100,000 names; both must find the same.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter

from faker import Faker

from bench._variants import KINDS, ordered, person
from engine.lists.files import LOWEST_THRESHOLD, THRESHOLD
from engine.lists.names import likeness, read_name
from engine.lists.nearness import Index, index
from engine.lists.published import Download, download, read_published
from engine.proportions import wilson

SHARED = Path(__file__).parent.parent.parent / "shared/data/lists"
FILES = SHARED / "ofac_sdn.csv.gz", SHARED / "ofac_alt.csv.gz"
THRESHOLDS = 0.7, 0.75, 0.8, 0.825, 0.85, 0.875, 0.9, 0.95
MOST_ORDINARY = 1 / 500
"""Of ordinary names found wrongly, by which the threshold is chosen."""
ASKED = 500
"""Variants of each kind and names of others, in each half."""
LOCALES = "en_US zh_CN de_DE fr_FR ru_RU ar_SA es_ES hi_IN tr_TR it_IT".split()
OTHERS = "ordinary", "put together", "other listings"
RECALL, PRECISION, RATIO = 0.9, 0.99, 0.005
"""Bars: recall over the kinds made here; precision beside as many ordinary names; time beside comparing with each."""
SEED = 20261129
TIMED, COMPARED = 60, 5
"""Questions of which each is timed through the index, and of which comparing with each entry is timed too."""
MANY = 100_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A name that was asked for: what kind it is, and the best likeness of an entry of its listing and of any."""

    kind: str
    own: float
    best: float


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many."""

    hits: int
    of: int

    def __str__(self) -> str:
        share, low, high = wilson(self.hits, self.of) or (0.0, 0.0, 1.0)
        return f"{share:6.3f}  [{low:.3f}, {high:.3f}]  of {self.of:,}"


def main() -> int:
    """Print the tables; with --check, 1 when a figure is below its bar. Says so where the data is not here."""
    if not all(path.is_file() for path in FILES):
        print("bench.names needs ofac_sdn.csv.gz and ofac_alt.csv.gz in ../shared/data/lists, not here: not measured")
        return 0
    listings = listings_of([download(path) for path in FILES])
    halves, entries, owners = questions(listings)
    found = index(entries)
    chosen, reported = ([asked(found, owners, *each) for each in half] for half in halves)
    threshold = choose(chosen)
    good = report(reported, threshold, len(entries))
    names = [name for _, name, _ in halves[1][:: len(halves[1]) // TIMED]]
    good &= speed(found, names, len(entries))
    good &= speed(index(many(entries)), names, MANY)
    return int(not good and "--check" in sys.argv[1:])


def listings_of(files: Sequence[Download]) -> dict[str, list[str]]:
    """Number of a listing → its name and its aliases."""
    listings: dict[str, list[str]] = defaultdict(list)
    for row in read_published("ofac-sdn", files).rows:
        listings[row.reason.split()[1]].append(row.value)
    return listings


Question = tuple[str, str, str]
"""Kind, name, and the listing whose name it is, '' for nobody's."""


def questions(
    listings: dict[str, list[str]],
) -> tuple[tuple[list[Question], list[Question]], list[str], dict[str, set[str]]]:
    """The questions of both halves, the entries of the list, and entry → listings."""
    random = Random(SEED)
    numbers = sorted(listings)
    random.shuffle(numbers)
    off, on = numbers[: len(numbers) // 5], numbers[len(numbers) // 5 :]
    halves: tuple[list[Question], list[Question]] = ([], [])
    held: set[str] = set()
    for half, mine in enumerate((on[::2], on[1::2])):
        for number in [each for each in mine if len(listings[each]) > 2][:ASKED]:
            alias = random.choice(listings[number][1:])
            if listings[number].count(alias) == 1:
                held.add(alias)
                halves[half].append(("an alias", alias, number))
        for kind, vary in KINDS.items():
            halves[half].extend(_varied(kind, vary, listings, random.sample(mine, len(mine)), random))
    entries = list(dict.fromkeys(name for number in on for name in listings[number] if name not in held))
    owners: dict[str, set[str]] = defaultdict(set)
    for number in on:
        for name in listings[number]:
            owners[name].add(number)
    for half, names in enumerate(_others(listings, off, random)):
        halves[half].extend(names)
    return halves, entries, owners


def _varied(
    kind: str,
    vary: Callable[[Random, str], str | None],
    listings: dict[str, list[str]],
    mine: Iterable[str],
    random: Random,
) -> list[Question]:
    made: list[Question] = []
    for number in mine:
        name = listings[number][0]
        variant = vary(random, name)
        # One word is no more than itself; Russian letters stand for Russian names.
        if (
            variant
            and len(name.split()) > 1
            and (kind != "cyrillic" or name.lower().endswith(("vich", "ovna", "evna")))
        ):
            made.append((kind, variant, number))
        if len(made) == ASKED:
            break
    return made


def _others(
    listings: dict[str, list[str]], off: Sequence[str], random: Random
) -> tuple[list[Question], list[Question]]:
    people = [found for each in listings.values() if (found := person(each[0]))]
    fake = Faker(LOCALES)
    fake.seed_instance(SEED)
    halves: tuple[list[Question], list[Question]] = ([], [])
    for half, mine in enumerate((off[::2], off[1::2])):
        ours = halves[half]
        ours += [("other listings", ordered(listings[number][0]), "") for number in mine]
        for _ in range(ASKED * 10):
            ours.append(("ordinary", fake.name(), ""))
        for _ in range(ASKED):
            (family, _), (_, given) = random.sample(people, 2)
            ours.append(("put together", f"{given} {family}", ""))
    return halves


def asked(found: Index, owners: dict[str, set[str]], kind: str, name: str, listing: str) -> Asked:
    """Ask for one name at the lowest threshold."""
    matches = list(found.matches(read_name(name), float(LOWEST_THRESHOLD)))
    own = max((score for entry, score in matches if listing in owners[entry]), default=0.0)
    return Asked(kind, own, max((score for _, score in matches), default=0.0))


def rates(asked: Iterable[Asked], threshold: float) -> dict[str, Share]:
    """Kind → variants found, or names of others found wrongly."""
    counts: dict[str, list[bool]] = defaultdict(list)
    for each in asked:
        counts[each.kind].append((each.best if each.kind in OTHERS else each.own) >= threshold)
    return {kind: Share(sum(hits), len(hits)) for kind, hits in counts.items()}


def pooled(shares: dict[str, Share]) -> Share:
    """All the variants that were made here."""
    return Share(sum(shares[kind].hits for kind in KINDS), sum(shares[kind].of for kind in KINDS))


def choose(first: Sequence[Asked]) -> float:
    """The lowest threshold that leaves ordinary people alone, on the first half."""
    print("first half: threshold, recall of variants, found wrongly of " + ", of ".join(OTHERS))
    chosen = THRESHOLDS[-1]
    for threshold in reversed(THRESHOLDS):
        shares = rates(first, threshold)
        wrongly = [shares[kind].hits / shares[kind].of for kind in OTHERS]
        if wrongly[0] <= MOST_ORDINARY:
            chosen = threshold
        recall = pooled(shares)
        print(f"  {threshold:5}  {recall.hits / recall.of:.3f}  " + "  ".join(f"{each:.4f}" for each in wrongly))
    print(f"chosen: {chosen}; a list that says none has {THRESHOLD}\n")
    return chosen


def report(second: Sequence[Asked], threshold: float, entries: int) -> bool:
    """The figures of the second half at the default threshold."""
    shares = rates(second, THRESHOLD)
    print(f"second half at {THRESHOLD}, {entries:,} entries: recall of")
    for kind in (*KINDS, "an alias"):
        print(f"  {kind:16} {shares[kind]}")
    recall = pooled(shares)
    print(f"  {'all but aliases':16} {recall}\nfound wrongly of")
    for kind in OTHERS:
        print(f"  {kind:16} {shares[kind]}")
    print("precision where as many variants as such names are asked")
    precision = 0.0
    for kind in reversed(OTHERS):
        right, wrong = recall.hits / recall.of, shares[kind].hits / shares[kind].of
        precision = right / (right + wrong)
        print(f"  {kind:16} {precision:.3f}")
    print(f"bars: recall {RECALL}, precision beside ordinary names {PRECISION}, threshold chosen at most the default")
    return recall.hits / recall.of >= RECALL and precision >= PRECISION and threshold <= THRESHOLD


def speed(found: Index, names: Sequence[str], entries: int) -> bool:
    """Time of one question through the index and by comparing with each."""
    through, each = [], []
    for at, name in enumerate(names):
        times = []
        for _ in range(3):
            start = perf_counter()
            got = dict(found.matches(read_name(name), THRESHOLD))
            times.append(perf_counter() - start)
        through.append(min(times))
        if at % (TIMED // COMPARED) == 0:
            start = perf_counter()
            asked_for = read_name(name)
            scores = {
                entry: likeness(asked_for, other) for entry, other in zip(found.entries, found.names, strict=True)
            }
            each.append(perf_counter() - start)
            assert got == {entry: score for entry, score in scores.items() if score >= THRESHOLD}, name
    fast, slow = median(through), median(each)
    print(
        f"{entries:,} names: {fast * 1e6:,.0f} µs a question, comparing with each {slow * 1e3:,.0f} ms: "
        f"ratio {fast / slow:.5f}"
    )
    return fast / slow <= RATIO


def many(entries: Sequence[str]) -> list[str]:
    """100,000 names made of the words of these."""
    random = Random(2)
    words = [word for entry in entries for word in entry.replace(",", "").split()]
    made = [" ".join(random.sample(words, random.choice((2, 3, 3, 4)))) for _ in range(MANY - len(entries))]
    return [*entries, *made]


if __name__ == "__main__":
    raise SystemExit(main())
