"""Rule files: what each mistake in one is called, where it is pointed at, and what a good one becomes."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from engine.expr import BOOL, DURATION, INSTANT, MONEY, NUMBER, TEXT, Vocabulary, list_of
from engine.money import Money
from engine.packs import parse
from engine.rules import PackReader, Rule, message, show
from engine.schema import schema

SCHEMA = schema()
FIELDS = {kind: SCHEMA.fields(kind) for kind in SCHEMA.kinds}
GOOD = """\
pack: payments/card-testing
about: Stolen cards are tried out.
for: payment
owner: payments-risk
let:
  tries: count(last 10m by card.ref)
rules:
  - id: card-testing.burst
    when: tries >= 5 and amount <= 20 CNY
    signal: card_testing
    severity: high
    points: 45
    because:
      en: "{tries} attempts"
      zh: "{tries} 次尝试"
    basis: {kind: house-policy, review_by: 2027-05-31}
"""


def vocabulary(kinds: tuple[str, ...]) -> Vocabulary:
    """The fields that all of `kinds` have, and one list."""
    first, *rest = (FIELDS[kind] for kind in kinds)
    common = {path: field for path, field in first.items() if all(path in fields for fields in rest)}
    return Vocabulary(fields=common, kinds=FIELDS, kind=kinds, lists={"tor-exits": "cidr"})


def read(content: str) -> tuple[tuple[Rule, ...], list[str]]:
    """The rules of a file, and its problems as a person sees them."""
    reader = PackReader(vocabulary, SCHEMA.kinds, [])
    rules = reader.rules(parse(content, "card-testing.yaml"))
    return rules, [problem.render() for problem in sorted(reader.problems)]


def changed(*changes: tuple[str, str]) -> str:
    content = GOOD
    for old, new in changes:
        assert old in content, old
        content = content.replace(old, new)
    return content


MISTAKES = [
    (
        "a kind that does not exist",
        "for: payment",
        "for: paymnt",
        """\
card-testing.yaml:3:6: there is no kind of event 'paymnt'
    for: paymnt
         ^^^^^^
    hint: did you mean 'payment'?""",
    ),
    (
        "one kind of several",
        "for: payment",
        "for: [payment, listng]",
        """\
card-testing.yaml:3:16: there is no kind of event 'listng'
    for: [payment, listng]
                   ^^^^^^
    hint: did you mean 'listing'?""",
    ),
    (
        "no kind",
        "for: payment",
        "for: []",
        """\
card-testing.yaml:3:6: must not be empty
    for: []
         ^^""",
    ),
    (
        "a name that a field has",
        "  tries: count",
        "  amount: 20 CNY\n  tries: count",
        """\
card-testing.yaml:6:3: 'amount' is already a field of the event
      amount: 20 CNY
      ^^^^^^
    hint: choose another name""",
    ),
    (
        "a name that is a word of the language",
        "  tries: count",
        "  seen: now - at\n  tries: count",
        """\
card-testing.yaml:6:3: 'seen' is already a word of the language
      seen: now - at
      ^^^^
    hint: choose another name""",
    ),
    (
        "a broken name is told once",
        "  tries: count(last 10m by card.ref)",
        "  tries: count(last 10m by card.rf)",
        """\
card-testing.yaml:6:28: unknown name 'card.rf'
      tries: count(last 10m by card.rf)
                               ^^^^^^^
    hint: did you mean 'card.ref'?""",
    ),
    (
        "a misspelt name",
        "tries >= 5 and amount <= 20 CNY",
        "trys >= 5 and amount <= 20 CNY",
        """\
card-testing.yaml:9:11: unknown name 'trys'
        when: trys >= 5 and amount <= 20 CNY
              ^^^^
    hint: did you mean 'tries'?""",
    ),
    (
        "money against a number",
        "tries >= 5 and amount <= 20 CNY",
        "tries >= 5 and amount <= 20",
        """\
card-testing.yaml:9:26: cannot compare money with number
        when: tries >= 5 and amount <= 20
                             ^^^^^^^^^^^^
    hint: write an amount such as 20 CNY""",
    ),
    (
        "no yes/no",
        "tries >= 5 and amount <= 20 CNY",
        "tries",
        """\
card-testing.yaml:9:11: this must be yes/no, it is number
        when: tries
              ^^^^^
    hint: compare it with something""",
    ),
    (
        "a habit of another language",
        "tries >= 5 and amount <= 20 CNY",
        "tries >= 5 && amount <= 20 CNY",
        """\
card-testing.yaml:9:22: '&&' is written 'and' here
        when: tries >= 5 && amount <= 20 CNY
                         ^^
    hint: write 'and'""",
    ),
    (
        "a list that does not exist",
        "tries >= 5 and amount <= 20 CNY",
        "ip in list tor-exit",
        """\
card-testing.yaml:9:22: unknown list 'tor-exit'
        when: ip in list tor-exit
                         ^^^^^^^^
    hint: did you mean 'tor-exits'?""",
    ),
    (
        "the second line of a folded condition",
        "when: tries >= 5 and amount <= 20 CNY",
        "when: >\n      tries >= 5 and\n      amout <= 20 CNY",
        """\
card-testing.yaml:11:7: unknown name 'amout'
          amout <= 20 CNY
          ^^^^^
    hint: did you mean 'amount'?""",
    ),
    (
        "a misspelt placeholder",
        'en: "{tries} attempts"',
        'en: "{trys} attempts"',
        """\
card-testing.yaml:14:12: the message shows 'trys', which is not known
          en: "{trys} attempts"
               ^^^^^^
    hint: did you mean 'tries'?""",
    ),
    (
        "personal data in a message",
        'en: "{tries} attempts"',
        'en: "{buyer.email} attempts"',
        """\
card-testing.yaml:14:12: the message shows 'buyer.email', which holds personal data (buyer.email)
          en: "{buyer.email} attempts"
               ^^^^^^^^^^^^^
    hint: messages are logged: show counts, amounts or public fields""",
    ),
    (
        "two placeholders at once",
        'en: "{tries} attempts"',
        'en: "{buyer.account} tried {trie} times"',
        """\
card-testing.yaml:14:12: the message shows 'buyer.account', which holds personal data (buyer.account)
          en: "{buyer.account} tried {trie} times"
               ^^^^^^^^^^^^^^^
    hint: messages are logged: show counts, amounts or public fields
card-testing.yaml:14:34: the message shows 'trie', which is not known
          en: "{buyer.account} tried {trie} times"
                                     ^^^^^^
    hint: did you mean 'tries'?""",
    ),
    (
        "after Chinese characters",
        'zh: "{tries} 次尝试"',
        'zh: "卡号尝试 {trys} 次"',
        """\
card-testing.yaml:15:17: the message shows 'trys', which is not known
          zh: "卡号尝试 {trys} 次"
                        ^^^^^^
    hint: did you mean 'tries'?""",
    ),
    (
        "an empty placeholder",
        'en: "{tries} attempts"',
        'en: "{} attempts"',
        """\
card-testing.yaml:14:12: the message shows '', which is not known
          en: "{} attempts"
               ^^
    hint: show a `let` name or a field of the event""",
    ),
    (
        "a calculation in a placeholder",
        'en: "{tries} attempts"',
        'en: "{tries + 1} attempts"',
        """\
card-testing.yaml:14:12: the message shows 'tries + 1', which is not known
          en: "{tries + 1} attempts"
               ^^^^^^^^^^^
    hint: did you mean 'tries'?""",
    ),
    (
        "a language that is missing",
        '      zh: "{tries} 次尝试"\n',
        "",
        """\
card-testing.yaml:14:7: 'zh' is missing
          en: "{tries} attempts"
          ^^
    hint: the reason in Chinese; {name} shows a value""",
    ),
    (
        "an id without its file",
        "id: card-testing.burst",
        "id: burst",
        """\
card-testing.yaml:8:9: write the file's name, a dot and a name, such as card-testing.burst
      - id: burst
            ^^^^^""",
    ),
    (
        "an id with capitals",
        "id: card-testing.burst",
        "id: Card-Testing.burst",
        """\
card-testing.yaml:8:9: write the file's name, a dot and a name, such as card-testing.burst
      - id: Card-Testing.burst
            ^^^^^^^^^^^^^^^^^^""",
    ),
    (
        "a signal with a dash",
        "signal: card_testing",
        "signal: card-testing",
        """\
card-testing.yaml:10:13: write small letters, digits and '_', beginning with a letter, such as card_testing
        signal: card-testing
                ^^^^^^^^^^^^""",
    ),
    (
        "a severity that does not exist",
        "severity: high",
        "severity: hi",
        """\
card-testing.yaml:11:15: expected one of info, low, medium, high, critical; found 'hi'
        severity: hi
                  ^^
    hint: did you mean 'high'?""",
    ),
    (
        "too many points",
        "points: 45",
        "points: 1001",
        """\
card-testing.yaml:12:13: must be at most 1000
        points: 1001
                ^^^^""",
    ),
    (
        "points in words",
        "points: 45",
        "points: many",
        """\
card-testing.yaml:12:13: expected a whole number, found 'many'
        points: many
                ^^^^""",
    ),
    (
        "a misspelt key",
        "points: 45",
        "pionts: 45",
        """\
card-testing.yaml:12:5: unknown key 'pionts'
        pionts: 45
        ^^^^^^
    hint: did you mean 'points'?""",
    ),
    (
        "a house policy without a date",
        "basis: {kind: house-policy, review_by: 2027-05-31}",
        "basis: {kind: house-policy}",
        """\
card-testing.yaml:16:12: a house policy needs the date on which someone looks at it again
        basis: {kind: house-policy}
               ^^^^^^^^^^^^^^^^^^^^
    hint: add review_by: with a date""",
    ),
    (
        "no basis",
        "basis: {kind: house-policy, review_by: 2027-05-31}",
        "basis: {}",
        """\
card-testing.yaml:16:12: a rule rests either on a house policy or on articles of law
        basis: {}
               ^^
    hint: write {kind: house-policy, review_by: 2027-05-31} or {law: [cn.ecl.13]}""",
    ),
    (
        "two bases",
        "basis: {kind: house-policy, review_by: 2027-05-31}",
        "basis: {kind: house-policy, review_by: 2027-05-31, law: [cn.ecl.13]}",
        """\
card-testing.yaml:16:12: a rule rests either on a house policy or on articles of law
        basis: {kind: house-policy, review_by: 2027-05-31, law: [cn.ecl.13]}
               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: write {kind: house-policy, review_by: 2027-05-31} or {law: [cn.ecl.13]}""",
    ),
    (
        "an article in another form",
        "basis: {kind: house-policy, review_by: 2027-05-31}",
        "basis: {law: [ECL 13]}",
        """\
card-testing.yaml:16:19: write country, law and article, such as cn.ecl.13
        basis: {law: [ECL 13]}
                      ^^^^^^""",
    ),
    (
        "no date",
        "basis: {kind: house-policy, review_by: 2027-05-31}",
        "basis: {kind: house-policy, review_by: soon}",
        """\
card-testing.yaml:16:44: expected a date, found 'soon'
        basis: {kind: house-policy, review_by: soon}
                                               ^^^^
    hint: write it as 2026-11-20""",
    ),
    (
        "a mode that does not exist",
        "severity: high",
        "severity: high\n    mode: on",
        """\
card-testing.yaml:12:11: expected one of live, shadow, off; found 'on'
        mode: on
              ^^""",
    ),
    (
        "an if_unknown in another form",
        "severity: high",
        "severity: high\n    if_unknown: Fire!",
        """\
card-testing.yaml:12:17: write small letters, digits and '_', beginning with a letter, such as card_testing
        if_unknown: Fire!
                    ^^^^^""",
    ),
    (
        "an expectation that does not exist",
        "severity: high",
        "severity: high\n    tests: [{it: fires, expect: fire}]",
        """\
card-testing.yaml:12:33: expected one of fires, quiet, unknown; found 'fire'
        tests: [{it: fires, expect: fire}]
                                    ^^^^
    hint: did you mean 'fires'?""",
    ),
    (
        "a duration in words",
        "severity: high",
        "severity: high\n    tests: [{it: fires, expect: fires, before: [{every: 1 minute}]}]",
        """\
card-testing.yaml:12:57: write a duration such as 30s, 15m, 72h, 7d or 2w
        tests: [{it: fires, expect: fires, before: [{every: 1 minute}]}]
                                                            ^^^^^^^^""",
    ),
    (
        "a format of the future",
        "owner: payments-risk",
        "owner: payments-risk\nformat: 2",
        """\
card-testing.yaml:5:9: this Arbiter reads format 1
    format: 2
            ^
    hint: write 'format: 1', or update Arbiter""",
    ),
    (
        "a reason that is empty in one language",
        'zh: "{tries} 次尝试"',
        'zh: ""',
        """\
card-testing.yaml:15:11: a reason must not be blank: write what a person reads, in this language too
          zh: ""
              ^^""",
    ),
    (
        "a reason of blanks",
        'en: "{tries} attempts"',
        'en: " \\u200b\\t"',
        """\
card-testing.yaml:14:11: a reason must not be blank: write what a person reads, in this language too
          en: " \\u200b\\t"
              ^^^^^^^^^^^""",
    ),
    (
        "no owner",
        "owner: payments-risk\n",
        "",
        """\
card-testing.yaml:1:1: 'owner' is missing
    pack: payments/card-testing
    ^^^^
    hint: who answers for it""",
    ),
    (
        "no rules",
        "rules:\n",
        "rules: []\nrulez:\n",
        """\
card-testing.yaml:7:8: must not be empty
    rules: []
           ^^
card-testing.yaml:8:1: unknown key 'rulez'
    rulez:
    ^^^^^
    hint: did you mean 'rules'?""",
    ),
]


@pytest.mark.parametrize(("old", "new", "said"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_mistake_is_told_with_its_place_and_a_way_out(old: str, new: str, said: str) -> None:
    _, problems = read(changed((old, new)))

    assert "\n".join(problems) == said


def test_all_mistakes_of_a_file_are_told_at_once_in_their_order() -> None:
    rules, problems = read(
        changed(
            ("count(last 10m by card.ref)", "count(last 10m by card.rf)"),
            ("amount <= 20 CNY", "amount <= 20"),
            ('zh: "{tries} 次尝试"', 'zh: "{buyer.name}"'),
            ("basis: {kind: house-policy, review_by: 2027-05-31}", "basis: {}"),
        )
    )

    assert [line.partition(" ")[0] for line in problems] == [
        "card-testing.yaml:6:28:",
        "card-testing.yaml:9:26:",
        "card-testing.yaml:15:12:",
        "card-testing.yaml:16:12:",
    ]
    assert rules == ()


def test_a_rule_with_a_mistake_does_not_hide_those_of_the_next() -> None:
    second = GOOD[GOOD.index("  - id") :].replace("card-testing.burst", "card-testing.slow")
    rules, problems = read(changed(("tries >= 5", "trys >= 5")) + second.replace("tries >= 5", "tris >= 5"))

    assert [line.splitlines()[0] for line in problems] == [
        "card-testing.yaml:9:11: unknown name 'trys'",
        "card-testing.yaml:18:11: unknown name 'tris'",
    ]
    assert rules == ()


@pytest.mark.parametrize(
    "field", ["buyer.name", "buyer.email", "buyer.phone", "shipping.street", "card.ref", "ip", "device.user_agent"]
)
def test_no_message_shows_a_personal_value_directly_or_through_a_name(field: str) -> None:
    if field not in FIELDS["transaction"]:
        pytest.fail(f"{field} is not a field any more: take another one that is personal")
    kind = ("for: payment", "for: transaction")
    direct = ('en: "{tries} attempts"', f'en: "{{{field}}}"')
    _, problems = read(changed(kind, direct))
    named = ("  tries:", f"  who: {field}\n  tries:"), ('en: "{tries} attempts"', 'en: "{who}"')
    _, through = read(changed(kind, *named))

    assert len(problems) == len(through) == 1
    assert f"which holds personal data ({field})" in problems[0]
    assert f"'who', which holds personal data ({field})" in through[0]


def test_a_count_over_a_personal_key_may_be_shown() -> None:
    """`count(... by card.ref)` is a number: it says how often, not who."""
    rules, problems = read(GOOD)

    assert (problems, list(rules[0].shown)) == ([], ["tries"])


def test_a_rule_becomes_what_was_written() -> None:
    ((rule,), _) = read(changed(("severity: high", "severity: high\n    hard: true\n    group: card-velocity")))

    assert (rule.id, rule.pack, rule.kinds, rule.owner) == (
        "card-testing.burst",
        "payments/card-testing",
        ("payment",),
        "payments-risk",
    )
    assert (rule.mode, rule.if_unknown, rule.review_by) == ("live", "quiet", date(2027, 5, 31))
    finding = rule.finding
    assert (finding.rule, finding.signal, finding.severity, finding.points) == (rule.id, "card_testing", "high", 45)
    assert (finding.hard, finding.group, finding.cites) == (True, "card-velocity", ())
    assert finding.because == {"en": "{tries} attempts", "zh": "{tries} 次尝试"}
    assert [window.name for window in rule.windows] == ["count(payment last 10m by card.ref)"]


def test_a_law_is_cited_by_the_finding() -> None:
    ((rule,), _) = read(changed(("{kind: house-policy, review_by: 2027-05-31}", "{law: [cn.ecl.13, cn.pipl.31]}")))

    assert (rule.finding.cites, rule.review_by) == (("cn.ecl.13", "cn.pipl.31"), None)


def test_a_pack_for_several_kinds_sees_the_fields_they_share() -> None:
    both = ("for: payment", "for: [payment, listing]")
    _, problems = read(changed(both, ("  tries: count(last 10m by card.ref)\n", "  tries: hour(at)\n")))

    assert [line.splitlines()[0] for line in problems] == ["card-testing.yaml:9:26: unknown name 'amount'"]


def test_names_build_on_names_before_them() -> None:
    lets = ("  tries: count(last 10m by card.ref)", "  tries: count(last 10m by card.ref)\n  many: tries > 4")
    ((rule,), problems) = read(changed(lets, ("tries >= 5 and amount", "many and amount")))

    assert problems == []
    assert rule.condition.windows == rule.windows


@pytest.mark.parametrize(
    ("written", "signal"), [("quiet", None), ("fire", "card_testing"), ("cannot_tell", "cannot_tell")]
)
def test_an_unknown_condition_gives_what_the_rule_says(written: str, signal: str | None) -> None:
    ((rule,), _) = read(changed(("severity: high", f"severity: high\n    if_unknown: {written}")))
    finding = rule.when_unknown()

    assert (finding and finding.signal, rule.watched) == (signal, written != "quiet")
    assert finding is None or finding.rule == rule.id
    if written == "cannot_tell":
        assert finding is not None
        assert (finding.severity, finding.points) == ("info", 0)


def test_a_message_is_filled_and_lacks_nothing_silently() -> None:
    assert message("{tries} of {limit}", {"tries": "5"}) == "5 of ?"


SHOWN: list[tuple[Any, Any, str, str]] = [
    (None, NUMBER, "unknown", "未知"),
    (True, BOOL, "yes", "是"),
    (False, BOOL, "no", "否"),
    (5, NUMBER, "5", "5"),
    (Decimal("2.500"), NUMBER, "2.5", "2.5"),
    (Decimal("1E+3"), NUMBER, "1000", "1000"),
    (Money(498000, "CNY"), MONEY, "4980.00 CNY", "4980.00 CNY"),
    (1_795_435_200_000_000, INSTANT, "2026-11-23T12:00:00Z", "2026-11-23T12:00:00Z"),
    (0, DURATION, "0s", "0s"),
    (93_784_000_000, DURATION, "1d 2h", "1d 2h"),
    (-600_000_000, DURATION, "-10m", "-10m"),
    (["a", "b"], list_of(TEXT), "a, b", "a, b"),
    (list("abcdefg"), list_of(TEXT), "a, b, c, d, e …", "a, b, c, d, e …"),
    ([None, True], list_of(BOOL), "unknown, yes", "未知, 是"),
]


@pytest.mark.parametrize(("value", "type_", "english", "chinese"), SHOWN)
def test_a_value_is_shown_as_a_person_reads_it(value: Any, type_: Any, english: str, chinese: str) -> None:
    assert (show(value, type_, "en"), show(value, type_, "zh")) == (english, chinese)
