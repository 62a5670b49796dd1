"""How fast phrases are found through their disguises, and what the list of superlatives reports of real titles.

    python -m bench.words [--check]

Speed: listings a second on one core against a list of 5,000 phrases with 500 exceptions: titles of 30 characters alone,
and with a description of 600; a fifth of them disguised. Beside it, in turns: the same list without disguises, which is
Unicode NFKC and one search; and each phrase looked for by itself. The texts are made by a seed, of the characters of
the shipped lists and of common words.

Precision, where ../shared/data has the titles: every title that the list reports, and 300 drawn by a seed from those in
which a plain list of superlatives is found (../shared/data/lists), were read and judged by hand; the numbers of the
lines that are violations stand below. A violation is a title that says of its goods, to who buys such things, that
nothing is above them or that they are of a state's level; names of goods, brands, works, games and titles are none,
nor is what only says how old, how large or how genuine. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from statistics import median
from time import process_time

from engine.disguise import read
from engine.lists import read_list
from engine.lists.phrases import disguised
from engine.lists.tables import NEVER, Table, phrases, plain_form
from engine.packs import read as read_file
from engine.proportions import wilson

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared/data"
TITLES, PLAIN = DATA / "titles/taobao_train.txt", DATA / "lists/adlaw_superlatives.txt"
LISTS = ROOT / "rules/lists"

BAR = 2_000
"""Listings a second."""
PHRASES, EXCEPTIONS = 5_000, 500
TEXTS, ROUNDS = 2_000, 5
SEED = 20261130
SAMPLE = 300
REAL = frozenset((827, 1511, 4478, 4624, 4878))
"""Lines, from 0, of the titles that are violations: of all that the list reports, and of the sample."""
WORDS = (
    "无线 耳机 纯棉 衬衫 女装 秋冬 新款 韩版 修身 包邮 家用 不锈钢 保温杯 儿童 玩具 运动 鞋 手机壳 户外 帐篷".split()
)


def main() -> int:
    """Print both; with --check, 1 when a figure is below its bar."""
    good = speed()
    if TITLES.is_file() and PLAIN.is_file():
        good &= precision()
    else:
        print("the titles are not in ../shared/data: precision not measured")
    return int(not good and "--check" in sys.argv[1:])


# Speed


def speed() -> bool:
    """The table of speeds; whether the slowest is above the bar."""
    random = Random(SEED)
    entries, exceptions = _phrases(random)
    through = disguised(dict.fromkeys(entries, NEVER), dict.fromkeys(exceptions))
    plain = phrases(dict.fromkeys(entries, NEVER))
    good = True
    print(f"{PHRASES:,} phrases, {EXCEPTIONS} exceptions, {len(through.patterns):,} patterns; listings a second")
    for told, length in (("title", 0), ("title and description", 600)):
        texts = [_text(random, entries, 30) + _text(random, entries, length) for _ in range(TEXTS)]
        ways: dict[str, Callable[[str], object]] = {
            "through disguises": lambda text: through.hits(0, read(text)),
            "as written": lambda text: _holds(plain, text),
            "one by one": lambda text: [entry for entry in entries if entry in text],
        }
        rates = _rates(ways, texts)
        for name, rate in rates.items():
            print(f"  {told:<24}{name:<20}{rate:>10,.0f}   {rates['through disguises'] / rate:6.2f} x")
        good &= rates["through disguises"] >= BAR
    return good


def _rates(ways: dict[str, Callable[[str], object]], texts: Sequence[str]) -> dict[str, float]:
    """Texts a second of processor time, each way in turn; the slow way sees fewer."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(ROUNDS):
        for name, way in ways.items():
            some = texts[round_::20] if name == "one by one" else texts
            before = process_time()
            for text in some:
                way(text)
            seconds[name].append((process_time() - before) / len(some))
    return {name: 1 / median(each) for name, each in seconds.items()}


def _holds(table: Table, text: str) -> bool | None:
    return table.holds(0, plain_form(text, ignore_case=False))


def _phrases(random: Random) -> tuple[list[str], list[str]]:
    """Phrases of two to six characters: those of the shipped lists, and others of the same characters."""
    shipped: dict[str, None] = {}
    for path in sorted(LISTS.glob("*.yaml")):
        named = read_list(read_file(path, root=LISTS))
        if named.disguises and named.table is not None:
            shipped |= dict.fromkeys(named.table.entries)  # type: ignore[attr-defined]  # a table of phrases has them
    letters = sorted({letter for phrase in shipped for letter in phrase if "一" <= letter <= "鿿"})
    while len(shipped) < PHRASES:
        shipped["".join(random.choices(letters, k=random.randint(2, 6)))] = None
    entries = list(shipped)[:PHRASES]
    around = [phrase + random.choice(letters) for phrase in random.sample(entries, EXCEPTIONS)]
    return entries, [each for each in around if each not in shipped]


def _text(random: Random, entries: Sequence[str], length: int) -> str:
    """A text of so many characters, a phrase in it now and then, a fifth of those with a sign inside."""
    text = ""
    while len(text) < length:
        text += random.choice(WORDS) + random.choice(("", "", " "))
        if random.random() < 0.03:
            phrase = random.choice(entries)
            text += "·".join(phrase) if random.random() < 0.2 else phrase
    return text


# Precision


def precision() -> bool:
    """What the list of superlatives reports of the titles, judged; whether all of it is right."""
    titles = TITLES.read_text("utf-8").removesuffix("\n").split("\n")
    plain = [word for word in PLAIN.read_text("utf-8").split("\n") if word.strip()]
    named = read_list(read_file(LISTS / "ad-absolutes.yaml", root=LISTS))
    assert named.table is not None, "its entries are in the file"
    reported = {line for line, title in enumerate(titles) if named.table.holds(0, title)}
    naive = [line for line, title in enumerate(titles) if any(word.strip() in title for word in plain)]
    drawn = sorted(Random(SAMPLE).sample(naive, SAMPLE))
    print(f"\n{len(titles):,} titles; the plain list finds something in {len(naive)}, ours in {len(reported)}")
    print(f"  all that ours reports: violations        {_share(len(reported & REAL), len(reported))}")
    print(f"  {SAMPLE} that the plain list reports: violations {_share(len(REAL & set(drawn)), SAMPLE)}")
    found = reported & set(drawn)
    print(f"  of these {SAMPLE}, reported by ours: {len(found)}, violations among them {len(found & REAL)},")
    print(f"    violations that it misses {len(REAL & set(drawn) - found)}")
    return reported <= REAL


def _share(hits: int, of: int) -> str:
    low, high = (wilson(hits, of) or (0.0, 0.0, 1.0))[1:]
    return f"{hits} of {of}  [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    sys.exit(main())
