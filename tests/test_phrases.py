"""Lists of phrases that are found through their disguises: what is found and where, what is spared, what is told."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cli import main
from engine.arbiter import Arbiter, Caller, Reveal
from engine.assembly import Settings
from engine.disguise import read
from engine.errors import PackError
from engine.explain import SEALED
from engine.lists import Finder, Hit, ListSet, NamedList, propose, read_list, read_lists
from engine.lists.phrases import MOST_HITS, disguised
from engine.lists.tables import NEVER, phrases
from engine.packs import parse
from engine.packs import read as read_file
from engine.packs.moments import start_of
from tests.books import ROOT, SHARED, SHOP, Clock, judged, record_of, running, told, write
from tests.test_replay import Ground, met

AT = start_of("2026-11-20T12:00:00+08:00")
HEAD = "list: words\nabout: x\nmatch: phrase\ndisguises: true\n"


def named(source: str) -> NamedList:
    return read_list(parse(source, "rules/lists/x.yaml"))


def problems(source: str) -> list[str]:
    with pytest.raises(PackError) as caught:
        named(source)
    return [str(problem).removeprefix("rules/lists/x.yaml:") for problem in caught.value.problems]


def asked(lists: ListSet, at: int = AT) -> Finder:
    found = lists.lookups(at, "shop-a")["words"]
    assert isinstance(found, Finder)
    return found


def finder(source: str, at: int = AT) -> Finder:
    return asked(read_lists([parse(source)]), at)


LIST = (
    HEAD
    + """\
except: [最佳赏味期, A货翡翠]
entries:
  - 最佳
  - 国家级
  - 全网第一
  - {value: 第一, except: [第一次, 第一季]}
  - NO.1
  - A货
  - vx
  - 微信号
  - 1:1
"""
)

FOUND: tuple[tuple[str, list[tuple[str, str]]], ...] = (
    ("全网最佳口感", [("最佳", "最佳")]),
    ("全网 蕞·佳", [("最佳", "蕞·佳")]),
    ("國家級工藝", [("国家级", "國家級")]),
    ("zui佳 最jia", [("最佳", "zui佳"), ("最佳", "最jia")]),
    ("口感Zuì Jiā的茶", [("最佳", "Zuì Jiā")]),
    ("zuijiahao", [("最佳", "zuijia")]),
    ("haozuijia", [("最佳", "zuijia")]),
    ("zuijiax", []),
    ("xqzuijia", []),
    ("最佳赏味期三天", []),
    ("最 佳 赏·味期", []),
    ("zui佳赏味期", []),
    ("最佳赏味期 最佳", [("最佳", "最佳")]),
    ("销量全网第一", [("全网第一", "全网第一")]),
    ("第一次第一", [("第一", "第一")]),
    ("第一季最佳", [("最佳", "最佳")]),
    ("no 1 品质", [("NO.1", "no 1")]),
    ("№1", [("NO.1", "№1")]),
    ("No.12", []),
    ("xno1", []),
    ("Ａ 货", [("A货", "Ａ 货")]),
    ("а货", [("A货", "а货")]),
    ("na货", []),
    ("天然A货翡翠", []),
    ("加VX看图", [("vx", "VX")]),
    ("vx12345", [("vx", "vx")]),
    ("vxabc", []),
    ("hvx", []),
    ("h vx", [("vx", "vx")]),
    ("薇❤号", [("微信号", "薇❤号")]),
    ("1：1复刻", [("1:1", "1：1")]),
    ("11复刻 1 1", []),
    ("提高最 佳能", []),
    ("好茶 最 佳能量", [("最佳", "最 佳")]),
    ("全网最 佳能", []),
    ("无", []),
)


@pytest.mark.parametrize(("text", "expected"), FOUND, ids=[row[0] for row in FOUND])
def test_phrases_are_found_where_they_were_written(text: str, expected: list[tuple[str, str]]) -> None:
    known = finder(LIST)
    hits = known.hits(text)
    assert hits is not None

    assert [(hit.phrase, text[hit.start : hit.end]) for hit in hits] == expected
    assert known(text) is bool(expected)


def test_what_stands_within_a_longer_phrase_is_not_told_again() -> None:
    assert finder(HEAD + "entries: [第一, 全网第一, 第一品牌]\n").hits("全网第一品牌") == (
        Hit("全网第一", 0, 4),
        Hit("第一品牌", 2, 6),
    )


def test_an_exception_spares_no_longer_phrase() -> None:
    """The longest wins: 第一次 spares 第一, and not 全网第一次品鉴."""
    known = finder(HEAD + "except: [第一次]\nentries: [第一, 全网第一次品鉴]\n")
    assert known.hits("全网第一次品鉴 第一次") == (Hit("全网第一次品鉴", 0, 7),)


def test_of_two_stretches_of_exceptions_the_one_that_reaches_further_counts() -> None:
    known = finder(HEAD + "except: [非最佳品质之选, 非最]\nentries: [最佳品质, 非]\n")
    assert known.hits("非最佳品质之选") == ()


def test_an_entry_counts_up_to_its_end() -> None:
    source = HEAD + "entries: [{value: 最佳, expires: 2026-11-20}, 国家级]\n"
    assert finder(source)("最佳") is True
    assert finder(source, start_of("2026-11-21T00:00:00+08:00"))("最佳") is False
    assert finder(source, start_of("2026-11-21T00:00:00+08:00"))("国家级") is True


def test_of_a_long_text_the_first_hits_are_told() -> None:
    hits = finder(LIST).hits("最佳，" * 200)
    assert hits is not None
    assert [len(hits), hits[-1].start] == [MOST_HITS, 3 * (MOST_HITS - 1)]


@pytest.mark.parametrize("text", ["最佳赏味期" * 4000, "最佳" * 10000, "zuijia" * 3300, "最 佳 " * 5000, "an" * 10000])
def test_no_text_takes_long(text: str) -> None:
    """20,000 characters, made to be slow: each is a fraction of a second, and this machine may be slow."""
    assert finder(LIST).hits(text) is not None


REFUSED = (
    (HEAD + "except: [最优]\nentries: [最佳]\n", ["5:10: this holds no phrase of the list, so it spares nothing"]),
    (HEAD + "except: [最·佳]\nentries: [最佳]\n", ["5:10: this is a phrase of the list itself"]),
    (HEAD + "except: ['··']\nentries: [最佳]\n", ["5:10: nothing of this is read: it is signs alone"]),
    (
        HEAD + "entries: [{value: 最佳, except: [第一次]}, 第一]\n",
        ["5:32: this holds no phrase of the list, so it spares nothing"],
    ),
    (HEAD + "entries: ['❤', 最佳]\n", ["5:11: nothing of this is read: it is signs alone"]),
    (
        HEAD.replace("disguises: true\n", "") + "except: [最佳期]\nentries: [最佳]\n",
        ["4:10: only phrases with 'disguises: true' have exceptions"],
    ),
    (HEAD.replace("phrase", "exact"), ["4:1: only phrases are found through disguises"]),
    (HEAD + "ignore_case: true\n", ["5:1: this list has its own way to compare values"]),
)


@pytest.mark.parametrize(("source", "expected"), REFUSED)
def test_what_makes_no_sense_is_refused(source: str, expected: list[str]) -> None:
    assert problems(source) == expected


def test_the_hash_holds_exceptions_and_disguises() -> None:
    sources = (
        HEAD + "entries: [最佳, 第一]\n",
        HEAD.replace("disguises: true\n", "") + "entries: [最佳, 第一]\n",
        HEAD + "except: [最佳期]\nentries: [最佳, 第一]\n",
        HEAD + "entries: [{value: 最佳, except: [最佳期]}, 第一]\n",
        HEAD + "entries: [{value: 最佳, except: [最佳期, 最佳日]}, 第一]\n",
    )
    assert len({named(source).hash for source in sources}) == len(sources)


def test_the_hash_of_a_list_of_phrases_as_before_is_as_before() -> None:
    """Records pin it."""
    source = "list: words\nabout: x\nmatch: phrase\nentries: [最佳, 第一]\n"
    assert named(source).hash == "9502907d901f24cf1ef75030a3545b2330b5b7fd70f557df7d8b5f31dd87d4d0"


PLAIN = st.text(st.sampled_from("最佳国家级第一abc"), min_size=1, max_size=4)


@given(st.lists(PLAIN, min_size=1, max_size=5, unique=True), st.text(st.sampled_from("最佳国家级第一"), max_size=12))
def test_in_plain_han_both_kinds_of_list_find_the_same(entries: list[str], text: str) -> None:
    """Without disguises and exceptions, `in list` means what it means without `disguises`."""
    until = dict.fromkeys(entries, NEVER)
    assert disguised(until, {}).holds(AT, text) == phrases(until).holds(AT, text)


LOOKALIKES = str.maketrans("最国", "蕞國")
DRESSED = st.sampled_from((lambda c: c, lambda c: c + "\u200b", lambda c: c + "·", lambda c: c.translate(LOOKALIKES)))
AROUND = st.text(st.sampled_from("好的a1 ,。"), max_size=5)


@given(
    st.data(), st.text(st.sampled_from("好的a1 ,。"), max_size=5), st.text(st.sampled_from("好的a1 ,。"), max_size=5)
)
def test_a_phrase_is_found_in_every_dress_and_its_span_read_holds_it(data: Any, before: str, after: str) -> None:
    phrase = data.draw(st.sampled_from(("最佳", "国家级", "微信号")))
    dressed = "".join(data.draw(DRESSED)(letter) for letter in phrase)
    text = before + dressed + after
    hits = finder(LIST).hits(text)
    assert hits is not None

    (hit,) = [hit for hit in hits if hit.phrase == phrase]
    assert phrase in read(text[hit.start : hit.end]).text
    assert len(before) == hit.start


# -- Entries that came through the API --------------------------------------------------------------------------


def added(lists: ListSet, value: str, **more: Any) -> ListSet:
    entry = propose(lists.lists["words"], value, tenant="shop-a", by="li.si", at=AT, reason="seen", **more)
    return lists.with_entry(entry)


def test_a_phrase_through_the_api_is_found_and_never_told() -> None:
    """It can be deleted, so no record may hold it; where it stands is told."""
    lists = added(read_lists([parse(LIST)]), "绝版")
    assert asked(lists).hits("最佳 绝·版") == (Hit("最佳", 0, 2), Hit(None, 3, 6))
    assert lists.lookups(AT, "shop-b")["words"]("绝版") is False


def test_exceptions_of_the_file_hold_for_the_api_too() -> None:
    lists = added(read_lists([parse(HEAD + "except: [绝版书籍最佳]\nentries: [最佳]\n")]), "绝版")
    assert asked(lists).hits("绝版书籍最佳") == ()


def test_what_is_on_both_is_told_once() -> None:
    assert asked(added(read_lists([parse(LIST)]), "最 佳")).hits("最佳") == (Hit("最佳", 0, 2),)


def test_the_end_of_an_entry_is_its_end() -> None:
    lists = added(read_lists([parse(LIST)]), "绝版", expires=AT + 1)
    assert [asked(lists, at)("绝版") for at in (AT, AT + 1)] == [True, False]


def test_a_list_that_cannot_be_read_says_nothing() -> None:
    lists = read_lists([parse(LIST)]).with_unreadable(["words"])
    assert (asked(lists)("最佳"), asked(lists).hits("最佳")) == (None, None)


# -- Rules --------------------------------------------------------------------------------------------------------

WORDS = "list: words\nabout: x\nmatch: phrase\ndisguises: true\nexcept: [最佳赏味期]\nentries: [最佳, 第一品牌]\n"
OTHERS = "list: others\nabout: x\nmatch: phrase\nentries: [最佳]\n"
PACK = """\
pack: wording
about: Words.
for: listing
owner: tests
let:
  said: phrases(listing.title, "words")
  told: phrases(listing.description, "words")
rules:
  - id: wording.title
    when: listing.title in list words
    signal: words_found
    points: 50
    because: {en: "The title says {said}", zh: "标题含{said}"}
    basis: {kind: house-policy, review_by: 2027-05-31}
  - id: wording.text
    when: size(phrases(listing.description, "words")) >= 2
    signal: words_found
    points: 10
    mode: shadow
    because: {en: "The description says {told}", zh: "描述含{told}"}
    basis: {kind: house-policy, review_by: 2027-05-31}
"""
POLICY = """\
policy: shown
for: [listing]
verdicts: [approve, review, decline]
tiers: {standard: {review: 40}}
default_tier: standard
review: {queue: desk, due: 30m, if_late: approve, rejected: decline}
"""
FILES: Mapping[str, str] = {
    "rules/words.yaml": PACK,
    "rules/lists/words.yaml": WORDS,
    "rules/lists/others.yaml": OTHERS,
    "policies/shown.yaml": POLICY,
}

MISTAKES = (
    ("phrases(listing.title, listing.brand)", "phrases() takes a text and the name of a list in quotes"),
    ("phrases(listing.title, words)", "unknown name 'words'"),
    ('phrases(listing.title, "wrods")', "unknown list 'wrods'"),
    ('phrases(listing.title, "others")', "the list 'others' does not say where its phrases stand"),
    ("phrases(listing.title)", "phrases() takes a text and the name of a list in quotes"),
    ('phrases(listing.stock, "words")', "cannot call phrases() with number"),
    (
        'count(last 1d by merchant.id where size(phrases(listing.brand, "words")) > 0)',
        "a window cannot ask a kept list",
    ),
)


@pytest.mark.parametrize(("source", "expected"), MISTAKES)
def test_a_mistake_with_phrases_is_told(tmp_path: Path, source: str, expected: str) -> None:
    files = {**FILES, "rules/words.yaml": PACK.replace('phrases(listing.title, "words")', source)}
    assert expected in "\n".join(told(tmp_path, files))


SHOWN = (
    ("listing.title", "the message shows 'said', which holds personal data (listing.title)"),
    ("lower(listing.title)", "the message shows 'said', which holds personal data (listing.title)"),
    (
        'phrases(merchant.payout_account, "words")',
        "the message shows 'said', which holds personal data (merchant.payout_account)",
    ),
)


@pytest.mark.parametrize(("source", "expected"), SHOWN)
def test_a_message_shows_phrases_of_goods_alone(tmp_path: Path, source: str, expected: str) -> None:
    """A list's own phrases say nothing of the seller's text but that they stand in it; of a person that is too much."""
    files = {**FILES, "rules/words.yaml": PACK.replace('phrases(listing.title, "words")', source, 1)}
    assert expected in "\n".join(told(tmp_path, files))


@pytest.fixture
def settings(key_path: Path, tmp_path: Path, _migrated_sqlite: Path) -> Settings:
    write(tmp_path, FILES)
    shutil.copy2(key_path, tmp_path / "keys.json")
    shutil.copyfile(_migrated_sqlite, tmp_path / "a.db")
    url = f"sqlite:///{tmp_path / 'a.db'}"
    return Settings(url, key_file=tmp_path / "keys.json", rules=tmp_path / "rules", policies=tmp_path / "policies")


@pytest.fixture
async def arbiter(settings: Settings) -> AsyncIterator[Arbiter]:
    async with running(settings, Clock()) as it:
        yield it


REVEAL = Caller("audit", "person", "shop-a", frozenset({"audit", "reveal"}))


async def explained(arbiter: Arbiter, caller: Caller, title: str, text: str | None = None) -> dict[str, Any]:
    listing = {"id": "l1", "title": title} | ({"description": text} if text else {})
    body = {
        "kind": "listing",
        "event_id": "e1",
        "at": "2026-11-23T12:00:00Z",
        "merchant": {"id": "m1"},
        "listing": listing,
    }
    answer = await judged(arbiter, orjson.dumps(body))
    reveal = Reveal("audit" if "reveal" in caller.scopes else None, per_hour=9)
    return await arbiter.explanation(answer["id"], caller, reveal)


TITLE = "曲奇 蕞·佳口感"


@pytest.mark.anyio
async def test_the_message_shows_the_phrases_of_the_list(arbiter: Arbiter) -> None:
    (rule,) = (await explained(arbiter, SHOP, TITLE))["rules"]
    assert rule["message"] == {"en": "The title says 最佳", "zh": "标题含最佳"}


@pytest.mark.anyio
async def test_the_explanation_shows_the_words_to_who_may_see_them(arbiter: Arbiter) -> None:
    hit = {"field": "listing.title", "list": "words", "phrase": "最佳", "start": 3, "end": 6}
    (rule,) = (await explained(arbiter, SHOP, TITLE))["rules"]
    assert rule["hits"] == [{**hit, "words": SEALED}]
    (rule,) = (await explained(arbiter, REVEAL, TITLE))["rules"]
    assert rule["hits"] == [{**hit, "words": "蕞·佳"}]


@pytest.mark.anyio
async def test_hits_of_rules_in_the_shadow_are_told_as_well(arbiter: Arbiter) -> None:
    shown = await explained(arbiter, REVEAL, "曲奇", "最佳！第一品牌！最佳！")
    (rule,) = shown["rules"]
    assert [(hit["field"], hit["phrase"], hit["words"]) for hit in rule["hits"]] == [
        ("listing.description", "最佳", "最佳"),
        ("listing.description", "第一品牌", "第一品牌"),
        ("listing.description", "最佳", "最佳"),
    ]


@pytest.mark.anyio
async def test_the_leaf_holds_spans_and_nothing_that_the_seller_wrote(arbiter: Arbiter) -> None:
    shown = await explained(arbiter, SHOP, TITLE)
    record = await record_of(arbiter, shown)

    assert record["hits"] == [{"field": "listing.title", "list": "words", "phrase": "最佳", "start": 3, "end": 6}]
    assert "曲奇" not in str(record)
    assert list(record["pins"]["lists"]) == ["words"]


@pytest.mark.anyio
async def test_a_record_without_hits_has_no_such_key(arbiter: Arbiter) -> None:
    shown = await explained(arbiter, SHOP, "曲奇 最佳赏味期三天")
    assert "hits" not in await record_of(arbiter, shown)


@pytest.mark.parametrize(("title", "text"), [(TITLE, "最佳，第一品牌"), ("曲奇", None)])
@pytest.mark.anyio
async def test_it_comes_out_the_same_in_a_replay(
    settings: Settings, tmp_path: Path, title: str, text: str | None
) -> None:
    async with running(settings, Clock()) as arbiter:
        shown = await explained(arbiter, SHOP, title, text)
    (found,) = await met(Ground(tmp_path, [shown["id"]]), [shown["id"]])
    assert found.past is not None, found.why
    replayed = found.replayer.replay(found.leaf, found.past)
    assert (replayed.level, replayed.differences) == ("full", ())
    assert found.replayer.replay(found.leaf).differences == ()


# -- The shipped lists ------------------------------------------------------------------------------------------


SHIPPED = sorted(
    path.stem for path in (ROOT / "rules/lists").glob("*.yaml") if "disguises: true" in path.read_text("utf-8")
)


def shipped_list(name: str) -> Finder:
    found = read_lists([read_file(ROOT / f"rules/lists/{name}.yaml", root=ROOT)]).lookups(AT, "shop-a")[name]
    assert isinstance(found, Finder)
    return found


def test_there_are_lists_to_look_at() -> None:
    assert len(SHIPPED) == 13


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize(
    "title", ["专柜正品 高档 羊绒衫", "正品包邮 高档礼盒", "无线耳机 Pro 主动降噪 15.6寸", "儿童积木 1000 块"]
)
def test_plain_titles_are_on_no_list(name: str, title: str) -> None:
    """正品 and 高档 alone are no violation."""
    assert shipped_list(name)(title) is False


TITLES = "data/titles/taobao_train.txt"
REPORTED = {
    "ad-absolutes": ["极品", "最in", "减震之王", "极品", "最in"],
    "counterfeit-hints": [],
    "drug-words": [],
    "health-food-bans": ["消炎", "治疗", "消炎", "降血脂", "治疗", "消炎", "治疗", "消炎"],
    "medical-assurances": [],
    "medical-claims": ["消炎", "消炎", "降血脂", "消炎", "治疗", "消炎"],
    "off-platform-contact": [],
    "pornography": [],
    "review-incentives": [],
    "spy-and-forgery": [],
    "state-organs": [],
    "weapon-words": ["甩棍", "狙击枪", "甩棍", "狙击枪"],
    "wildlife-words": [],
}


@pytest.mark.data(TITLES)
@pytest.mark.parametrize("name", SHIPPED)
def test_of_real_titles_this_much_is_reported(name: str) -> None:
    """The first phrase of each title that is reported; whoever changes a list sees here what it does."""
    known, titles = shipped_list(name), (SHARED / TITLES).read_text("utf-8").split("\n")
    found = [hits[0].phrase for hits in map(known.hits, titles) if hits]
    assert sorted(map(str, found)) == sorted(REPORTED[name])


@pytest.mark.data(TITLES)
def test_of_real_titles_with_nothing_but_genuine_and_fine_goods_no_superlative_is_reported() -> None:
    known, titles = shipped_list("ad-absolutes"), (SHARED / TITLES).read_text("utf-8").split("\n")
    plain = [title for title in titles if "正品" in title or "高档" in title]
    assert len(plain) > 300
    assert [title for title in plain if known(title)] == []


# -- Commands -----------------------------------------------------------------------------------------------------


def command(*args: str, **environ: str) -> str:
    result = CliRunner().invoke(main, args, env=environ)
    assert result.exit_code == 0, result.output
    return result.output


def test_list_ask_tells_where_phrases_stand(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    where = ("--rules", str(tmp_path / "rules"), "--policies", str(tmp_path / "policies"))

    assert command("list", "ask", "words", TITLE, *where) == "on the list\n  3:6  最佳  蕞·佳\n"
    assert command("list", "ask", "words", "曲奇", *where) == "not on the list\n"
    told = json.loads(command("list", "ask", "words", TITLE, "--json", *where))
    assert told["hits"] == [{"phrase": "最佳", "start": 3, "end": 6, "words": "蕞·佳"}]


def test_explain_tells_where_phrases_stand(settings: Settings, tmp_path: Path) -> None:
    async def decide() -> None:
        async with running(settings, Clock()) as arbiter:
            await explained(arbiter, SHOP, TITLE)

    asyncio.run(decide())
    environ = {"ARBITER_DATABASE_URL": settings.database_url, "ARBITER_KEY_FILE": str(tmp_path / "keys.json")}

    shown = command("explain", "e1", **environ)
    assert "\n    words: '最佳' at 3:6 of listing.title: sealed\n" in shown
