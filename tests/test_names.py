"""Names in any spelling: what is alike, what is not, and an index that finds what comparing with each entry finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench._variants import KINDS
from engine.errors import BodyRefused, PackError
from engine.lists import NamedList, propose, read_list, read_lists
from engine.lists.files import THRESHOLD
from engine.lists.names import MAX_WORDS, likeness, near, read_name
from engine.lists.nearness import index, names
from engine.lists.tables import NEVER
from engine.packs import parse
from engine.packs.moments import end_of, start_of

NOW = start_of("2026-11-20T12:00:00+08:00")
HEAD = "list: sanctioned\nabout: x\nmatch: name\n"


def alike(one: str, other: str) -> float:
    return likeness(read_name(one), read_name(other))


SAME = (
    ("case, marks and punctuation", "José  GARCÍA-López", "garcia lopez jose"),
    ("order and comma", "Zorander, Mikula", "Mikula Zorander"),
    ("a missing middle name", "Mikula Zorander", "ZORANDER, Mikula Petrowan"),
    ("an initial", "M. Zorander", "Zorander, Mikula"),
    ("a title", "Dr. Mikula Zorander", "Mikula Zorander"),
    ("a slip", "Mikula Zoramder", "Mikula Zorander"),
    ("two neighbours swapped", "Mikula Zornader", "Mikula Zorander"),
    ("a letter lost", "Mikula Zorandr", "Mikula Zorander"),
    ("spelling by ear", "Mohammed Hussein", "Muhammad Husayn"),
    ("an abbreviation", "Md. Hussain", "Muhammad Husain"),
    ("one word or two", "Kim Jong Un", "Kim Jong-un"),
    ("one word or two, joined", "Ayman Alzawahri", "Ayman al-Zawahri"),
    ("servant of, in its spellings", "Abd al-Rahman Yusuf", "Abdurrahman Yousef"),
    ("servant of, in its spellings", "Abdel Aziz Karim", "Abdulaziz Kareem"),
    ("an article before a sun letter", "Omar ash-Shami", "Umar Shami"),
    ("a particle", "Usama bin Ladin", "Osama Laden"),
    ("umlauts", "Jürgen Müller-Brömme", "Juergen Mueller Broemme"),
    ("legal forms", "Zorander Trading Co., Ltd.", "ZORANDER TRADING LLC"),
    ("legal forms, spelt as letters", "Zorander Maritime S.A.", "Zorander Maritime"),
    ("Cyrillic", "Микула Зорандер", "Mikula Zorander"),
    ("Cyrillic legal form", "ООО Зорандер Торг", "Zorander Torg"),
    ("Greek", "Μικούλα Ζορανδέρ", "Mikoula Zorander"),
    ("Arabic", "محمد حسين", "Mohammed Hussein"),
    ("Arabic, with its article and marks", "أَيْمَن الظواهري", "Ayman al-Zawahiri"),
    ("Arabic, servant of", "عبد الرحمن يوسف", "Abdulrahman Yusuf"),
    ("Hebrew", "דוד כהן", "David Cohen"),
    ("Han by pinyin", "王小明", "Xiaoming Wang"),
    ("Han by pinyin, a syllable a word", "王小明", "WANG Xiao Ming"),
    ("a family name with its own reading", "曾国强", "Zeng Guoqiang"),
    ("a family name of two characters", "欧阳小明", "Ouyang Xiaoming"),
    ("full-width letters", "Ｍｉｋｕｌａ　Ｚｏｒａｎｄｅｒ", "Mikula Zorander"),
    ("Chinese legal forms", "示例制裁贸易有限公司", "示例制裁贸易股份有限公司"),
    ("Hangul", "김정은", "Kim Jeong-eun"),
)


@pytest.mark.parametrize(("what", "one", "other"), SAME, ids=[f"{what}: {one}" for what, one, _ in SAME])
def test_spelling_script_and_order_do_not_matter(what: str, one: str, other: str) -> None:
    """Either way round, at the threshold that a list has when it says none."""
    assert alike(one, other) >= THRESHOLD, (what, alike(one, other))
    assert alike(other, one) == pytest.approx(alike(one, other))


DIFFERENT = (
    ("another given name", "Mikula Zorander", "Petra Zorander"),
    ("another family name", "Mikula Zorander", "Mikula Brandov"),
    ("another middle name", "Ivan Petrovich Sidorov", "Ivan Nikolaevich Sidorov"),
    ("one word of two", "Zorander", "Mikula Zorander"),
    ("a common name in a long one", "Mohammed Ali", "Mohammed Ali Hassan Karim al-Tikriti"),
    ("characters that sound alike", "李伟", "黎卫"),
    ("a syllable more, written in Han", "张文", "Zhang Wenfu"),
    ("a syllable more, a word each", "张文", "Zhang Wen-fu"),
    ("a letter more in pinyin", "郑雷", "Zhang Lei"),
    ("a vowel of another romanisation", "胡勇", "Ho Yong"),
    ("a degree", "James Walsh MD", "Mohammed Wali"),
    ("one short word with a slip", "Hamas", "Hamad"),
    ("two short words with a slip each", "Li Wei", "Lu Wen"),
    ("another trade", "Noor Trading Company", "Noor Shipping Company"),
    ("another number", "Battalion 313", "Battalion 314"),
    ("only the legal form", "Zorander Ltd", "Brandov Ltd"),
    ("a legal form that is a name", "Li Co", "Li"),
    ("initials alone", "M. Z.", "Mikula Zorander"),
    ("nothing", "", "Mikula Zorander"),
    ("signs", "!? …", "Mikula Zorander"),
)


@pytest.mark.parametrize(("what", "one", "other"), DIFFERENT, ids=[what for what, _, _ in DIFFERENT])
def test_other_names_are_other_names(what: str, one: str, other: str) -> None:
    """Near as they may be."""
    assert max(alike(one, other), alike(other, one)) < THRESHOLD, what


def test_a_name_is_like_itself() -> None:
    """Whatever it is made of."""
    for _, one, other in SAME:
        assert alike(one, one) == alike(other, other) == 1.0


# -- The index loses nothing -----------------------------------------------------------------------------------

WORDS = st.one_of(
    st.text("abdhkmu", min_size=1, max_size=13),
    st.sampled_from(
        "mohammed muhammad hussein husayn abd al ar rahman rahim ltd sa dr bin m h 313 李 王小明 حسين حسن".split()
    ),
)
NAMES = st.lists(WORDS, min_size=1, max_size=5).map(" ".join)


@settings(deadline=None)
@given(st.lists(st.text("abkm", min_size=1, max_size=12), max_size=30), st.text("abkm", min_size=1, max_size=12))
def test_every_word_within_its_slips_is_found(written: list[str], asked: str) -> None:
    """Pieces and swaps against a comparison with each word."""
    found = index(written)
    (part, *_) = read_name(asked).parts or (None,)
    if part is not None:
        words = found.words
        assert words.like(part.word) == {
            number: score for number, word in enumerate(words.words) if (score := near(part.word, word))
        }


@settings(max_examples=200, deadline=None)
@given(st.lists(NAMES, max_size=25), NAMES, st.sampled_from([0.7, 0.8, 0.85, 0.9, 1.0]))
def test_the_index_finds_what_comparing_with_each_entry_finds(written: list[str], asked: str, least: float) -> None:
    """With the same likeness, at every threshold that a list may have."""
    name = read_name(asked)
    scores = {entry: likeness(name, read_name(entry)) for entry in written}

    assert dict(index(written).matches(name, least)) == pytest.approx(
        {entry: score for entry, score in scores.items() if score >= least}
    )


@pytest.mark.parametrize("changed", range(0, 11, 2))
def test_a_swap_or_a_slip_anywhere_in_a_word_is_found(changed: int) -> None:
    """Where the pieces of a word meet, too."""
    word = "mikulazander"
    swapped = word[:changed] + word[changed + 1] + word[changed] + word[changed + 2 :]
    for asked in (swapped, word[:changed] + word[changed + 1 :], word[:changed] + "b" + word[changed:]):
        assert list(index([word]).matches(read_name(asked), 0.7)), asked


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["put", "drop"]), NAMES), max_size=12), NAMES)
def test_a_table_after_many_changes_is_a_new_table(steps: list[tuple[str, str]], asked: str) -> None:
    """Entries come and go, and come again with another end."""
    table, entries = names({}, 0.8), dict[str, int]()
    for at, (step, entry) in enumerate(steps, 1):
        if step == "put":
            table, entries[entry] = table.put(entry, at), at
        else:
            table = table.drop(entry)
            entries.pop(entry, None)
    fresh = names(entries, 0.8)
    for at in (0, 1, 5):
        assert sorted(set(table.matches(at, asked))) == sorted(fresh.matches(at, asked))
        assert table.holds(at, asked) is fresh.holds(at, asked)


@pytest.mark.slow
def test_many_new_entries_become_one_index() -> None:
    """What waits beside the index stays small."""
    table = names({}, 0.85)
    for number in range(600):
        table = table.put(f"zorander {number}", NEVER)

    assert len(table.fresh.entries) <= 256
    assert all(table.holds(0, f"Zorander {number}") for number in (0, 255, 257, 599))


def test_a_text_that_is_no_name_is_on_no_list() -> None:
    """A whole page costs no more than its first words."""
    table = names({"mikula zorander": NEVER}, 0.7)

    assert table.holds(0, "Mikula Zorander") is True
    assert table.holds(0, "Mikula Zorander " * MAX_WORDS) is False


# -- A floor under what is found ------------------------------------------------------------------------------

FLOORS = {
    "order": 0.99, "spelling": 0.8, "one slip": 0.85, "two slips": 0.7, "initial": 0.85, "missing": 0.9, "title": 0.99,
    "joined": 0.95, "cyrillic": 0.9,
}  # fmt: skip
"""Kind of variant → least share of it that is found. What is found of real names: docs/lists.md, by bench.names."""
MOST_WRONGLY = 0.03


def listed_and_others() -> tuple[list[str], list[str]]:
    text = (Path(__file__).parent / "cases/names.txt").read_text("utf-8")
    listed, others = text.split("# listed\n")[1].split("# others\n")
    return listed.splitlines(), others.splitlines()


def test_every_kind_of_variant_has_a_floor() -> None:
    """A new one needs its figure."""
    assert set(FLOORS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_variants_of_invented_names_are_found(kind: str) -> None:
    """By their own entry, as often as the floor says."""
    listed, _ = listed_and_others()
    table, random = names(dict.fromkeys(listed, NEVER), THRESHOLD), Random(kind)
    asked = [(name, variant) for name in listed for _ in range(3) if (variant := KINDS[kind](random, name))]
    found = [name in dict(table.matches(0, variant)) for name, variant in asked]

    assert len(found) >= 60
    assert sum(found) / len(found) >= FLOORS[kind], sum(found) / len(found)


def test_other_invented_names_are_not_found() -> None:
    """Made of the same syllables as those on the list."""
    listed, others = listed_and_others()
    table = names(dict.fromkeys(listed, NEVER), THRESHOLD)
    found = [name for name in others if table.holds(0, name)]

    assert len(found) / len(others) <= MOST_WRONGLY, found


# -- Lists of names --------------------------------------------------------------------------------------------


def named(source: str) -> NamedList:
    return read_list(parse(source, "x.yaml"))


def holding(source: str, at: int = NOW) -> Callable[[str], bool | None]:
    return read_lists([parse(source)]).lookups(at, "shop")["sanctioned"]


def test_a_list_of_names_takes_other_spellings() -> None:
    """As every list it holds entries up to their day."""
    holds = holding(HEAD + "entries: ['ZORANDER, Mikula', {value: Petra Brandov, expires: 2026-11-20}]\n")

    assert [holds(value) for value in ("Микула Зорандер", "Petra  BRANDOV", "Petra Zorander")] == [True, True, False]
    assert (
        holding(HEAD + "entries: [{value: Petra B, expires: 2026-11-20}]\n", end_of("2026-11-20"))("Petra B") is False
    )


def test_the_threshold_is_of_the_list_and_in_its_hash() -> None:
    """A decision's record says how near was near enough."""
    entries = "entries: [Mikula Petrowan Zorander]\n"
    loose, strict = named(HEAD + "threshold: 0.7\n" + entries), named(HEAD + "threshold: 1\n" + entries)

    assert (named(HEAD + entries).threshold, loose.threshold, strict.threshold) == (THRESHOLD, 0.7, 1.0)
    assert loose.table is not None
    assert strict.table is not None
    assert loose.table.holds(NOW, "Mikula Zorander") is True
    assert strict.table.holds(NOW, "Mikula Zorander") is False
    assert len({named(HEAD + entries).hash, loose.hash, strict.hash}) == 3
    assert named(HEAD + entries).hash == named(HEAD + f"threshold: {THRESHOLD}\n" + entries).hash


REFUSED = (
    (HEAD + "threshold: 0.69\n", "x.yaml:4:12: must be at least 0.7"),
    (HEAD + "threshold: 1.01\n", "x.yaml:4:12: must be at most 1"),
    (HEAD + "threshold: near\n", "x.yaml:4:12: expected a number"),
    (HEAD.replace("name", "exact") + "threshold: 0.9\n", "x.yaml:4:1: only a list with 'match: name' has a threshold"),
    (
        HEAD + "owner: a\napproved_by: b\neffect: lowers\n",
        "x.yaml:6:9: a name that is only alike cannot lower the risk",
    ),
    (HEAD + "entity: person\n", "x.yaml:4:9: a name that is only alike cannot be kept as a pseudonym"),
    (HEAD + "ignore_case: true\n", "x.yaml:4:1: this list has its own way to compare values"),
    (HEAD + "entries: ['…']\n", "x.yaml:4:11: a name has at least one word of two letters"),
    (HEAD + "entries: [J. R.]\n", "x.yaml:4:11: a name has at least one word of two letters"),
    (HEAD + f"entries: [{'ab ' * 41}]\n", "x.yaml:4:11: a name has at most 40 words"),
    (HEAD + "source: {form: ofac-sdn, files: [{name: sdn.csv, sha256: 12}]}\n", "x.yaml:4:58: "),
    (HEAD + "source: {form: ofac-sdn}\n", "x.yaml:4:9: "),
)


@pytest.mark.parametrize(("source", "problem"), REFUSED)
def test_a_bad_list_of_names_is_refused_with_its_place(source: str, problem: str) -> None:
    """With what to do about it."""
    with pytest.raises(PackError) as caught:
        named(source)
    assert [str(each)[: len(problem)] for each in caught.value.problems] == [problem]


def test_entries_through_the_api_take_other_spellings_too() -> None:
    """At once, for their tenant; the kept form is what was written, without what does not matter."""
    source = HEAD + "entries: [Petra Brandov]\n"
    entry = propose(named(source), "  ZORANDER,  Mikula ", tenant="shop", by="person:a", at=NOW, reason="seen")
    lists = read_lists([parse(source)]).with_entry(entry)

    assert (entry.state, entry.value) == ("active", "zorander, mikula")
    assert [lists.lookups(NOW, tenant)["sanctioned"]("Mikula Zorander") for tenant in ("shop", "other")] == [
        True,
        False,
    ]
    assert lists.lookups(NOW, "shop")["sanctioned"]("Brandov, Petra") is True
    with pytest.raises(BodyRefused, match="two letters") as caught:
        propose(named(source), "Q", tenant="shop", by="person:a", at=NOW, reason="seen")
    assert "Q" not in str(caught.value)
