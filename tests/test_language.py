"""Messages in Chinese: the catalogue beside the source, and the commands as officers see them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli import main
from cli.chinese import chinese
from cli.language import width
from engine.errors import PackError, Problem
from engine.expr import BOOL
from engine.packs import read, validate
from engine.rulebook import load
from engine.tuning import thresholds
from tests import books, messages, test_exemptions, test_lists, test_packs, test_rulebook, test_tune
from tests.test_expr import CASES as CONDITIONS
from tests.test_expr import problems as problems_of_condition

ROOT = Path(__file__).parent.parent
HANDBOOK = ROOT / "docs/examples/handbook"
OCTOBER = ROOT / "docs/examples/october"
HISTORY = ("--data", str(OCTOBER / "orders.csv"), "--map", str(OCTOBER / "orders.map.yaml"))
PACKS = ("--rules", str(HANDBOOK / "rules"), "--policies", str(HANDBOOK / "policies"))
HAN = re.compile(r"[\u4e00-\u9fff]")
HOLE = re.compile(r"\{(\d+|[nm])[!+]?\}")
CODE = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|[\w-]+(?:\.[\w-]+)+(?::\d+:\d+)?|--[a-z-]+|[A-Z][A-Z_]+")
ENGLISH = re.compile(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}")


def arbiter(*args: str | Path, lang: str | None = "zh") -> Result:
    """One run of a command in this process. A traceback fails the test."""
    settings: dict[str, str | None] = {name: None for name in os.environ if name.startswith("ARBITER_")}
    settings["ARBITER_LANG"] = lang
    result = CliRunner().invoke(main, list(map(str, args)), env=settings, prog_name="arbiter")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def entries() -> Iterator[tuple[str, str]]:
    """Every English template of the catalogue with its Chinese one."""
    for part in messages.catalogue().values():
        yield from part.items()


def filled(template: str, values: Mapping[str, str]) -> str:
    return HOLE.sub(lambda hole: values[hole[1]], template)


# The catalogue


def test_every_message_of_the_source_has_its_chinese_text() -> None:
    assert messages.missing() == [], "python -m tests.messages prints what cli/zh.yaml lacks"


def test_nothing_in_the_catalogue_is_of_a_message_that_is_gone() -> None:
    assert messages.stale() == []


def test_a_chinese_text_says_all_that_the_english_one_says() -> None:
    lost = {
        english: chinese
        for english, chinese in entries()
        if {hole[0] for hole in HOLE.findall(english) or ()} != {hole[0] for hole in HOLE.findall(chinese) or ()}
    }

    assert lost == {}


SAMPLES = [
    {**{str(number): value for number, value in enumerate(values)}, "n": "17", "m": "1,204"}
    for values in (
        ("k1.burst", "zq-2", "k3", "zq_4", "k5", "k6", "k7"),
        ("41", "42", "43", "44", "45", "46", "47"),
        ("rules/x.yaml", "7.5", "buyer.qq", "12", "zz", "q8", "q9"),
    )
]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(SAMPLES[0], id="names", marks=pytest.mark.slow),
        pytest.param(SAMPLES[1], id="numbers", marks=pytest.mark.slow),
        pytest.param(SAMPLES[2], id="both"),
    ],
)
def test_a_finished_text_is_taken_for_its_own_template_and_no_other(values: Mapping[str, str]) -> None:
    found = messages.catalogue()
    wrong = []
    for english, wanted in {**found["messages"], **found["composed"]}.items():
        text = filled(english, values)
        if chinese().translated(text) != filled(wanted, values):
            wrong.append((english, text, chinese().translated(text)))

    assert wrong == []


@cache
def conditions() -> list[str]:
    """The conditions of the shipped rules, those that speak like a message first."""
    texts = {rule.condition.text for rule in load(ROOT / "rules", ROOT / "policies").rules}
    return sorted(texts, key=lambda text: ("missing" not in text, " or " not in text, len(text)))[:40]


def test_no_condition_in_a_message_is_translated() -> None:
    found = messages.catalogue()
    wrong = []
    for number, (english, _) in enumerate({**found["messages"], **found["composed"]}.items()):
        condition = conditions()[number % 40]
        values = {**{str(at): condition for at in range(8)}, "n": "17", "m": "18"}
        if re.search(r"\{\d", english) and condition not in chinese().translated(filled(english, values)):
            wrong.append((english, condition, chinese().translated(filled(english, values))))

    assert wrong == []


# Problems


def kept(problem: Problem) -> list[str]:
    """What must be the same in every language: names, keys and code, which stand in quotes."""
    return sorted(re.findall(r"'[^']+'", problem.what))


def told_in_chinese(problem: Problem) -> bool:
    said = replace(problem, what=chinese().translated(problem.what), hint=chinese().translated(problem.hint))
    whole = bool(HAN.search(said.what)) and (not said.hint or bool(HAN.search(said.hint)))
    return whole and kept(said) == kept(problem) and not ENGLISH.search(CODE.sub(" ", said.what))


def refused(action: Callable[[], Any]) -> tuple[Problem, ...]:
    with pytest.raises(PackError) as caught:
        action()
    return caught.value.problems


@pytest.mark.parametrize("case", sorted(test_packs.CASES.glob("bad/*.yaml")), ids=lambda path: path.stem)
def test_a_bad_file_is_refused_in_chinese_at_the_same_places(case: Path) -> None:
    assert [each for each in refused(lambda: read(case, root=case.parent)) if not told_in_chinese(each)] == []


@pytest.mark.parametrize("case", sorted(test_packs.CASES.glob("shape/*.yaml")), ids=lambda path: path.stem)
def test_a_file_of_the_wrong_shape_is_refused_in_chinese(case: Path) -> None:
    problems = refused(lambda: validate(read(case, root=case.parent), test_packs.Menu))
    own = {"this dish is not on the menu", "the price of one portion"}

    assert [each for each in problems if not told_in_chinese(each) and not {each.what, each.hint} & own] == []


RULEBOOKS = [
    *((name, files) for name, files, said in test_rulebook.CROSSED if said),
    *((name, {**books.SMALL, **wrong}) for name, wrong, _ in test_rulebook.TOGETHER),
]


@pytest.mark.parametrize("files", [files for _, files in RULEBOOKS], ids=[name for name, _ in RULEBOOKS])
def test_a_bad_rulebook_is_refused_in_chinese(tmp_path: Path, files: Mapping[str, str]) -> None:
    books.write(tmp_path, files)
    problems = refused(lambda: load(tmp_path / "rules", tmp_path / "policies"))

    assert [each for each in problems if not told_in_chinese(each)] == []


@pytest.mark.parametrize("source", [row[0] for row in test_lists.REFUSED])
def test_a_bad_list_is_refused_in_chinese(source: str) -> None:
    assert [each for each in refused(lambda: test_lists.named(source)) if not told_in_chinese(each)] == []


@pytest.mark.parametrize("change", [row[0] for row in test_exemptions.REFUSED])
def test_a_bad_exception_is_refused_in_chinese(change: dict[str, str | None]) -> None:
    assert [each for each in refused(lambda: test_exemptions.exemptions(change)) if not told_in_chinese(each)] == []


@pytest.mark.parametrize("case", CONDITIONS["refused"], ids=lambda case: str(case["when"])[:40])
def test_a_bad_condition_is_refused_in_chinese(case: dict[str, Any]) -> None:
    assert [
        problem for problem in problems_of_condition(case["when"], expect=BOOL) if not told_in_chinese(problem)
    ] == []


def test_a_problem_keeps_its_place_and_its_caret(tmp_path: Path) -> None:
    rules = books.RULES.replace("amount == 41 CNY", "金额 == 41 CNY")
    books.write(tmp_path, {**books.SMALL, "rules/small.yaml": rules})
    english = arbiter("check", tmp_path, lang="en").stdout.splitlines()
    told = arbiter("check", tmp_path).stdout.splitlines()

    assert [line.partition(": ")[0] for line in told if "small.yaml:" in line] == [
        line.partition(": ")[0] for line in english if "small.yaml:" in line
    ]
    assert [line for line in told if set(line.strip()) == {"^"}] == [
        line for line in english if set(line.strip()) == {"^"}
    ]


# Commands


def plain(text: str) -> list[str]:
    """Lines with English sentences in them, without what is code, a name or written by people."""
    return [line for line in text.splitlines() if ENGLISH.search(CODE.sub(" ", line))]


def test_check_speaks_chinese() -> None:
    told = arbiter("check", HANDBOOK)

    assert told.exit_code == 0
    assert re.fullmatch(r"3 条规则，1 个策略，1 个自有字段，\d+ 个测试通过，0 个问题\n", told.stdout)
    assert plain(told.stderr) == []


def test_prove_speaks_chinese_in_columns_of_one_width() -> None:
    told = arbiter("prove", ROOT / "policies/merchant.yaml", "--rules", ROOT / "rules", "--policies", ROOT / "policies")

    *lines, last = told.stdout.splitlines()
    assert all(re.match(r"已证明    merchant: [a-z-]+( \([\u4e00-\u9fff]+\))?$", line) for line in lines)
    assert re.fullmatch(r"\d+ 个不变式，\d+ 个已证明，0 个已证伪，0 个未定", last)


def test_what_breaks_an_invariant_is_told_in_chinese_and_its_case_stays_as_it_is_pasted(tmp_path: Path) -> None:
    shutil.copytree(HANDBOOK, tmp_path / "packs")
    with (tmp_path / "packs/policies/handbook.yaml").open("a", encoding="utf-8") as policy:
        policy.write("invariants:\n  - id: never-large\n    never: verdict == approve when amount > 1 EUR\n")
    told = arbiter("prove", tmp_path / "packs").stdout.splitlines()
    english = arbiter("prove", tmp_path / "packs", lang="en").stdout.splitlines()

    assert told[0] == "已证伪    handbook: never-large"
    assert told[1] == english[1]
    assert told[2:] == [
        "    以下用例违反它，请放到它的 tests 下：",
        english[3],
        "1 个不变式，0 个已证明，1 个已证伪，0 个未定",
    ]


def test_a_rule_that_fails_its_test_and_can_never_fire_is_told_in_chinese(tmp_path: Path) -> None:
    shutil.copytree(HANDBOOK, tmp_path / "packs")
    rules = tmp_path / "packs/rules/handbook.yaml"
    rules.write_text(rules.read_text("utf-8").replace("> 220 EUR", "> 220 EUR and amount < 100 EUR", 1), "utf-8")
    told = arbiter("check", tmp_path / "packs").stdout

    assert "规则 'handbook.large-amount' 永远不会触发：'amount > 220 EUR' 与 'amount < 100 EUR' 永不同时为真" in told
    assert "    提示：规则的各判断项及其结果：\n      true    amount > 220 EUR    [amount = 220.01 EUR]\n" in told
    assert "1 个失败，2 个问题" in told


def test_test_speaks_chinese() -> None:
    told = arbiter("test", *PACKS)

    assert re.search(r"^通过    handbook\.large-amount: ", told.stdout, re.MULTILINE)
    assert re.search(r"^\d+ 个测试，0 个失败$", told.stdout, re.MULTILINE)


def test_mutants_are_told_in_chinese_and_tests_stay_as_they_are_pasted() -> None:
    told = arbiter("test", *PACKS, "--mutate", "--jobs", "1")
    english = arbiter("test", *PACKS, "--mutate", "--jobs", "1", lang="en")

    def pasted(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith("      ")]

    assert pasted(told.stdout) == pasted(english.stdout)
    assert re.search(r"\d+ 个变异体，杀死 \d+ 个，存活 \d+ 个：[\d.]+ %$", told.stdout)
    changes = [line for line in told.stdout.splitlines() if line.startswith("  ") and not line.startswith("   ")]
    assert all(HAN.match(line.strip()) for line in changes)


def test_coverage_is_told_in_chinese() -> None:
    told = arbiter("test", *PACKS, "--coverage").stdout

    assert re.search(r"3 条规则，其中 \d+ 条的各种情况都见过；\d+ 个判断项中有 \d+ 个真假都见过\n$", told)


def test_fmt_speaks_chinese() -> None:
    assert arbiter("fmt", "--check", HANDBOOK).stderr == "查看了 3 个文件，0 个将改变\n"


def test_a_backtest_is_told_in_chinese_and_its_columns_stand_in_line(tmp_path: Path) -> None:
    told = arbiter("backtest", *HISTORY, *PACKS, "--out", tmp_path / "out")

    assert told.exit_code == 0, told.output
    tables = [part.splitlines() for part in told.stdout.split("\n\n")[1:4]]
    for table in tables:
        assert HAN.search(table[0])
        assert len({width(line) for line in table}) == 1, table
    assert plain(told.output) == []
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert '<html lang="zh">' in page
    heads = re.findall(r"<(?:h1|h2|figcaption|title)>(.*?)</", page)
    assert [head for head in heads if not HAN.search(head)] == []


def test_score_tells_in_chinese_what_it_judged_and_what_it_refused(tmp_path: Path) -> None:
    rows = (OCTOBER / "orders.csv").read_text("utf-8").splitlines()[:4]
    (tmp_path / "orders.csv").write_text(
        "\n".join([*rows, "o-9,2026-13-01T00:00:00+08:00,x,u,no,c,toys,CN,no"]), "utf-8"
    )
    told = arbiter("score", tmp_path / "orders.csv", *HISTORY[2:], *PACKS, "--out", "-", "--out-format", "jsonl")

    refused, judged, *_, rejected, speed = told.stderr.splitlines()
    assert refused == "第 4 行：at (列 paid)：不是 ISO 8601 时间；amount (列 amount)：需要普通数字，例如 12.50"
    assert judged == "october：已判定 3 个 transaction 事件，当时已知 2 个结果"
    assert rejected == "  已拒收                 1"
    assert re.fullmatch(r"[\d.]+ 秒，每秒 [\d,]+ 个事件，每个 [\d,]+ µs", speed)


def test_an_import_into_a_list_is_told_in_chinese(tmp_path: Path) -> None:
    shutil.copy(ROOT / "rules/lists/tor-exits.yaml", tmp_path)
    (tmp_path / "good.txt").write_text("192.0.2.7\n", "utf-8")
    (tmp_path / "bad.txt").write_text("xx yy\n", "utf-8")
    into = ("--as", "text", "--into", tmp_path / "tor-exits.yaml")
    shown = arbiter("list", "import", tmp_path / "good.txt", *into)
    wrong = arbiter("list", "import", tmp_path / "bad.txt", *into)

    assert "之前 0 个条目，之后 1 个，0 个不变\n1 个新增\n  + 192.0.2.7\n" in shown.stdout
    assert shown.stderr == "尚未写入任何内容：请加 --apply\n"
    assert "bad.txt:1:1: 这不是 IP 地址" in wrong.stderr
    assert wrong.stderr.endswith("arbiter：1 个问题；没有写入任何内容\n")


def test_a_diff_is_told_in_chinese(tmp_path: Path) -> None:
    rules = (HANDBOOK / "rules/handbook.yaml").read_text("utf-8").replace("points: 50", "points: 20")
    policies = {path.name: path.read_text("utf-8") for path in (HANDBOOK / "policies").iterdir()}
    books.write(
        tmp_path, {"rules/handbook.yaml": rules, **{f"policies/{name}": text for name, text in policies.items()}}
    )
    told = arbiter("diff", HANDBOOK, tmp_path, *HISTORY).stdout

    assert "## 有何改变" in told
    assert "### decline → approve：108 个事件" in told
    assert re.search(r"^- 第 \d+ 行，`o-\d+`，\S+，\d+ CNY：分数 50 → 20$", told, re.MULTILINE)
    assert plain(re.sub(r"^  - .*$", "", told, flags=re.MULTILINE)) == []


def test_a_rule_is_asked_for_and_written_in_chinese(tmp_path: Path) -> None:
    books.write(tmp_path, books.SMALL)
    packs = ("--rules", tmp_path / "rules", "--policies", tmp_path / "policies")
    given = ("--for", "transaction", "--about", "x", "--owner", "y", "--signal", "big", "--en", "a", "--zh", "b")
    asked = arbiter("rule", "new", "first.big", *packs)
    wrong = arbiter("rule", "new", "first.big", *packs, *given, "--severity", "low", "--when", "amout > 5 CNY")
    made = arbiter("rule", "new", "first.big", *packs, *given, "--severity", "low", "--when", "amount > 5 CNY")

    assert asked.stderr.startswith("arbiter: 无人可问：请给出 --for")
    assert "未知的名称 'amout'" in wrong.stderr
    assert "    提示：是否想写 'amount'？" in wrong.stderr
    assert re.search(r"\n已写入 \S+/first\.yaml，mode shadow；2 个测试通过\n$", made.stdout)


def in_line(table: str) -> bool:
    """Whether a table has Chinese heads and columns that all end in the same cell of the terminal."""
    lines = table.splitlines()
    ends = [width(line) for line in lines if not line.endswith(("现值", "建议值"))]
    return bool(HAN.search(lines[0])) and len(set(ends)) == 1


def test_tune_tells_in_chinese_what_a_threshold_does_and_its_columns_stand_in_line(tmp_path: Path) -> None:
    options = test_tune.shop(tmp_path, test_tune.orders(), test_tune.THREE)
    limits = ("--limit", "fpr <= 1%", "--limit", "alerts <= 5/d", "--alert-cost", "3 CNY")
    told = arbiter("tune", *options, "--rule", "tuned.large", *limits, "--out", tmp_path / "rules/less.yaml").stdout

    periods, curve, compared, verdict, draft = told.split("\n\n")
    name, fit, later, *_ = periods.splitlines()
    assert name == "tuned.large：amount > 50 CNY"
    assert re.fullmatch(r"前段（拟合） 2026-08-01 至 2026-09-04：\d+ 个 transaction 事件，其中欺诈 \d+ 笔", fit)
    assert re.fullmatch(r"后段（报告） 2026-09-10 至 2026-09-30：\d+ 个 transaction 事件，其中欺诈 \d+ 笔", later)
    assert {width(line.partition(" ")[0]) for line in (fit, later)} == {12}
    assert in_line(curve)
    assert in_line(compared)
    assert (
        curve.splitlines()[0].split() == "阈值 每日告警 召回率 误报率 精确率 捕获的欺诈 误伤的正常订单 净收益".split()
    )
    assert re.match(r"建议：> \d+ CNY，在前段满足 fpr <= 1% 且 alerts <= 5/d\n后段满足 fpr <= 1%：", verdict)
    assert draft.startswith(f"已写入 {tmp_path}/rules/less.yaml，处于影子模式；下一步：arbiter check ")
    assert plain(told) == []


def test_a_fit_that_does_not_hold_is_told_in_chinese(tmp_path: Path) -> None:
    rows = [row | {"amount": "2000.00"} if row["at"] >= "2026-09-09" else row for row in test_tune.orders()]
    goal = ("--limit", "fpr <= 1%", "--limit", "alerts <= 5/d", "--alert-cost", "500 CNY")
    told = arbiter("tune", *test_tune.shop(tmp_path, rows), "--rule", "tuned.large", *goal).stdout

    assert "拟合不可靠：后段违反 fpr <= 1%：100.00% (" in told
    assert "拟合不可靠：后段的精确率比前段差，差异超出偶然波动\n" in told
    assert "拟合不可靠：后段的告警数量比前段差，差异超出偶然波动\n" in told
    assert told.endswith("拟合不可靠：后段告警的成本高于其挽回的金额\n")
    assert plain(told) == []


@pytest.mark.parametrize(
    ("goal", "says"),
    [
        ("--limit 'alerts <= 0/d'", "没有阈值能在前段满足 alerts <= 0/d 并捕获欺诈；不作建议\n"),
        ("--alert-cost '4000 CNY'", "没有阈值捕获的欺诈抵得上告警的成本；不作建议\n"),
        (
            "--limit 'fpr <= 1%' --limit 'recall >= 90%' --alert-cost '4000 CNY'",
            "没有阈值能在前段满足 fpr <= 1% 且 recall >= 90%，且捕获的欺诈抵得上告警的成本；不作建议\n",
        ),
    ],
)
def test_where_nothing_is_suggested_chinese_says_why(tmp_path: Path, goal: str, says: str) -> None:
    told = arbiter("tune", *test_tune.shop(tmp_path, test_tune.orders()), "--rule", "tuned.large", *shlex.split(goal))

    assert told.exit_code == 1
    assert told.stdout.endswith(says)


def test_the_score_of_a_policy_is_tuned_in_chinese(tmp_path: Path) -> None:
    options = test_tune.shop(tmp_path, test_tune.orders(), test_tune.THREE)
    told = arbiter("tune", *options, "--verdict", "challenge", "--limit", "recall >= 1%").stdout

    assert told.startswith("till，层级 standard：challenge 的起始分数（1 至 44）\n")
    assert plain(told) == []


def test_a_scorecard_is_told_in_chinese_and_its_columns_stand_in_line(tmp_path: Path) -> None:
    options = test_tune.shop(tmp_path, test_tune.orders(), test_tune.THREE)
    out = tmp_path / "rules/card.yaml"
    told = arbiter("tune", *options, "--scorecard", "amount, buyer.guest, channel", "--out", out).stdout

    _, bands, ranks, curve, *_ = told.split("\n\n")
    table, notes = "\n".join(bands.splitlines()[:5]), bands.splitlines()[5:]
    assert in_line(table)
    assert table.splitlines()[0].split() == "特征 分箱 分值 事件 欺诈 欺诈率".split()
    assert re.search(r"^buyer\.guest +是 ", table, re.MULTILINE)
    assert re.search(r"^amount +大于 \d+ CNY ", table, re.MULTILINE)
    assert re.match(r"每增加 10 分，欺诈几率 \(odds\) 翻一倍；分数为 0 时约为 1 比 [\d,]+$", notes[0])
    assert notes[-1] == "未纳入：channel：各分箱之间的差异都未超出偶然波动"
    assert in_line(ranks)
    assert in_line(curve)
    assert plain(told) == []


def test_a_draft_is_the_same_in_every_language(tmp_path: Path) -> None:
    options = test_tune.shop(tmp_path, test_tune.orders(), test_tune.THREE)
    drafts = [tmp_path / lang / "draft.yaml" for lang in ("en", "zh")]
    for out in drafts:
        out.parent.mkdir()
        arbiter("tune", *options, "--scorecard", "amount, buyer.guest", "--out", out, lang=out.parent.name)

    assert drafts[0].read_bytes() == drafts[1].read_bytes()


@pytest.mark.parametrize("words", [words for words, _ in test_tune.REFUSED], ids=" ".join)
def test_what_cannot_be_tuned_is_said_in_chinese(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    told = arbiter("tune", *test_tune.shop(tmp_path, test_tune.orders(), test_tune.THREE), *words).stderr

    assert HAN.search(told)
    assert plain(told) == []


def test_all_that_a_history_lacks_is_told_in_chinese(tmp_path: Path) -> None:
    rows = [row | {"fraud": "false"} for row in test_tune.orders()]
    told = arbiter("tune", *test_tune.shop(tmp_path, rows), "--rule", "tuned.large").stderr

    assert told == (
        "arbiter: 前段用于拟合的 340 个 transaction 事件中没有欺诈；后段用于报告的 210 个 transaction 事件中没有欺诈："
        "历史从 2026-08-01 到 2026-09-30，前段截止于 2026-09-10 之前，事件发生 5 天后才得知结果；"
        "请另选 --fit-until，或用更长的历史\n"
    )


def test_a_threshold_stays_as_its_rule_has_it() -> None:
    rules = load(ROOT / "rules", ROOT / "policies").rules
    texts = {each.text for rule in rules for each in thresholds(rule.condition)}

    assert len(texts) > 10
    assert {text for text in texts if chinese().translated(text) != text} == set()


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("test --only suspect", "arbiter: 此处没有规则或测试套件 'suspect'\n"),
        ("rule new x", "arbiter: 'x' 不是 id：请写文件名、一个点和名称，例如 card-testing.burst\n"),
        ("tune --data README.md --map README.md --rule x --verdict y",
         "arbiter: --rule ID、--verdict VERDICT、--anomaly 或 --scorecard EXPR,...: 请说明要调优什么，从中只选一项\n"),
        ("experiment report x", "arbiter: 没有实验 'x'；规则集中没有实验\n"),
        ("schema pak", "arbiter: 没有文件种类 'pak'；是否想写 'pack'？\n"),
        ("proposal list", "arbiter: 谁的密钥？请用 --key-file，或设置 ARBITER_SERVER_KEY_FILE\n"),
        ("rollback --reason x", "arbiter: 谁的密钥？请用 --key-file，或设置 ARBITER_SERVER_KEY_FILE\n"),
    ],
)  # fmt: skip
def test_what_is_refused_is_refused_in_chinese(typed: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    assert arbiter(*typed.split()).stderr == says


# The language


@pytest.mark.parametrize(
    "typed",
    [
        ("check", str(ROOT / "tests/cases/packs/bad/duplicate-keys.yaml"), "--json"),
        ("test", *PACKS, "--json", "--coverage", "--mutate", "--jobs", "1"),
        ("prove", *PACKS, "--json"),
        ("schema", "any"),
        ("tune", *HISTORY, *PACKS, "--verdict", "decline", "--limit", "fpr <= 2%", "--json"),
        ("tune", *HISTORY, *PACKS, "--scorecard", "amount in CNY, channel", "--json"),
        ("list", "ask", "tor-exits", "192.0.2.66", "--json", "--rules", str(ROOT / "rules")),
    ],
    ids=lambda typed: " ".join(typed[:1]),
)
def test_what_machines_read_is_the_same_in_every_language(typed: tuple[str, ...]) -> None:
    told = arbiter(*typed).stdout

    assert told == arbiter(*typed, lang="en").stdout
    assert json.loads(told) is not None


def test_the_option_goes_before_the_setting() -> None:
    assert "0 problems" in arbiter("check", HANDBOOK, "--lang", "en").stdout
    assert "0 个问题" in arbiter("check", HANDBOOK, "--lang", "zh", lang=None).stdout
    assert "0 problems" in arbiter("check", HANDBOOK, lang=None).stdout


def test_a_language_that_there_is_not_is_refused_before_anything_is_done() -> None:
    told = arbiter("fmt", HANDBOOK, lang="fr")

    assert told.exit_code == 2
    assert "'--lang' (env var: 'ARBITER_LANG'): 'fr' is not one of 'en', 'zh'" in told.stderr


def test_english_loads_no_catalogue() -> None:
    code = """
import sys
from cli import main
from cli.chinese import chinese
try:
    main(["check", sys.argv[1]], prog_name="arbiter")
except SystemExit:
    pass
print(chinese.cache_info().currsize)
"""
    environ = {name: value for name, value in os.environ.items() if name != "ARBITER_LANG"}
    told = subprocess.run(
        [sys.executable, "-c", code, str(HANDBOOK)], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )

    assert told.stdout.splitlines()[-2:][0].endswith("0 problems")
    assert told.stdout.splitlines()[-1] == "0"
