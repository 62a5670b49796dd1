"""Names of persons and companies, and how alike two of them are.

`read_name` brings a name into a form in which spelling, script and order do not matter; `likeness` compares two such
forms and gives 0 to 1, the same on every machine. Both are pure: no list, no other entry and no clock has a part in it.

Words are compared by how they sound after transliteration to Latin (anyascii; Han by pinyin), so Qasim and Kassem are
one; a slip is an edit of Levenshtein's, or two neighbours swapped. A letter stands for a word that begins with it. What
one of two names has and the other lacks costs little once two words agree; what differs costs its whole weight. Legal
forms, titles and particles weigh nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from unicodedata import category, normalize

from anyascii import anyascii
from rapidfuzz.distance import OSA, Levenshtein

SCORER = "names-1"
"""Named in the hash of a list: another way to compare needs another number."""
MAX_WORDS = 40
"""Of a name; longer texts are no names."""

PLAIN, HAN, ABJAD = 0, 1, 2
"""How a word was written: Han is compared by its characters with Han, abjads have no vowels to compare."""

MISSING = 0.15
"""What a word costs that only one of the two names has, as a share of its weight, where two words agree."""
INITIAL, INITIAL_WEIGHT = 0.6, 2.0
SOUND, BONES = 0.97, 0.88
"""Likeness of words that sound the same, and of one in an abjad with one that has the same consonants."""
HEAVIEST = 8
"""Most that one word weighs, in letters."""

_ASCII_WORDS = re.compile("[a-z0-9]+")
_APOSTROPHES = dict.fromkeys(map(ord, "'’‘ʻʼʿʾ`´"))
_ABJAD_MARKS = re.compile("[\u0591-\u05c7\u0640\u064b-\u065f\u0670\u06d6-\u06ed]")
_RUNS = re.compile(
    "(?P<han>[\u3005\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)|(?P<hangul>[\uac00-\ud7a3]+)"
    "|(?P<abjad>[\u05d0-\u05f2\u0620-\u06ff\u0750-\u077f\u08a0-\u08ff]+)|(?P<other>.+?(?=[\u0590-\u08ff\u3005"
    "\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff]|$))"
)
_HAN_FORM = re.compile(
    "(?:股份|責任|责任|集团|集團|控股)*(?:有限(?:责任|責任)?)?公司$|集团$|集團$|株式会社|^주식회사|주식회사$"
)
_COMPOUND = frozenset(
    "欧阳 歐陽 司马 司馬 诸葛 諸葛 上官 司徒 夏侯 皇甫 尉迟 尉遲 公孙 公孫 慕容 令狐 宇文 长孙 東方 东方".split()
)
_READ_AS = {
    "曾": "zeng", "单": "shan", "單": "shan", "解": "xie", "仇": "qiu", "区": "ou", "區": "ou", "查": "zha",
    "任": "ren", "盖": "ge", "朴": "piao", "翟": "zhai", "缪": "miao", "尉迟": "yuchi", "尉遲": "yuchi",
    "김": "kim", "이": "lee", "박": "park", "최": "choi", "강": "kang", "조": "cho", "정": "jung",
}  # fmt: skip
"""Family names that are read otherwise than the character alone, or that have a usual spelling."""

_LEGAL = frozenset(
    "ltd limited llc lc inc incorporated corp corporation co company gmbh mbh sarl srl spa plc jsc pjsc ojsc cjsc ooo "
    "oao zao pao pte pty bhd sdn bv nv aps kft doo llp lp fze fzco fzc fzllc dmcc sal saog sae kft kk eood ood ead sa "
    "as ag ab se kg oy cia ltda eirl".split()
)
_TITLES = frozenset(
    "mr mrs ms miss mx dr prof professor sir madam herr frau mme monsieur sheikh shaikh shaykh sheik cheikh haji hajji "
    "hajj hadji mullah mulla maulavi maulawi mawlawi maulana molla general gen colonel col captain capt major "
    "brigadier hon jr junior sr senior eng engineer 先生 女士 小姐".split()
)
_PARTICLES = frozenset(
    "al el bin ibn ben bint bn de del della der den di da do dos du la le las los van von y and the of".split()
)
_ASSIMILATED = frozenset("ar as ash an ad at az adh ath".split())
"""The Arabic article before a sun letter: ar-Rahman."""
_ABD = frozenset("abd abdul abdel abdal abdil abdu abdur bd".split())
_ABD_BEGIN = re.compile("^abd(?:el|al|il|ul|ur(?=r)|us(?=s)|un(?=n)|ud(?=d))(?=.)")
_SPELT = dict.fromkeys("md mohd muhd mhd".split(), "mohammed")

_SOUNDS = {
    "tsch": "c", "tch": "c", "dzh": "j", "sch": "s", "zh": "z", "ch": "c", "sh": "s", "kh": "k", "gh": "g", "dh": "d",
    "th": "t", "ph": "f", "ck": "k", "qu": "k", "dj": "j", "tz": "z", "q": "k", "x": "ks", "w": "v", "ou": "u",
    "oo": "u", "oe": "u", "ue": "u", "ae": "a", "o": "u", "ee": "i", "ie": "i", "ei": "ai", "ey": "ai", "ay": "ai",
    "y": "i", "ce": "se", "ci": "si", "cy": "si", "c": "k",
}  # fmt: skip
_SPELLINGS = re.compile("|".join(sorted(_SOUNDS, key=len, reverse=True)))
_DOUBLE = re.compile(r"(.)\1+")
_VOWELS = str.maketrans("", "", "aeiou")
_SOFT = str.maketrans("", "", "aeiouvh")
"""Also what an abjad writes for a long vowel (w, y) or at a word's end (h)."""


class Word(NamedTuple):
    """A word, or two neighbours written as one. `text` is Latin, but Han as it stands."""

    text: str
    kind: int
    sound: str

    @property
    def bones(self) -> str:
        """The consonants of its sound."""
        return self.sound.translate(_SOFT)


class Part(NamedTuple):
    """Where a word stands in a name: `mask` has the bit of each of its places, `size` is how many they are."""

    word: Word
    mask: int
    size: int
    weight: float


@dataclass(frozen=True, slots=True)
class Name:
    """A name in comparable form.

    `parts` are its words that weigh something and its pairs of neighbours; `letters` its initials and `begins` the
    first letters of its words, each with the bit of its place; `weights` is what each place weighs. `complete` is a
    person's name in Han: it lacks no middle name, 张文 is not 张文福.
    """

    parts: tuple[Part, ...]
    letters: tuple[tuple[str, int], ...]
    begins: tuple[tuple[str, int], ...]
    weights: tuple[float, ...]
    weight: float
    complete: bool


def likeness(one: Name, other: Name) -> float:
    """How alike two names are, 0 to 1; symmetric up to the order in which equal gains are taken."""
    pairs = []
    for i, mine in enumerate(one.parts):
        for j, theirs in enumerate(other.parts):
            alike = near(mine.word, theirs.word) if mine.size + theirs.size < 4 else 0.0
            if alike:
                pairs.append((alike, i, j))
    return settled(one, other, pairs)


def settled(one: Name, other: Name, pairs: Iterable[tuple[float, int, int]]) -> float:
    """The likeness, from how alike the parts are: each word counts in one pair, the pair that gains most first."""
    gains = sorted((-alike * (one.parts[i].weight + other.parts[j].weight), i, j, alike) for alike, i, j in pairs)
    mine = theirs = matched = 0
    agreed = total = 0.0
    for _, i, j, alike in gains:
        left, right = one.parts[i], other.parts[j]
        if not (mine & left.mask or theirs & right.mask):
            mine, theirs, matched = mine | left.mask, theirs | right.mask, matched + 1
            weight = (left.weight + right.weight) / 2
            agreed, total = agreed + alike * weight, total + weight
    if not matched:
        return 0.0
    both = [(bit, at) for letter, bit in one.letters for same, at in other.letters if same == letter]
    for alike, weight, places in ((1.0, 1.0, both), (INITIAL, INITIAL_WEIGHT, _stood_for(one, other))):
        for left_bit, right_bit in places:
            if not (mine & left_bit or theirs & right_bit):
                mine, theirs = mine | left_bit, theirs | right_bit
                agreed, total = agreed + alike * weight, total + weight
    lenient = matched > 1 and not (one.complete or other.complete)
    return agreed / (total + loss(_left(one, mine), _left(other, theirs), lenient))


def _stood_for(one: Name, other: Name) -> Iterator[tuple[int, int]]:
    """The places of initials with those of words that begin so, on either side."""
    yield from ((bit, at) for letter, bit in one.letters for first, at in other.begins if first == letter)
    yield from ((at, bit) for letter, bit in other.letters for first, at in one.begins if first == letter)


def loss(mine: float, theirs: float, lenient: bool) -> float:
    """What words cost that agree with nothing: where both names have some, they differ; the rest is missing."""
    low, high = (mine, theirs) if mine < theirs else (theirs, mine)
    return low + (MISSING if lenient else 1.0) * (high - low)


def _left(name: Name, used: int) -> float:
    return sum(weight for at, weight in enumerate(name.weights) if not used >> at & 1)


def near(one: Word, other: Word) -> float:
    """How alike two words are; 0 where they are not."""
    if one.kind == other.kind and one.text == other.text:
        return 1.0
    if HAN in (one.kind, other.kind):
        # 李伟 and 黎卫 sound the same and are two; pinyin is exact, so a letter more or less is another character.
        return SOUND if PLAIN in (one.kind, other.kind) and _pinyin_of(one) == _pinyin_of(other) else 0.0
    if (one.kind == ABJAD) != (other.kind == ABJAD):
        bones = one.bones
        return BONES if len(bones) > 1 and bones == other.bones else 0.0
    if one.sound == other.sound:
        return SOUND
    most = slips(min(len(one.sound), len(other.sound)))
    if not most or not (one.sound.isalpha() and other.sound.isalpha()):
        return 0.0
    found = OSA.distance(one.sound, other.sound, score_cutoff=most)
    if found > 1:
        # Two swaps in a word are no slip of the pen; without them the index need not look for them.
        found = Levenshtein.distance(one.sound, other.sound, score_cutoff=most)
    if found > most:
        return 0.0
    vowels = one.sound.translate(_VOWELS) == other.sound.translate(_VOWELS)
    return 1 - (0.5 if vowels else 1.0) * found / max(len(one.sound), len(other.sound))


def _pinyin_of(word: Word) -> str:
    return _pinyin(word.text) if word.kind == HAN else word.text


def slips(length: int) -> int:
    """How many slips a word of so many letters may have."""
    return 0 if length < 4 else 1 if length < 9 else 2


# -- Reading ---------------------------------------------------------------------------------------------------


def read_name(value: str, known: dict[tuple[str, int], Word] | None = None) -> Name:
    """The comparable form of a name. `known` spares work where many names share words; it is filled."""
    known = {} if known is None else known
    words = _merged(list(_words(value)))
    legal = _legal(words)
    light = [at in legal or _light(words, at) for at in range(len(words))]
    dull = all(light)
    parts, weights, letters, begins = [], [], [], []
    before: tuple[str, int, float] | None = None
    for at, (text, kind) in enumerate(words):
        word, bit = _word(text, kind, known), 1 << at
        weight = 0.0 if light[at] and not dull else float(min(max(len(word.sound), 1), HEAVIEST))
        weights.append(weight)
        whole = kind == HAN or len(text) > 1
        if weight:
            begins.append((word.sound[:1] if kind == HAN else text[0], bit))
            if whole:
                parts.append(Part(word, bit, 1, weight))
            else:
                letters.append((text, bit))
        if whole and before is not None and before[1] == kind and before[2] + weight:
            parts.append(Part(_word(before[0] + text, kind, known), bit | bit >> 1, 2, before[2] + weight))
        before = (text, kind, weight) if whole else None
    complete = len(words) == 2 and all(kind == HAN for _, kind in words)
    return Name(tuple(parts), tuple(letters), tuple(begins), tuple(weights), sum(weights), complete)


def fault_of_name(value: str) -> str:
    """What keeps a text from being an entry, in words that do not repeat it; '' where nothing does."""
    words = list(_words(value))
    if len(words) > MAX_WORDS:
        return f"a name has at most {MAX_WORDS} words"
    if not any(kind == HAN or len(text) > 1 for text, kind in words):
        return "a name has at least one word of two letters"
    return ""


def _word(text: str, kind: int, known: dict[tuple[str, int], Word]) -> Word:
    found = known.get((text, kind))
    if found is None:
        sound = _sound(_pinyin(text) if kind == HAN else text)
        found = known[text, kind] = Word(text, kind, sound)
    return found


def _sound(latin: str) -> str:
    sound = _DOUBLE.sub(_once, _SPELLINGS.sub(_respelt, latin))
    return sound[:-1] if len(sound) > 2 and sound[-1] == "h" and sound[-2] in "aeiou" else sound


def _respelt(found: re.Match[str]) -> str:
    return _SOUNDS[found[0]]


def _once(found: re.Match[str]) -> str:
    return found[1]


def _pinyin(han: str) -> str:
    return _READ_AS.get(han) or _latin(han)


def _latin(text: str) -> str:
    return "".join(letter for letter in (text if text.isascii() else anyascii(text)).lower() if letter.isalnum())


def _words(value: str) -> Iterator[tuple[str, int]]:
    """The words of a name as (text, kind), at most one more than a name has."""
    if value.isascii():
        plain = value.lower().translate(_APOSTROPHES)
        yield from ((word, PLAIN) for word in _ASCII_WORDS.findall(plain)[: MAX_WORDS + 1])
        return
    folded = _ABJAD_MARKS.sub("", normalize("NFKC", value).casefold().translate(_APOSTROPHES))
    foreign = "·" in folded or "・" in folded
    spread = "".join(letter if category(letter)[0] in "LMN" else " " for letter in folded)
    for chunk in spread.split()[: MAX_WORDS + 1]:
        whole = _HAN_FORM.sub("", chunk)
        for run in _RUNS.finditer(whole or chunk):
            yield from _run(run, split=not foreign and whole == chunk)


def _run(run: re.Match[str], *, split: bool) -> Iterator[tuple[str, int]]:
    text = run[0]
    if run["han"] or run["hangul"]:
        kind = HAN if run["han"] else PLAIN
        family = 2 if text[:2] in _COMPOUND else 1
        pieces = (text[:family], text[family:]) if split and family < len(text) < 5 else (text,)
        yield from ((piece if kind == HAN else _pinyin(piece), kind) for piece in pieces)
    elif run["abjad"]:
        if text.startswith("ال") and len(text) > 4:
            yield "al", ABJAD
            text = text[2:]
        if latin := _latin(text.replace("ظ", "ز")):  # written z in passports: Nazim, Zawahiri
            yield latin, ABJAD
    elif latin := _latin(text):
        yield latin, PLAIN


def _merged(words: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Abd al-Rahman, Abdel Rahman and Abdurrahman as one word."""
    merged: list[tuple[str, int]] = []
    at = 0
    while at < len(words):
        text, kind = words[at]
        at += 1
        if text in _ABD and at < len(words):
            at += words[at][0] in (*_ASSIMILATED, "al", "el", "ul") and at + 1 < len(words)
            text, kind = words[at]
            text = "abdullah" if text in ("allah", "ullah", "lah") else f"abdul{text}"
            at += 1
        elif kind == PLAIN:
            # Behind a name, MD is a degree.
            text = (at < len(words) and _SPELT.get(text)) or _ABD_BEGIN.sub("abdul", text)
        merged.append((text, kind))
    return merged


def _light(words: list[tuple[str, int]], at: int) -> bool:
    text = words[at][0]
    if text in _ASSIMILATED and at + 1 < len(words) and words[at + 1][0].startswith(text[1:]):
        return True
    return text in _PARTICLES or text in _TITLES


def _legal(words: list[tuple[str, int]]) -> set[int]:
    """The places of legal forms, spelt as letters (S.A.) or as a word, where enough of a name is left without them."""
    places: set[int] = set()
    at = 0
    while at < len(words):
        end = at
        while end < len(words) and len(words[end][0]) == 1:
            end += 1
        if end - at > 1 and "".join(text for text, _ in words[at:end]) in _LEGAL:
            places |= set(range(at, end))
        elif words[at][0] in _LEGAL:
            places.add(at)
        at = max(end, at + 1)
    left = sum(len(text) for at, (text, kind) in enumerate(words) if at not in places)
    return places if left > 4 else set()
