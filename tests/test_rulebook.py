"""Rulebooks: what must fit together across files, what names them, and the pages that promise to load."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from engine import packs
from engine.archive import pack_files, unpack_files, unpacked
from engine.errors import PackError
from engine.rulebook import Rulebook, load
from engine.schema import TYPES
from engine.trial import try_rules
from tests.books import LISTS, POLICY, ROOT, RULES, SHARED, SMALL, book, shipped, told, write

BINS = LISTS["rules/lists/bad-bins.yaml"]
DESIGN = SHARED / "design.md"
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text("utf-8"))


# ------------------------------------------------------------------------------------------------ names


def test_the_hash_names_the_contents_wherever_they_lie(tmp_path: Path) -> None:
    assert book(tmp_path / "here", SMALL).hash == book(tmp_path / "there", dict(reversed(SMALL.items()))).hash


@pytest.mark.parametrize("name", [*SMALL, "rules/lists/bins.txt"])
def test_every_byte_of_every_file_changes_the_hash(tmp_path: Path, name: str) -> None:
    files = {**SMALL, "rules/lists/bad-bins.yaml": BINS + "file: bins.txt\n", "rules/lists/bins.txt": "622848\n"}
    changed = {**files, name: files[name] + "# a remark\n"}

    assert book(tmp_path / "a", files).hash != book(tmp_path / "b", changed).hash


def test_a_moved_file_changes_the_hash(tmp_path: Path) -> None:
    moved = {("rules/other.yaml" if name == "rules/small.yaml" else name): text for name, text in SMALL.items()}

    assert book(tmp_path / "a", SMALL).hash != book(tmp_path / "b", moved).hash


def test_pages_and_hidden_files_are_no_part_of_it(tmp_path: Path) -> None:
    beside = {"rules/README.md": "# Rules\n", "rules/.draft.yaml": "pack: [", "policies/notes.txt": "x"}

    assert book(tmp_path / "a", SMALL).hash == book(tmp_path / "b", {**SMALL, **beside}).hash


def test_loading_leaves_what_it_shares_as_it_was() -> None:
    """A file is parsed once for all who hold it, so nobody who loads it may write into it."""
    held = [document for folder in ("rules", "policies") for document in packs.read_all(ROOT / folder)]
    load(ROOT / "rules", ROOT / "policies")
    again = [document for folder in ("rules", "policies") for document in packs.read_all(ROOT / folder)]
    fresh = [packs.parse(document.source.content, document.file) for document in held]

    assert [one is other for one, other in zip(held, again, strict=True)] == [True] * len(held)
    assert [(document.data, document.place) for document in held] == [(each.data, each.place) for each in fresh]


LISTED = {**SMALL, "rules/lists/bad-bins.yaml": BINS + "file: bins.txt\n", "rules/lists/bins.txt": "411111\n"}
OWN = "fields:\n  till.lane: {type: text, doc: The lane, example: '3', kinds: [payment]}\n"


def test_a_reload_makes_only_those_lists_and_fields_anew_that_have_changed(tmp_path: Path) -> None:
    rules = {"rules/small.yaml": RULES.replace("points: 20", "points: 21")}
    changed = {"rules/lists/bins.txt": "411111\n422222\n", "policies/schema.yaml": OWN.replace("3", "4")}
    first = book(tmp_path, {**LISTED, "policies/schema.yaml": OWN})
    same = book(tmp_path, {**LISTED, "policies/schema.yaml": OWN, **rules})
    more = book(tmp_path, {**LISTED, **changed, **rules})

    assert [same.lists.lists[name] is first.lists.lists[name] for name in ("bad-networks", "bad-bins")] == [True, True]
    assert [more.lists.lists[name] is first.lists.lists[name] for name in ("bad-networks", "bad-bins")] == [True, False]
    assert (first.lists.lists["bad-bins"].size, more.lists.lists["bad-bins"].size) == (1, 2)
    assert (same.schema is first.schema, more.schema is first.schema) == (True, False)
    assert len({first.hash, more.hash}) == 2


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"rules/README.md": "# Rules\n"},
        {"rules/lists/bins.txt": "411111\n422222\n"},
        {"rules/small.yaml": RULES.replace("points: 20", "points: 21")},
        {"rules/more/empty.yaml": "list: more\nabout: x\nmatch: exact\n"},
    ],
    ids=["nothing", "no part of it", "a text file", "a rule", "a new file"],
)
def test_while_the_files_stay_as_they_are_a_rulebook_is_not_made_again(
    tmp_path: Path, change: Mapping[str, str]
) -> None:
    first = book(tmp_path, LISTED)
    again = book(tmp_path, {**LISTED, **change})

    assert (again is first) == (again.hash == first.hash)
    assert again.hash == book(tmp_path / "elsewhere", {**LISTED, **change}).hash


def test_a_file_that_went_is_no_part_of_a_reload(tmp_path: Path) -> None:
    more = {**SMALL, "rules/lists/more.yaml": "list: more\nabout: x\nmatch: exact\n"}
    first = book(tmp_path, more)
    (tmp_path / "rules/lists/more.yaml").unlink()

    assert book(tmp_path, SMALL).lists.names().keys() == first.lists.names().keys() - {"more"}


def test_a_text_file_beside_a_list_of_the_policies_is_part_of_the_rulebook(tmp_path: Path) -> None:
    twins = {**LISTED, "policies/lists/more.yaml": BINS.replace("bad-bins", "more") + "file: bins.txt\n"}
    first = book(tmp_path, {**twins, "policies/lists/bins.txt": "411111\n"})
    again = book(tmp_path, {**twins, "policies/lists/bins.txt": "422222\n433333\n"})

    assert [made.lists.lists["more"].size for made in (first, again)] == [1, 2]
    assert again.files["policies/lists/bins.txt"] == b"422222\n433333\n"
    assert unpacked(pack_files(again.files)).lists.lists["more"].size == 2


def test_a_text_file_that_now_leads_out_of_the_folder_is_refused_though_it_says_the_same(tmp_path: Path) -> None:
    held = book(tmp_path / "shop", LISTED)
    text = tmp_path / "shop/rules/lists/bins.txt"
    (tmp_path / "outside.txt").write_bytes(text.read_bytes())
    text.unlink()
    text.symlink_to(tmp_path / "outside.txt")

    assert held.lists.available("bad-bins")
    with pytest.raises(PackError, match="the link leads out of the pack folder"):
        load(tmp_path / "shop/rules", tmp_path / "shop/policies")


def test_a_text_file_that_came_makes_its_list_available(tmp_path: Path) -> None:
    without = {name: text for name, text in LISTED.items() if not name.endswith(".txt")}
    first = book(tmp_path, without, strict=False)
    again = book(tmp_path, LISTED, strict=False)

    assert (first.lists.available("bad-bins"), again.lists.available("bad-bins")) == (False, True)


def test_a_list_whose_text_file_went_is_not_the_one_from_before(tmp_path: Path) -> None:
    before = book(tmp_path, LISTED)
    (tmp_path / "rules/lists/bins.txt").unlink()
    without = {name: text for name, text in LISTED.items() if not name.endswith(".txt")}

    assert before.lists.available("bad-bins")
    assert not book(tmp_path, without, strict=False).lists.available("bad-bins")
    assert "there is no file 'bins.txt' beside this one" in told(tmp_path, without)[0]


def test_a_rulebook_comes_back_from_the_archive_as_it_was() -> None:
    again = unpacked(pack_files(shipped().files))

    assert again.hash == shipped().hash
    assert again.pins == shipped().pins
    assert [rule.id for rule in again.rules] == [rule.id for rule in shipped().rules]


def test_a_rulebook_with_a_missing_list_comes_back_from_the_archive(tmp_path: Path) -> None:
    """Decisions were made without the list, and must be explainable all the same."""
    files = {**SMALL, "rules/lists/bad-bins.yaml": BINS + "file: bins.txt\n"}
    made = book(tmp_path, files, strict=False)
    again = unpacked(pack_files(made.files))

    assert (again.hash, again.lists.available("bad-bins")) == (made.hash, False)


def test_equal_files_are_packed_to_equal_bytes() -> None:
    files = {"rules/a.yaml": b"a", "policies/b.yaml": "b：全".encode()}

    assert pack_files(files) == pack_files(dict(reversed(files.items())))
    assert unpack_files(pack_files(files)) == files


# ------------------------------------------------------------------------------------------ across files


def with_policy(old: str, new: str) -> Mapping[str, str]:
    assert old in POLICY, old
    return {**SMALL, "policies/till.yaml": POLICY.replace(old, new)}


LISTING = """\
pack: listings/small
about: Copied listings.
for: listing
owner: trust
rules:
  - id: listings.copied
    when: listing.title == "copied"
    signal: copied
    if_unknown: hidden
    mode: shadow
    because: {en: copied, zh: 抄袭}
    basis: {kind: house-policy, review_by: 2027-05-31}
"""


def with_listing(more: str, kinds: str = "[payment]") -> Mapping[str, str]:
    """A pack for listings too, and a policy for `kinds` with `more` in it."""
    policy = POLICY.replace("[payment]", kinds).replace("default_tier: standard", f"default_tier: standard\n{more}")
    return {**SMALL, "rules/listings.yaml": LISTING, "policies/till.yaml": policy}


CROSSED: list[tuple[str, Mapping[str, str], str]] = [
    (
        "two rules with one id",
        {**SMALL, "rules/more.yaml": RULES[: RULES.index("  - id: small.review")].replace("payments/small", "more")},
        """\
rules/small.yaml:8:9: the rule id 'small.challenge' is taken
      - id: small.challenge
            ^^^^^^^^^^^^^^^
    hint: it is in rules/more.yaml""",
    ),
    (
        "two policies for one kind",
        {**SMALL, "policies/other.yaml": POLICY.replace("till", "other").replace("[payment]", "[listing, payment]")},
        """\
policies/till.yaml:2:7: a payment is judged by the policy 'other' already
    for: [payment]
          ^^^^^^^
    hint: one kind has one policy""",
    ),
    (
        "a policy for no kind that exists",
        with_policy("[payment]", "[paymnt]"),
        """\
policies/till.yaml:2:7: there is no kind of event 'paymnt'
    for: [paymnt]
          ^^^^^^
    hint: did you mean 'payment'?""",
    ),
    (
        "a signal that no rule finds",
        with_policy(
            "default_tier: standard",
            "default_tier: standard\nrules: [{id: x, when: [card_tsting], at_least: review}]",
        ),
        """\
policies/till.yaml:8:24: no rule finds the signal 'card_tsting'
    rules: [{id: x, when: [card_tsting], at_least: review}]
                           ^^^^^^^^^^^
    hint: did you mean 'card_testing'?""",
    ),
    (
        "a signal that is found for another kind of event only",
        with_listing("rules: [{id: x, when: [copied, late_event], at_least: review}]"),
        """\
policies/till.yaml:8:24: nothing finds the signal 'copied' for payment
    rules: [{id: x, when: [copied, late_event], at_least: review}]
                           ^^^^^^
    hint: it is found for listing only""",
    ),
    (
        "a kind that is not there: what would come together in it is not known",
        with_listing("rules: [{id: x, when: [copied, late_event], at_least: review}]", "[payment, listng]"),
        """\
policies/till.yaml:2:16: there is no kind of event 'listng'
    for: [payment, listng]
                   ^^^^^^
    hint: did you mean 'listing'?""",
    ),
    (
        "signals that come from different kinds of event",
        with_listing("rules: [{id: x, when: [copied, card_testing], at_least: review}]", "[payment, listing]"),
        """\
policies/till.yaml:8:23: these signals never come together; found are 'copied' for listing; 'card_testing' for payment
    rules: [{id: x, when: [copied, card_testing], at_least: review}]
                          ^^^^^^^^^^^^^^^^^^^^^^
    hint: one event is of one kind: let rules find all of them for the same one""",
    ),
    (
        "signals that come from different kinds, one of them derived; what waits for their clause is not told of",
        with_listing(
            "rules:\n  - {id: a, when: [card_testing], derive: {signal: thief}}\n"
            "  - {id: b, when: [thief, copied, any high], derive: {signal: gang}}\n"
            "  - {id: c, when: [gang], derive: {signal: mob}}\n  - {id: d, when: [mob, listed], at_least: decline}\n"
            "actions: [{when: [thief, copied], do: call}]\nmandatory: [{when: [copied, thief], verdict: decline}]",
            "[payment, listing]",
        ),
        """\
policies/till.yaml:10:19: these signals never come together; found are 'thief' for payment; 'copied' for listing
      - {id: b, when: [thief, copied, any high], derive: {signal: gang}}
                      ^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: one event is of one kind: let rules find all of them for the same one
policies/till.yaml:13:18: these signals never come together; found are 'thief' for payment; 'copied' for listing
    actions: [{when: [thief, copied], do: call}]
                     ^^^^^^^^^^^^^^^
    hint: one event is of one kind: let rules find all of them for the same one
policies/till.yaml:14:20: these signals never come together; found are 'copied' for listing; 'thief' for payment
    mandatory: [{when: [copied, thief], verdict: decline}]
                       ^^^^^^^^^^^^^^^
    hint: one event is of one kind: let rules find all of them for the same one""",
    ),
    (
        "signals that do come together: through either kind, in shadow, when unknown, derived, from Arbiter itself",
        with_listing(
            "rules:\n  - {id: a, when: [late_event, copied], derive: {signal: odd}}\n"
            "  - {id: b, when: [card_testing, listed], derive: {signal: odd}}\n"
            "  - {id: c, when: [odd, listed], unless: [copied], at_least: review}\n"
            "  - {id: d, when: [odd, hidden], at_least: review}\n"
            "  - {id: e, when: [hidden, any high], at_least: review}",
            "[payment, listing]",
        ),
        "",
    ),
    (
        "a rule that raises what Arbiter itself raises, as its signal and when unknown",
        {
            **SMALL,
            "rules/small.yaml": RULES.replace("signal: odd_amount", "signal: not_warm").replace(
                "signal: strange_amount", "signal: strange_amount\n    if_unknown: deadline"
            ),
        },
        """\
rules/small.yaml:10:13: Arbiter itself raises the signal 'not_warm'
        signal: not_warm
                ^^^^^^^^
    hint: choose another name
rules/small.yaml:18:17: Arbiter itself raises the signal 'deadline'
        if_unknown: deadline
                    ^^^^^^^^
    hint: choose another name""",
    ),
    (
        "a policy that derives what Arbiter itself raises",
        with_policy(
            "default_tier: standard",
            "default_tier: standard\nrules: [{id: x, when: [card_testing], derive: {signal: late_event}}]",
        ),
        """\
policies/till.yaml:8:56: Arbiter itself raises the signal 'late_event'
    rules: [{id: x, when: [card_testing], derive: {signal: late_event}}]
                                                           ^^^^^^^^^^
    hint: choose another name""",
    ),
    (
        "a cause that nothing raises",
        with_policy("default_tier: standard", "default_tier: standard\ndegraded: {deadlin: {at_least: review}}"),
        """\
policies/till.yaml:8:12: there is no cause 'deadlin'
    degraded: {deadlin: {at_least: review}}
               ^^^^^^^
    hint: did you mean 'deadline'?""",
    ),
    (
        "a degraded condition with a typo",
        with_policy(
            "default_tier: standard",
            "default_tier: standard\ndegraded: {deadline: {at_least: review, if: amout < 100 CNY, then: approve}}",
        ),
        """\
policies/till.yaml:8:45: unknown name 'amout'
    degraded: {deadline: {at_least: review, if: amout < 100 CNY, then: approve}}
                                                ^^^^^
    hint: did you mean 'amount'?""",
    ),
    (
        "a degraded condition over a window",
        with_policy(
            "default_tier: standard",
            "default_tier: standard\ndegraded:\n"
            "  deadline: {at_least: review, if: count(last 1h by card.ref) < 3, then: approve}",
        ),
        """\
policies/till.yaml:9:36: windows may be what does not work here
      deadline: {at_least: review, if: count(last 1h by card.ref) < 3, then: approve}
                                       ^
    hint: ask about the event itself""",
    ),
    (
        "a degraded condition over a list",
        with_policy(
            "default_tier: standard",
            "default_tier: standard\ndegraded:\n"
            "  deadline: {at_least: review, if: ip in list bad-networks, then: approve}",
        ),
        """\
policies/till.yaml:9:47: unknown list 'bad-networks'
      deadline: {at_least: review, if: ip in list bad-networks, then: approve}
                                                  ^^^^^^^^^^^^""",
    ),
    (
        "a list that is not there",
        {name: text for name, text in SMALL.items() if "bins" not in name},
        """\
rules/small.yaml:37:55: unknown list 'bad-bins'
        when: ip in list bad-networks or card.bin in list bad-bins
                                                          ^^^^^^^^
    hint: did you mean 'bad-networks'?""",
    ),
    (
        "a list without its text file",
        {**SMALL, "rules/lists/bad-bins.yaml": BINS + "file: bins.txt\n"},
        """\
rules/lists/bad-bins.yaml:4:7: there is no file 'bins.txt' beside this one
    file: bins.txt
          ^^^^^^^^""",
    ),
    (
        "files that do not say what they are",
        {**SMALL, "rules/odd.yaml": "name: odd\n", "rules/none.yaml": "", "rules/rows.yaml": "- a\n"},
        """\
rules/none.yaml:1:1: the file is empty
    hint: delete it, or write a pack into it
rules/odd.yaml:1:1: this file does not say what it is
    name: odd
    ^^^^
    hint: it needs one of the keys 'pack', 'list', 'links', 'policy', 'fields', 'exceptions', 'rates', 'anomaly', 'retention', 'experiment', 'law', 'checklist', 'targets', 'alerts', 'processing', 'playbook', 'profile', 'notices'
rules/rows.yaml:1:1: this file does not say what it is
    - a
    ^
    hint: it needs one of the keys 'pack', 'list', 'links', 'policy', 'fields', 'exceptions', 'rates', 'anomaly', 'retention', 'experiment', 'law', 'checklist', 'targets', 'alerts', 'processing', 'playbook', 'profile', 'notices'""",  # noqa: E501
    ),
    (
        "two files of own fields",
        {**SMALL, "policies/schema.yaml": "fields: {}\n", "policies/schema-too.yaml": "fields: {}\n"},
        """\
policies/schema.yaml:1:9: there is a file with 'fields' already
    fields: {}
            ^^
    hint: it is policies/schema-too.yaml""",
    ),
    (
        "an exception from no rule",
        {
            **SMALL,
            "policies/exceptions/lab.yaml": "exceptions:\n  - id: lab\n    rule: small.burts\n"
            "    subject: {card.ref: c}\n    owner: a\n    reason: b\n"
            "    from: 2026-11-01\n    expires: 2026-11-30\n    approved_by: c\n",
        },
        """\
policies/exceptions/lab.yaml:3:11: there is no rule 'small.burts'
        rule: small.burts
              ^^^^^^^^^^^
    hint: did you mean 'small.burst'?""",
    ),
]


@pytest.mark.parametrize(("files", "said"), [row[1:] for row in CROSSED], ids=[row[0] for row in CROSSED])
def test_what_does_not_fit_across_files_is_told(tmp_path: Path, files: Mapping[str, str], said: str) -> None:
    assert "\n".join(told(tmp_path, files)) == said


def test_every_problem_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    """No file hides another: broken YAML, a wrong condition, a wrong policy, list, exception and rate together."""
    wrong = {
        **SMALL,
        "rules/broken.yaml": "pack: [\n",
        "rules/other.yaml": RULES.replace("small", "other").replace("== 41 CNY", "== 41").replace(">= 85", "=> 85"),
        "policies/till.yaml": POLICY.replace("default_tier: standard", "default_tier: standrd"),
        "rules/lists/bad-bins.yaml": BINS.replace("exact", "exactly"),
        "policies/exceptions/lab.yaml": "exceptions: [{id: lab}]\n",
        "policies/rates.yaml": "rates: CNY\nabout: Rates.\ndays: {2026-13-01: {USD: 7}}\n",
        "policies/schema.yaml": "fields: {extra.terminal: {type: txt}}\n",
    }
    found = {line.partition(":")[0] for line in told(tmp_path, wrong)}

    assert found == set(wrong) - {"rules/small.yaml", "rules/lists/bad-networks.yaml"}


LAB = """\
exceptions:
  - id: lab
    rule: small.burst
    subject: {card.ref: c}
    owner: a
    reason: b
    from: 2026-11-01
    expires: 2026-11-30
    approved_by: c
"""

TOGETHER: list[tuple[str, Mapping[str, str], list[str]]] = [
    (
        "a rule file: a key twice, unknown keys, wrong types, conditions, messages, bases",
        {
            "rules/small.yaml": RULES.replace("about: Amounts that tests choose.\n", "about: a\nabout: b\nown: x\n")
            .replace("points: 40", "points: forty")
            .replace("== 41 CNY", "== 41")
            .replace("severity: high\n    points: 60", "severty: high\n    points: 60")
            .replace("{amount} is large", "{amout} is large")
            .replace("tries >= 3\n", "tries >= 3 and amuont > 5 CNY\n")
            .replace(
                "    basis: {kind: house-policy, review_by: 2027-05-31}\n  - id: small.listed", "  - id: Listed", 1
            )
            .replace("    signal: listed\n", "")
            .replace("in list bad-bins", "in list bins")
            .replace("zh: 在名单上}\n    basis: {kind: house-policy, review_by: 2027-05-31}", "zh: 在}\n    basis: {}"),
        },
        [
            "3:1: the key 'about' stands here twice",
            "4:1: unknown key 'own'",
            "11:11: cannot compare money with number",
            "14:13: expected a whole number, found 'forty'",
            "20:5: unknown key 'severty'",
            "29:20: the message shows 'amout', which is not known",
            "31:5: 'basis' is missing",
            "32:26: unknown name 'amuont'",
            "37:5: 'signal' is missing",
            "37:9: write the file's name, a dot and a name, such as card-testing.burst",
            "38:55: unknown list 'bins'",
            "42:12: a rule rests either on a house policy or on articles of law",
        ],
    ),
    (
        "a rule file whose let is a list, and a name that was meant",
        {"rules/small.yaml": RULES.replace("  tries:", "  - tries:").replace("amount == 41 CNY", "amuont == 41 CNY")},
        ["6:3: expected keys with values, found a list", "9:11: unknown name 'amuont'"],
    ),
    (
        "a rule file with an id twice, of rules that have other mistakes",
        {"rules/small.yaml": RULES.replace("small.review", "small.challenge").replace("== 61 CNY", "== 61")},
        ["15:9: the rule id 'small.challenge' is taken", "16:11: cannot compare money with number"],
    ),
    (
        "a rule file whose let is misspelt, and a name that was meant",
        {"rules/small.yaml": RULES.replace("let:", "lets:").replace("amount == 41 CNY", "amuont == 41 CNY")},
        ["5:1: unknown key 'lets'", "9:11: unknown name 'amuont'"],
    ),
    (
        "a rule file for one kind that exists and one that does not",
        {"rules/small.yaml": RULES.replace("for: payment", "for: [payment, paymnt]").replace("== 41 CNY", "== 41")},
        ["3:16: there is no kind of event 'paymnt'", "9:11: cannot compare money with number"],
    ),
    (
        "a policy: a key twice, an unknown key, a wrong type, a signal, a verdict, a kind, a degraded condition",
        {
            "policies/till.yaml": POLICY.replace("[payment]", "[payment, listng]").replace(
                "decline: 85", "decline: many"
            )
            + "policy: till\nrules:\n  - {id: a, when: [card_tsting], at_least: review}\n"
            "  - {id: b, wen: [listed], when: [card_testing], at_least: reviw}\n"
            "  - {id: c, when: [card_testing], derive: {signal: X}}\n"
            "degraded: {deadline: {at_least: review, if: amout < 1 CNY, then: approve}}\n",
        },
        [
            "2:16: there is no kind of event 'listng'",
            "5:50: expected a whole number, found 'many'",
            "10:1: the key 'policy' stands here twice",
            "12:20: no rule finds the signal 'card_tsting'",
            "13:13: unknown key 'wen'",
            "13:60: no verdict 'reviw' in this policy",
            "14:52: does not have the form ^[a-z][a-z0-9_]*$",
            "15:45: unknown name 'amout'",
        ],
    ),
    (
        "a policy: faults of names and of what leads to what",
        {
            "policies/till.yaml": POLICY.replace("failed: decline", "failed: approve")
            + "rules:\n  - {id: a, when: [card_tsting], at_least: review}\n"
            "  - {id: b, when: [listed], unless: [x], derive: {signal: x}}\n"
            "degraded: {deadline: {at_least: review, if: amout < 1 CNY, then: approve}}\n"
        },
        [
            "8:63: a challenge that is failed must lead to something severer than 'challenge'",
            "11:20: no rule finds the signal 'card_tsting'",
            "12:38: the rule stands on its own absence: it leads to x, and fires unless 'x'",
            "13:45: unknown name 'amout'",
        ],
    ),
    (
        "a list: an unknown key, a missing text, a setting, an entry of the wrong form, addresses",
        {
            "rules/lists/bad-networks.yaml": "list: bad-networks\nmatch: cidr\nentity: ip\nowners: x\n"
            "entries: [192.0.2.0/33, {valu: 1}, {value: 192.0.2.1/24, expires: soon}, 192.0.2.9/24]\n"
        },
        [
            "1:1: 'about' is missing",
            "3:9: a network cannot be kept as a pseudonym",
            "4:1: unknown key 'owners'",
            "5:11: this is not an IP address or a network such as 192.0.2.0/24 or 2001:db8::/32",
            "5:25: 'value' is missing",
            "5:26: unknown key 'valu'",
            "5:44: the address goes on behind its prefix, where a network has zeros",
            "5:74: the address goes on behind its prefix, where a network has zeros",
            "5:67: write a day such as 2027-01-31, or an instant with its zone such as 2027-01-31T12:00:00+08:00",
        ],
    ),
    (
        "exceptions: a missing text, a rule that is not there, a subject, a form",
        {
            "policies/exceptions/lab.yaml": LAB.replace("    owner: a\n", "").replace("small.burst", "small.burts")
            + LAB.partition("\n")[2].replace("card.ref", "card.rf").replace("lab", "lab-2").replace("reason", "raeson")
            + LAB.partition("\n")[2].replace("small.burst", "5")
        },
        [
            "2:5: 'owner' is missing",
            "3:11: there is no rule 'small.burts'",
            "9:5: 'reason' is missing",
            "11:15: there is no field 'card.rf'",
            "13:5: unknown key 'raeson'",
            "17:9: there are two exceptions 'lab'",
            "18:11: expected text, found the number 5",
        ],
    ),
    (
        "rates: a missing text, a day, a rate, a currency",
        {
            "policies/rates.yaml": "rates: CNY\ndays:\n"
            "  2026-13-01: {USD: 7}\n  2026-11-01: {USD: x, US: 7, EUR: .nan}\n"
        },
        [
            "1:1: 'about' is missing",
            "3:3: '2026-13-01' is no day",
            "4:21: expected a number, found 'x'",
            "4:24: 'US' is no currency",
            "4:36: '.nan' is not a number here",
        ],
    ),
    (
        "own fields: the good ones can be used, of the others nobody says that they are not there",
        {
            "policies/schema.yaml": "fields:\n  extra.a: {doc: A, example: x}\n"
            "  extra.b: {type: number, doc: B, example: 1}\n",
            "rules/small.yaml": RULES.replace("amount == 41 CNY", "extra.a == 1 and extra.b == 1 and extra.c == 1"),
        },
        [
            "2:12: 'type' is missing",
            "9:45: unknown name 'extra.c'",
        ],
    ),
    (
        "own fields: paths that are taken or cannot be, also of fields with other mistakes",
        {
            "policies/schema.yaml": "fields:\n  card.ref: {type: text, doc: A}\n  Extra: {type: txt, doc: B}\n"
            "  extra.cv2: {type: text, doc: C}\n  extra.d: {type: text, doc: D}\n  extra.d.e: {type: text, doc: E}\n"
            "  items.colour: {type: text, doc: F}\n  extra.pin_code: {doc: G}\n"
        },
        [
            "2:3: 'card.ref' is a built-in field",
            "3:3: 'Extra' is not a path",
            f"3:17: expected one of {', '.join(TYPES)}; found 'txt'",
            "4:3: 'extra.cv2' has the name of a card secret, which is never taken",
            "5:3: 'extra.d' stands above or below another field, 'extra.d.e'",
            "6:3: 'extra.d.e' stands above or below another field, 'extra.d'",
            "7:24: 'items.colour' lies in a list of objects",
            "8:3: 'extra.pin_code' has the name of a card secret, which is never taken",
            "8:19: 'type' is missing",
        ],
    ),
    (
        "own fields: what does not fit together within one",
        {
            "policies/schema.yaml": "fields:\n"
            "  extra.a: {type: text, doc: A, kinds: [payment, paymnt], form: cod, limit: 5, low: 1}\n"
            "  extra.b: {type: number, doc: B, limit: 5, low: 5, high: 2, example: x}\n"
            "  extra.c: {type: text, doc: C, choices: [a, b, a, ''], form: code, example: x}\n"
            "  extra.d: {type: text, doc: D, privacy: personal, entity: acount}\n"
            "  extra.e: {type: text, doc: E, subject: buyer, entity: card}\n"
            "  extra.f: {type: bool, doc: F, identifier: true, choices: [], kinds: []}\n"
            "  extra.g: {type: money, doc: G, low: 5, whole: true, example: 5}\n"
        },
        [
            "2:50: there is no kind of event 'paymnt'",
            "2:65: expected one of line, free, id, code, country, digits; found 'cod'",
            "2:80: 'low' is for numbers",
            "3:35: 'limit' is for text",
            "3:59: no number is at least 5 and at most 2",
            "4:49: 'a' stands there twice",
            "4:52: an empty value is a missing one",
            "4:57: 'form' says nothing beside 'choices'",
            "4:78: the example is no value of the field: must be one of a, b, a, ",
            "5:42: a field that is not public names its subject",
            "5:60: there is no entity 'acount'",
            "6:42: a public field has no subject",
            "6:57: an entity is one text and not public: it identifies someone",
            "7:33: 'identifier' is for text",
            "7:51: 'choices' is for text",
            "7:60: must not be empty",
            "7:71: a field belongs to some kind of event",
            "8:34: 'low' is for numbers",
            "8:42: 'whole' is for numbers",
            "8:64: the example is no value of the field: money is written as text with a currency, not as a bare value",
        ],
    ),
    (
        "own fields: examples that are no values, or must not be there",
        {
            "policies/schema.yaml": "fields:\n"
            "  extra.a: {type: number, doc: A, example: x}\n"
            "  extra.b: {type: number, doc: B, low: 1, high: 3, whole: true, example: 2.5}\n"
            "  extra.c: {type: text, doc: C, example: 5}\n"
            "  extra.d: {type: text, doc: D, form: country, example: usa}\n"
            "  extra.e: {type: text, doc: E, identifier: true, example: '4111 1111 1111 1111'}\n"
            "  extra.f: {type: instant, doc: F, example: 2026-11-20}\n"
            "  extra.g: {type: 'list[money]', doc: G, low: 0, example: [1.00 CNY, -1.00 CNY]}\n"
            "  extra.h: {type: number, doc: H, high: 3, example: 4}\n"
            "  items.colour: {type: 'list[text]', doc: I, choices: [red, blue], example: rde}\n"
            "  extra.fine: {type: 'list[text]', doc: J, example: [a, b]}\n"
            "  items.weight: {type: 'list[number]', doc: K, example: 0.5}\n"
        },
        [
            "2:44: the example is no value of the field: a number is needed",
            "3:74: the example is no value of the field: a whole number is needed",
            "4:42: the example is no value of the field: text is needed",
            "5:57: the example is no value of the field: must be two capital letters (ISO 3166-1)",
            "6:60: the example looks like a card number or a secret",
            "7:45: the example is no value of the field: not an ISO 8601 instant with a zone",
            "8:59: the example is no value of the field: not below 0",
            "9:53: the example is no value of the field: at most 3",
            "10:77: the example is no value of the field: must be one of red, blue",
        ],
    ),
    (
        "a file that cannot be read to its end: what it would bring is not missed",
        {
            "rules/small.yaml": RULES + "  - id: [\n",
            "policies/till.yaml": POLICY + "rules: [{id: a, when: [card_testing, card_tsting], at_least: review}]\n",
            "policies/exceptions/lab.yaml": LAB + LAB.partition("\n")[2].replace("small.burst", "small.burts"),
        },
        [
            "10:38: no rule finds the signal 'card_tsting'",
            "10:9: there are two exceptions 'lab'",
            "11:11: there is no rule 'small.burts'",
            "44:1: a value is missing",
        ],
    ),
    (
        "aliases, tags and merge keys: of a value that nobody knows nothing more is said",
        {
            "rules/small.yaml": RULES.replace("let:", "let: &let")
            .replace("points: 40", "points: !!int 40")
            .replace("{amount} is large", "{amout} is large")
            .replace("    when: tries >= 3", "    <<: *let\n    when: tries > 3"),
        },
        [
            "5:6: anchors ('&name') are not used here",
            "12:13: tags ('!name') are not used here",
            "27:20: the message shows 'amout', which is not known",
            "30:5: merge keys ('<<') are not used here",
            "30:9: aliases ('*name') are not used here",
        ],
    ),
]


@pytest.mark.parametrize(("wrong", "said"), [row[1:] for row in TOGETHER], ids=[row[0] for row in TOGETHER])
def test_every_mistake_of_one_file_is_told_in_one_run(
    tmp_path: Path, wrong: Mapping[str, str], said: list[str]
) -> None:
    found = [problem.partition("\n")[0] for problem in told(tmp_path, {**SMALL, **wrong})]

    assert sorted(line.partition(".yaml:")[2] for line in found) == sorted(said)


def test_both_folders_are_asked_for_at_once(tmp_path: Path) -> None:
    with pytest.raises(PackError) as refused:
        load(tmp_path / "rulez", tmp_path / "policys")

    assert [problem.what for problem in refused.value.problems] == ["there is no such folder"] * 2


def test_of_a_folder_that_cannot_be_read_only_that_is_told(tmp_path: Path) -> None:
    """Not every name that the files of the other folder would have found in it."""
    for rules, policies in ((tmp_path / "nope", ROOT / "policies"), (ROOT / "rules", tmp_path / "nope")):
        with pytest.raises(PackError) as refused:
            load(rules, policies)

        assert [problem.what for problem in refused.value.problems] == ["there is no such folder"]


NEEDY = {
    **SMALL,
    "rules/own.yaml": RULES.replace("small", "own").replace("amount == 41 CNY", "extra.till == 1"),
    "policies/schema.yaml": "fields:\n  extra.till: {type: number, doc: The till, example: 1, kinds: [payment]}\n",
    "policies/till.yaml": POLICY + "rules: [{id: a, when: [odd_amount, listed], at_least: review}]\n",
    "policies/exceptions/lab.yaml": LAB,
}


@pytest.mark.parametrize("name", [name for name in NEEDY if name != "policies/exceptions/lab.yaml"])
@pytest.mark.parametrize(
    ("body", "what"),
    [
        (None, "the link leads out of the pack folder"),
        (b"\xff\xfe", "byte 0xFF is not UTF-8 text"),
        (b"\x00: a", "a NUL character"),
    ],
    ids=["link", "bytes", "control"],
)
def test_of_a_file_that_cannot_be_read_only_that_is_told(
    tmp_path: Path, name: str, body: bytes | None, what: str
) -> None:
    write(tmp_path, NEEDY)
    path = tmp_path / name
    path.unlink()
    if body is None:
        path.symlink_to(ROOT / "README.md")
    else:
        path.write_bytes(body)
    with pytest.raises(PackError) as refused:
        load(tmp_path / "rules", tmp_path / "policies")

    assert [(problem.file, problem.what) for problem in refused.value.problems] == [(name, what)]


def test_a_link_to_another_folder_hides_no_other_problem(tmp_path: Path) -> None:
    """Files beside it are read, and what is wrong in them by itself is told."""
    write(tmp_path, {**SMALL, "rules/small.yaml": RULES.replace("amount == 41 CNY", "amuont == 41 CNY")})
    (tmp_path / "rules" / "more").symlink_to(ROOT / "rules")
    with pytest.raises(PackError) as refused:
        load(tmp_path / "rules", tmp_path / "policies")

    assert [problem.what for problem in refused.value.problems] == [
        "the linked folder lies outside the pack folder",
        "unknown name 'amuont'",
    ]


@pytest.mark.parametrize("name", ["rules/lists/bad-bins.yaml", "policies/schema.yaml"])
def test_names_of_a_file_whose_yaml_breaks_off_are_not_missed(tmp_path: Path, name: str) -> None:
    files = {**NEEDY, name: NEEDY[name] + "more: [\n"}

    assert {line.partition(":")[0] for line in told(tmp_path, files)} == {name}


def test_a_start_goes_on_without_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    files = {**SMALL, "rules/lists/bad-bins.yaml": BINS + "file: bins.txt\n"}
    made = book(tmp_path, files, strict=False)

    assert (made.lists.available("bad-bins"), made.lists.available("bad-networks")) == (False, True)
    assert made.kinds["payment"].lists == ("bad-bins", "bad-networks")


def test_every_kind_has_a_place_and_only_those_with_a_policy_are_judged(tmp_path: Path) -> None:
    made = book(tmp_path, SMALL)

    assert made.judged == ("payment",)
    assert set(made.kinds) == set(made.schema.kinds)
    assert made.kinds["listing"].rules == ()


def test_rules_that_are_off_cost_nothing(tmp_path: Path) -> None:
    burst = RULES.replace("    when: tries >= 3\n", "    when: tries >= 3\n    mode: off\n")
    made = book(tmp_path, {**SMALL, "rules/small.yaml": burst})

    assert "small.burst" in [rule.id for rule in made.rules]
    assert "small.burst" not in [rule.id for rule in made.kinds["payment"].rules]
    assert made.windows == ()


def test_empty_folders_are_a_rulebook_that_judges_nothing(tmp_path: Path) -> None:
    assert book(tmp_path, {}).judged == ()


# --------------------------------------------------------------------------------------- what pages promise


def passes(made: Rulebook) -> int:
    trials = list(try_rules(made))
    assert [trial.problem.render() for trial in trials if trial.problem] == []
    return len(trials)


def test_the_rule_files_of_our_pages_load_and_their_tests_pass(tmp_path: Path) -> None:
    found = [block for block in blocks(ROOT / "docs" / "packs.md") if block.startswith(("pack:", "links:"))]
    made = book(tmp_path, {f"rules/page-{number}.yaml": block for number, block in enumerate(found)})

    assert (len(found), passes(made)) == (6, 11)


def found_by_others(policy: str, taken: str) -> str:
    """A pack that finds the signals of a policy which the rules of `taken` do not."""
    document = packs.parse(policy)
    rows = [row for part in ("rules", "mandatory", "actions") for row in document.data.get(part, [])]
    asked = {str(term) for row in rows for term in (*row["when"], *row.get("unless", []))}
    derived = {str(row["derive"]["signal"]) for row in rows if "derive" in row}
    missing = sorted(term for term in asked - derived if f"signal: {term}" not in taken and not term.startswith("any "))
    rules = [
        f"  - id: others.{signal.replace('_', '-')}\n    when: amount > 100 CNY\n    signal: {signal}\n"
        "    because: {en: found, zh: 有}\n    basis: {kind: house-policy, review_by: 2027-05-31}\n"
        for signal in missing
    ]
    return "pack: others\nabout: What else the policy asks for.\nfor: payment\nowner: tests\nrules:\n" + "".join(rules)


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param(lambda: blocks(DESIGN), id="design", marks=pytest.mark.data("design.md")),
        pytest.param(
            lambda: [*blocks(ROOT / "docs" / "packs.md")[:1], *blocks(ROOT / "docs" / "policies.md")[:1]], id="docs"
        ),
    ],
)
def test_the_rule_file_and_the_policy_file_of_the_design_work_together(
    tmp_path: Path, pages: Callable[[], list[str]]
) -> None:
    rules, policy = pages()
    files = {
        "rules/payments/card-testing.yaml": rules,
        "rules/others.yaml": found_by_others(policy, rules),
        "policies/checkout.yaml": policy,
    }
    made = book(tmp_path, files)

    assert passes(made) == 2
    checkout = made.kinds["transaction"].policy
    assert checkout is made.kinds["payment"].policy
    assert checkout is not None
    assert checkout.verdicts == ("approve", "challenge", "review", "decline")


def test_files_written_twice_are_loaded_anew(tmp_path: Path) -> None:
    """Nothing of a former load lingers: a reload sees what is on disk."""
    first = book(tmp_path, SMALL)
    write(tmp_path, {"rules/small.yaml": RULES.replace("amount == 41 CNY", "amount == 42 CNY")})
    second = load(tmp_path / "rules", tmp_path / "policies")

    assert (first.rules[0].condition.source, second.rules[0].condition.source) == (
        "amount == 41 CNY",
        "amount == 42 CNY",
    )
