"""Names as other people write them: for each kind of change a function that makes a variant, or None where it cannot.

The changes are made from habits of writers (rules of romanisation, slips on a keyboard), not from what the engine
forgives: some of them it does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from random import Random
from typing import TypeAlias

Variant: TypeAlias = Callable[[Random, str], str | None]

_SPELLINGS = (
    ("kh", "h"), ("q", "k"), ("gh", "g"), ("dh", "z"), ("th", "t"), ("sh", "sch"), ("ch", "tch"), ("zh", "j"),
    ("j", "dj"), ("ou", "u"), ("oo", "u"), ("u", "ou"), ("o", "u"), ("ee", "i"), ("i", "e"), ("e", "a"), ("ay", "ai"),
    ("ai", "ei"),
    ("iy", "y"), ("y", "i"), ("w", "v"), ("v", "w"), ("ph", "f"), ("ks", "x"), ("c", "k"), ("z", "s"), ("mm", "m"),
    ("ss", "s"), ("ll", "l"), ("m", "mm"), ("d", "dd"), ("al-", "el-"), ("abd ", "abdul "), ("ii", "y"), ("ah", "a"),
)  # fmt: skip
"""How one romanisation writes what another writes otherwise."""
_CYRILLIC = (
    ("shch", "щ"), ("kh", "х"), ("zh", "ж"), ("ch", "ч"), ("sh", "ш"), ("ts", "ц"), ("yu", "ю"), ("ya", "я"),
    ("ye", "е"), ("iy", "ий"), ("yy", "ый"), ("'", "ь"),
    *zip("abvgdeziyklmnoprstufhcjwxq", "абвгдезийклмнопрстуфхкжвкк", strict=True),
)  # fmt: skip
"""BGN/PCGN romanisation of Russian, backwards."""
_LEGAL = ("ltd", "llc", "inc", "co", "gmbh", "s.a.", "limited", "company", "corp", "ooo")


def ordered(name: str) -> str:
    """'Zorander, Mikula' as it is said: 'Mikula Zorander'."""
    found = person(name)
    return f"{found[1]} {found[0]}" if found else name


def person(name: str) -> tuple[str, str] | None:
    """Family and given name, where a comma parts them and no company's form stands behind it."""
    last, comma, first = name.partition(", ")
    plain = all(word.isalpha() and len(word) > 1 for word in re.split("[ '-]+", first) if word)
    return (last, first) if comma and plain and first.lower() not in _LEGAL else None


def order(random: Random, name: str) -> str | None:
    """Words in another order."""
    words = ordered(name).replace(",", "").split()
    turned = words[-1:] + words[:-1]
    return " ".join(turned) if turned != name.replace(",", "").split() and len(words) > 1 else None


def spelling(random: Random, name: str) -> str | None:
    """One or two sounds romanised otherwise."""
    text, done = ordered(name).lower(), 0
    for old, new in random.sample(_SPELLINGS, len(_SPELLINGS)):
        places = [found.start() for found in re.finditer(re.escape(old), text)]
        if places and done < 2:
            at = random.choice(places)
            text, done = text[:at] + new + text[at + len(old) :], done + 1
    return text.title() if done else None


def slip(random: Random, name: str) -> str | None:
    """A letter wrong, lost, doubled or swapped in one word of five letters or more."""
    return _slipped(random, ordered(name), 1)


def two_slips(random: Random, name: str) -> str | None:
    """The same in two words."""
    return _slipped(random, ordered(name), 2)


def _slipped(random: Random, name: str, count: int) -> str | None:
    words = name.split()
    long = [at for at, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if len(long) < count:
        return None
    for at in random.sample(long, count):
        word, place = words[at], random.randrange(len(words[at]) - 1)
        letter = random.choice("abcdefghijklmnoprstuvyz")
        words[at] = random.choice(
            (
                word[:place] + letter + word[place + 1 :],
                word[:place] + word[place + 1 :],
                word[:place] + word[place] + word[place:],
                word[:place] + word[place + 1] + word[place] + word[place + 2 :],
            )
        )
    return " ".join(words)


def initial(random: Random, name: str) -> str | None:
    """A given name as its letter."""
    found = person(name)
    if not found:
        return None
    words = found[1].split()
    return " ".join((f"{words[0][0]}.", *words[1:], found[0]))


def missing(random: Random, name: str) -> str | None:
    """A person without a word from the middle."""
    words = ordered(name).split()
    if len(words) < 3 or not person(name):
        return None
    del words[random.randrange(1, len(words) - 1)]
    return " ".join(words)


def title(random: Random, name: str) -> str | None:
    """With a title before a person, another legal form behind a company."""
    if person(name):
        return f"{random.choice(('Dr.', 'Mr.', 'Prof.', 'Gen.', 'Eng.', 'Haji'))} {ordered(name)}"
    words = [word for word in name.replace(",", "").split() if word.lower().rstrip(".") not in (*_LEGAL, "s.a")]
    return f"{' '.join(words)} {random.choice(('Ltd.', 'LLC', 'GmbH', 'S.A.', 'Co., Ltd.', 'JSC'))}" if words else None


def joined(random: Random, name: str) -> str | None:
    """Two words of the family name, of the given name or of a company as one, or what a hyphen joins as two."""
    if "-" in name:
        return ordered(name.replace("-", random.choice((" ", "")), 1))
    parts = [part.split() for part in name.split(", ")]
    long = [part for part in parts if len(part) > 1]
    if not long:
        return None
    part = random.choice(long)
    at = random.randrange(len(part) - 1)
    part[at : at + 2] = [part[at] + part[at + 1].lower()]
    return ordered(", ".join(" ".join(each) for each in parts))


def cyrillic(random: Random, name: str) -> str | None:
    """In Russian letters."""
    text = ordered(name).lower()
    for latin, letter in _CYRILLIC:
        text = text.replace(latin, letter)
    return text.title() if text.isascii() is False else None


KINDS: Mapping[str, Variant] = {
    "order": order,
    "spelling": spelling,
    "one slip": slip,
    "two slips": two_slips,
    "initial": initial,
    "missing": missing,
    "title": title,
    "joined": joined,
    "cyrillic": cyrillic,
}
