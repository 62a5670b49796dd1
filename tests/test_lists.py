"""Named lists: files, entries through the API, expiry, networks, and what a record pins of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import BodyRefused, Conflict, PackError, SecondPerson
from engine.lists import (
    History,
    ListEntry,
    ListSet,
    NamedList,
    approve,
    ask_end,
    end,
    propose,
    read_list,
    read_lists,
    withdraw,
)
from engine.lists.tables import NEVER, phrases, prefixes
from engine.packs import parse, read_all
from engine.packs.moments import end_of, start_of

NOW = start_of("2026-11-20T12:00:00+08:00")
HOUR = 3_600_000_000
SHIPPED = Path(__file__).parents[1] / "rules" / "lists"


def named(source: str) -> NamedList:
    return read_list(parse(source, "rules/lists/x.yaml"))


def holding(source: str, at: int = NOW) -> Callable[[str], bool | None]:
    found = read_lists([parse(source)])
    (name,) = found.names()
    return found.lookups(at, "shop")[name]


def problems(source: str) -> list[str]:
    with pytest.raises(PackError) as caught:
        named(source)
    return [str(problem).removeprefix("rules/lists/x.yaml:") for problem in caught.value.problems]


def pseudonym(tenant: str, namespace: str, value: str) -> str:
    return f"{tenant}/{namespace}/{value[::-1]}"


EXACT = "list: bins\nabout: x\nmatch: exact\n"
PREFIX = "list: beginnings\nabout: x\nmatch: prefix\n"
PHRASE = "list: phrases\nabout: x\nmatch: phrase\n"
CIDR = "list: nets\nabout: x\nmatch: cidr\n"
TRUSTED = "list: trusted\nabout: x\nmatch: exact\neffect: lowers\nowner: a\napproved_by: b\n"


# -- Files -----------------------------------------------------------------------------------------------------

COMPARED: tuple[tuple[str, str, str, bool | None], ...] = (
    (EXACT, "415000", "415000", True),
    (EXACT, "415000", "41500", False),
    (EXACT, "'012345'", "012345", True),
    (EXACT, "012345", "012345", True),
    (EXACT, "+8613800138000", "+8613800138000", True),
    (EXACT, "1.50", "1.50", True),
    (EXACT, "' ab '", "ab", True),
    (EXACT, "ab", "AB", False),
    (EXACT, "ＡＢ", "AB", True),
    (EXACT, "示例公司", " 示例公司 ", True),
    (EXACT + "ignore_case: true\n", "Mailinator.COM", "mailinator.com", True),
    (EXACT + "ignore_case: true\n", "straße", "STRASSE", False),
    (EXACT + "ignore_case: true\n", "ÉCOLE", "école", True),
    (EXACT + "entity: phone\n", "'0571-8888 8888'", "+86 571 88888888", True),
    (EXACT + "entity: email\n", "A@Example.com", "a@example.com", True),
    (PREFIX, "4150", "415000", True),
    (PREFIX, "'+86 170'", "+86 17012345678", True),
    (PREFIX, "4150", "415", False),
    (PREFIX, "4150", "9415000", False),
    (PREFIX, "４１５", "415000", True),
    (PREFIX + "ignore_case: true\n", "Bot-", "bOT-7", True),
    (PHRASE, "最佳", "全网最佳口感", True),
    (PHRASE, "最佳", "最 佳", False),
    (PHRASE, "best ever", "The best ever tea", True),
    (PHRASE, "Best", "best", False),
    (PHRASE + "ignore_case: true\n", "Best Ever", "THE BEST EVER TEA", True),
    (PHRASE, "ｂｅｓｔ", "the best", True),
    (CIDR, "192.0.2.0/24", "192.0.2.255", True),
    (CIDR, "192.0.2.0/24", "192.0.3.0", False),
    (CIDR, "192.0.2.7", "192.0.2.7", True),
    (CIDR, "192.0.2.7", "::ffff:192.0.2.7", True),
    (CIDR, "'::ffff:192.0.2.0/120'", "192.0.2.9", True),
    (CIDR, "2001:db8::/32", "2001:db8:ffff::1", True),
    (CIDR, "2001:db8::/32", "2001:DB9::1", False),
    (CIDR, "192.0.2.0/24", "not an address", None),
)


@pytest.mark.parametrize(("head", "entry", "value", "expected"), COMPARED)
def test_values_are_compared_in_their_normal_form(head: str, entry: str, value: str, expected: bool | None) -> None:
    """Spelling does not matter where it should not, digits stay as written, unknown stays unknown."""
    assert holding(f"{head}entries:\n  - {entry}\n")(value) is expected


REFUSED: tuple[tuple[str, list[str]], ...] = (
    ("about: x\nmatch: exact\n", ["1:1: 'list' is missing"]),
    (EXACT.replace("bins", "Big Bins"), ["1:7: write small letters, digits and '-', such as tor-exits"]),
    (EXACT + "entrys: [a]\n", ["4:1: unknown key 'entrys'"]),
    (EXACT.replace("exact", "fuzy"), ["3:8: expected one of exact, prefix, phrase, cidr, name; found 'fuzy'"]),
    (
        EXACT + "entries: [a, true, ~, [b]]\n",
        ["4:14: an entry is text or a number", "4:20: expected text", "4:23: expected text"],
    ),
    (EXACT + "entries: [a, true]\n", ["4:14: an entry is text or a number"]),
    (EXACT + "entries: ['', ' ']\n", ["4:11: an entry must not be empty", "4:15: an entry must not be empty"]),
    (EXACT + f"entries: [{'x' * 501}]\n", ["4:11: an entry has at most 500 characters"]),
    (EXACT + "entries: [{value: a, expires: soon}]\n", ["4:31: write a day such as 2027-01-31"]),
    (EXACT + "entries: [{value: a, expires: 2027-02-30}]\n", ["4:31: there is no such moment"]),
    (EXACT + "entries: [{value: a, until: 2027-01-31}]\n", ["4:22: unknown key 'until'"]),
    (EXACT + "entity: ip\nentries: [300.1.1.1]\n", ["5:11: this is no ip"]),
    (EXACT + "entity: shoe\n", ["4:9: write one of: "]),
    (EXACT + "entity: email\nignore_case: true\n", ["5:1: this list has its own way"]),
    (PREFIX + "entity: phone\n", ["4:9: a prefix cannot be kept as a pseudonym"]),
    (PHRASE + "entity: address\n", ["4:9: a phrase cannot be kept as a pseudonym"]),
    (PHRASE + "entries: [' ']\n", ["4:11: an entry must not be empty"]),
    (CIDR + "entity: ip\n", ["4:9: a network cannot be kept as a pseudonym"]),
    (CIDR + "entries: [192.0.2.1/24]\n", ["4:11: the address goes on behind its prefix"]),
    (CIDR + "entries: [0.0.0.0/0, '::/0']\n", ["4:11: this is every address", "4:22: this is every address"]),
    (
        CIDR + "entries: [tor, 1.2.3, 1]\n",
        ["4:11: this is not an IP", "4:16: this is not an IP", "4:23: this is not an IP"],
    ),
    (EXACT + "file: bins.txt\n", ["4:7: there is no file 'bins.txt' beside this one"]),
    (
        EXACT + "effect: lowers\n",
        [
            "4:9: a list that lowers the risk says its 'approved_by'",
            "4:9: a list that lowers the risk says its 'owner'",
        ],
    ),
    (TRUSTED.replace("approved_by: b\n", ""), ["4:9: a list that lowers the risk says its 'approved_by'"]),
    (TRUSTED.replace("owner: a", "owner: ' '"), ["5:8: a list that lowers the risk says its 'owner'"]),
    (TRUSTED.replace("approved_by: b", "approved_by: ' A '"), ["6:14: the owner cannot approve the list alone"]),
    (TRUSTED + "file: bins.txt\nentries: [' ']\n", ["7:7: there is no file", "8:11: an entry must not be empty"]),
)


@pytest.mark.parametrize(("source", "expected"), REFUSED)
def test_a_bad_list_is_refused_with_its_places(source: str, expected: list[str]) -> None:
    """Every problem at once, in words for the person who keeps the list."""
    found = problems(source)

    assert [shown[: len(begin)] for shown, begin in zip(found, expected, strict=True)] == expected


def write(folder: Path, **files: str) -> Path:
    root = folder / "rules"
    (root / "lists").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / "lists" / name.replace("_", ".")).write_text(content, encoding="utf-8")
    return root


TEXT_FILE = (
    "# exits of 卡\n\n192.0.2.1\n  198.51.100.0/24   # seen twice\n203.0.113.7 until 2026-11-20 # expires tonight\n"
)


def test_entries_may_stand_in_a_text_file(tmp_path: Path) -> None:
    """One a line, with expiry and reason; its bytes belong to the rulebook."""
    root = write(tmp_path, tor_yaml=CIDR + "file: tor.txt\nentries: [192.0.2.9]\n", tor_txt=TEXT_FILE)
    found = read_lists(read_all(root))
    holds = found.lookups(NOW, "shop")["nets"]

    assert [holds(f"192.0.2.{host}") for host in (1, 2, 9)] == [True, False, True]
    assert [holds("198.51.100.200"), holds("203.0.113.7")] == [True, True]
    assert found.lookups(end_of("2026-11-20"), "shop")["nets"]("203.0.113.7") is False
    assert found.lists["nets"].files == {"lists/tor.txt": TEXT_FILE.encode()}
    assert found.lists["nets"].size == 4


def test_names_with_blanks_and_signs_fit_in_a_text_file(tmp_path: Path) -> None:
    """Only ' until ' and ' #' end a value."""
    root = write(tmp_path, n_yaml=EXACT + "file: n.txt\n", n_txt="Example Trading LLC\nC#\nuntil dawn café # place\n")
    holds = read_lists(read_all(root)).lookups(NOW, "shop")["bins"]

    assert holds("Example Trading LLC")
    assert holds("C#")
    assert holds("until dawn café")


def test_problems_in_a_text_file_have_its_lines(tmp_path: Path) -> None:
    """And do not hide those of the YAML file."""
    text = "192.0.2.1\nnonsense\n192.0.2.3 until tomorrow\n"
    root = write(tmp_path, tor_yaml=CIDR + "file: tor.txt\nentries: [x]\n", tor_txt=text)
    with pytest.raises(PackError) as caught:
        read_lists(read_all(root))

    assert [str(problem).partition(": ")[0] for problem in caught.value.problems] == [
        "rules/lists/tor.txt:2:1",
        "rules/lists/tor.txt:3:17",
        "rules/lists/tor.yaml:5:11",
    ]


@pytest.mark.parametrize("name", ["../../secret.txt", "/etc/hostname"])
def test_a_text_file_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    """A list cannot read what the packs do not own."""
    (tmp_path / "secret.txt").write_text("a\n")
    root = write(tmp_path, x_yaml=EXACT + f"file: {name}\n")

    with pytest.raises(PackError) as caught:
        read_lists(read_all(root))
    assert "a\n" not in str(caught.value)


def test_a_missing_text_file_stops_a_check_but_not_a_server(tmp_path: Path) -> None:
    """At run time the list is unavailable: lookups are unknown, the others work."""
    root = write(tmp_path, gone_yaml=EXACT + "file: gone.txt\n", tor_yaml=CIDR + "entries: [192.0.2.1]\n")
    with pytest.raises(PackError):
        read_lists(read_all(root))
    found = read_lists(read_all(root), strict=False)
    lookups = found.lookups(NOW, "shop")

    assert [found.available(name) for name in ("bins", "nets", "never-heard-of")] == [False, True, False]
    assert lookups["bins"]("415000") is None
    assert lookups["nets"]("192.0.2.1") is True
    assert lookups.get("never-heard-of") is None
    assert found.hashes(["bins"], "shop") == {"bins": "unavailable"}


def test_a_list_can_become_unreadable_later() -> None:
    """When the database cannot give its entries, nobody knows what is on it."""
    found = read_lists([parse(EXACT + "entries: [a]\n")]).with_unreadable(["bins"])

    assert found.lookups(NOW, "shop")["bins"]("a") is None
    assert not found.available("bins")
    assert found.with_unreadable([]).lookups(NOW, "shop")["bins"]("a") is True


@pytest.mark.parametrize("head", [PREFIX, PHRASE], ids=["prefix", "phrase"])
def test_an_entry_that_expired_hides_no_other_that_matches(head: str) -> None:
    """Of a value several entries may stand: each counts up to its own day."""
    entries = "entries: [{value: ab, expires: 2026-11-19}, {value: abc, expires: 2027-01-31}, abcd]\n"
    holds = holding(head + entries)
    assert [holds(value) for value in ("ab", "abc", "abcd", "xabc")] == [False, True, True, head == PHRASE]


@pytest.mark.parametrize("match", ["prefix", "phrase"])
@given(st.lists(st.text("ab", min_size=1, max_size=4), max_size=8), st.text("ab", max_size=8))
def test_beginnings_and_phrases_are_those_of_text(match: str, entries: list[str], value: str) -> None:
    """Against `startswith` and `in`, also as entries come and go."""
    table = {"prefix": prefixes, "phrase": phrases}[match]
    test = str.startswith if match == "prefix" else str.__contains__
    found = table(dict.fromkeys(entries, NEVER))
    assert found.holds(0, value) is any(test(value, entry) for entry in entries)
    for entry in list(entries):
        found, entries = found.drop(entry), [other for other in entries if other != entry]
        assert found.holds(0, value) is any(test(value, other) for other in entries)
    assert found.put("a", NEVER).holds(0, value) is test(value, "a")


def test_two_lists_cannot_share_a_name() -> None:
    """A condition must know which one it asks."""
    with pytest.raises(PackError, match="there are two lists 'bins'"):
        read_lists([parse(EXACT, "a.yaml"), parse(EXACT, "b.yaml")])


def test_the_shipped_lists_load() -> None:
    """Each with an owner's note of where it comes from."""
    found = read_lists(read_all(SHIPPED))

    assert found.names()["tor-exits"] == "cidr"
    assert all(len(entry.about) > 40 for entry in found.lists.values())


def test_an_entry_expires_at_the_time_received() -> None:
    """A day holds to its end in Beijing, an instant up to itself; of two equal entries the longer one counts."""
    source = EXACT + (
        "entries:\n"
        "  - {value: a, expires: 2026-11-20, reason: leaked}\n"
        "  - {value: b, expires: '2026-11-20T12:00:00+08:00'}\n"
        "  - {value: c, expires: 2026-11-20}\n  - c\n"
    )

    assert [holding(source, NOW)(value) for value in "abc"] == [True, False, True]
    assert [holding(source, NOW - 1)(value) for value in "abc"] == [True, True, True]
    assert [holding(source, end_of("2026-11-20") - 1)(value) for value in "abc"] == [True, False, True]
    assert [holding(source, end_of("2026-11-20"))(value) for value in "abc"] == [False, False, True]


NETWORKS = st.builds(
    lambda number, length, six: str(
        ip_network((number >> (0 if six else 96), length if six else length // 4), strict=False)
    ),
    st.integers(0, 2**128 - 1).map(lambda n: n | 0x20 << 120),
    st.integers(100, 128),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(NETWORKS, max_size=8), st.lists(st.integers(0, 2**128 - 1), max_size=8))
def test_networks_agree_with_the_standard_library(written: list[str], numbers: list[int]) -> None:
    """Whatever the mix of prefix lengths, an address is held when one of the networks contains it."""
    nets = [ip_network(net) for net in written]
    asked = [str(net[offset % min(net.num_addresses, 9)]) for net in nets for offset in (0, 8)]
    asked += [str(ip_address(number)) for number in numbers]
    holds = holding(CIDR + f"entries: {[str(net) for net in nets]}\n")

    for address in asked:
        found = ip_address(address)
        found = getattr(found, "ipv4_mapped", None) or found
        assert holds(address) is any(found in net for net in nets if net.version == found.version)


# -- Entries through the API -----------------------------------------------------------------------------------


def proposal(source: str, value: str = "a", **changes: Any) -> ListEntry:
    given: dict[str, Any] = {"tenant": "shop", "by": "person:a", "at": NOW, "reason": "seen in an attack"}
    return propose(named(source), value, **{**given, **changes})


def test_an_entry_that_raises_the_risk_counts_at_once() -> None:
    """Speed matters more than a second look."""
    entry = proposal(EXACT, " 415000 ")

    assert (entry.state, entry.value, entry.added) == ("active", "415000", NOW)


def test_an_entry_that_lowers_the_risk_waits_for_a_second_person() -> None:
    """It counts only after somebody else approved it."""
    entry = proposal(TRUSTED)
    lists = read_lists([parse(TRUSTED)])

    assert entry.state == "pending"
    assert lists.with_entry(entry).lookups(NOW, "shop")["trusted"]("a") is False

    with pytest.raises(SecondPerson, match="second person"):
        approve(entry, by="person:a", at=NOW)
    approved = approve(entry, by="person:b", at=NOW)

    assert (approved.state, approved.approved_by) == ("active", "person:b")
    assert lists.with_entry(approved).lookups(NOW, "shop")["trusted"]("a") is True


def test_an_entry_whose_end_lowers_the_risk_counts_until_a_second_person_approves() -> None:
    """The set, its hash and what conditions see stay as they were while it waits."""
    base, entry = read_lists([parse(EXACT)]), proposal(EXACT)
    waiting = ask_end(entry, by="person:a")

    for by in ("person:a", "Person:A"):
        with pytest.raises(SecondPerson, match="second person"):
            approve(waiting, by=by, at=NOW)
    for lists in (base.with_entry(entry), base.with_entry(entry).with_entry(waiting), base.with_entries([waiting])):
        assert lists.lookups(NOW, "shop")["bins"]("a") is True
        assert lists.hashes(["bins"], "shop") == base.with_entry(entry).hashes(["bins"], "shop")
    ended = approve(waiting, by="person:b", at=NOW)

    assert (ended.state, ended.ended_by) == ("ended", "person:a")
    assert base.with_entry(waiting).with_entry(ended).lookups(NOW, "shop")["bins"]("a") is False


def test_what_waits_can_be_withdrawn() -> None:
    """A new entry then ends, and one whose end was asked for is as it was before."""
    entry, pending = proposal(EXACT), proposal(TRUSTED)

    assert withdraw(ask_end(entry, by="person:a"), by="person:b") == entry
    assert withdraw(pending, by="person:b") == replace(pending, state="ended", ended_by="person:b")


def test_steps_that_are_not_open_are_conflicts() -> None:
    """An entry is approved once, in time, and ended once."""
    pending = proposal(TRUSTED, expires=NOW + HOUR)
    active = approve(pending, by="person:b", at=NOW)

    with pytest.raises(Conflict):
        approve(active, by="person:c", at=NOW)
    with pytest.raises(Conflict, match="expired"):
        approve(pending, by="person:b", at=NOW + HOUR)
    with pytest.raises(Conflict):
        end(end(active, by="person:a"), by="person:a")
    with pytest.raises(Conflict):
        approve(end(pending, by="person:a"), by="person:b", at=NOW)
    with pytest.raises(Conflict, match="second person already"):
        ask_end(ask_end(active, by="person:a"), by="person:b")
    with pytest.raises(Conflict):
        withdraw(active, by="person:a")


@pytest.mark.parametrize(
    ("source", "value", "changes", "message"),
    [
        (CIDR, "203.0.113.203/31", {}, "goes on behind its prefix"),
        (CIDR, "2001:db8::113:5/112", {}, "goes on behind its prefix"),
        (CIDR, "203.0.113.256", {}, "not an IP address"),
        (CIDR, "0.0.0.0/0", {}, "every address"),
        (EXACT, " ", {}, "must not be empty"),
        (EXACT, "a", {"reason": " "}, "needs a reason"),
        (EXACT, "a", {"reason": "x" * 401}, "at most 400 characters"),
        (EXACT, "a", {"expires": NOW}, "in the past"),
        (EXACT + "entity: ip\n", "secret-value", {"pseudonym": pseudonym}, "this is no ip"),
    ],
)
def test_a_bad_proposal_is_refused(source: str, value: str, changes: dict[str, Any], message: str) -> None:
    """The refusal never repeats a value that may be personal."""
    with pytest.raises(BodyRefused, match=message) as caught:
        proposal(source, value, **changes)
    assert "secret" not in str(caught.value)
    assert "113" not in str(caught.value), "nor what it could be corrected to"


def test_a_file_shows_what_a_loose_network_could_mean() -> None:
    """It is the text of the officer who reads the problem."""
    with pytest.raises(PackError) as caught:
        named(CIDR + "entries: [192.0.2.1/24]\n")

    assert [problem.hint for problem in caught.value.problems] == ["write 192.0.2.0/24"]


def test_entries_belong_to_their_tenant_and_expire() -> None:
    """One shop's blocklist is nobody else's."""
    lists = read_lists([parse(CIDR)]).with_entries([proposal(CIDR, "10.1.0.0/16", expires=NOW + HOUR)])

    assert lists.lookups(NOW, "shop")["nets"]("10.1.2.3") is True
    assert lists.lookups(NOW, "other")["nets"]("10.1.2.3") is False
    assert lists.lookups(NOW + HOUR, "shop")["nets"]("10.1.2.3") is False


def test_personal_entries_are_pseudonyms_and_still_found() -> None:
    """The snapshot, its hash and the row hold no phone number."""
    source = EXACT + "entity: phone\nentries: ['13800138000']\n"
    entry = proposal(source, "139-0013-9000", pseudonym=pseudonym)
    lists = read_lists([parse(source)]).with_pseudonym(pseudonym).with_entries([entry])
    holds = lists.lookups(NOW, "shop")["bins"]

    assert entry.value == "shop/phone/00093100931" + "68+"
    assert "13900139000" not in str(asdict(entry))
    assert [holds(value) for value in ("+8613900139000", "13800138000", "13700137000")] == [True, True, False]


def test_a_set_never_changes() -> None:
    """A decision under way keeps the lists it began with."""
    before = read_lists([parse(EXACT)])
    lookups = before.lookups(NOW, "shop")
    after = before.with_entry(proposal(EXACT))

    assert lookups["bins"]("a") is before.lookups(NOW, "shop")["bins"]("a") is False
    assert after.lookups(NOW, "shop")["bins"]("a") is True
    assert after.with_entry(end(proposal(EXACT), by="person:a")).lookups(NOW, "shop")["bins"]("a") is False


def test_entries_of_lists_that_are_gone_do_nothing() -> None:
    """The rule files may drop a list whose rows are still in the database."""
    lists = read_lists([parse(EXACT)])
    stray = replace(proposal(EXACT), list="gone")

    assert lists.with_entries([stray]).names() == lists.with_entry(stray).names() == {"bins": "exact"}


STEPS = st.lists(
    st.tuples(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.1.0.0/16", "2001:db8::/32"]), st.sampled_from([0, 1, 2])),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_step_by_step_is_the_same_as_all_at_once(steps: list[tuple[str, int]]) -> None:
    """Any order of adding, changing and ending gives the table and the hash of what is left."""
    base = read_lists([parse(CIDR + "entries: [10.9.0.0/16]\n")])
    grown, rows = base, dict[str, ListEntry]()
    for value, step in steps:
        entry = proposal(CIDR, value, expires=None if step == 1 else NOW + HOUR)
        rows[value] = end(entry, by="person:a") if step == 0 else entry
        grown = grown.with_entry(rows[value])
    fresh = base.with_entries(reversed(rows.values()))

    assert grown.hashes(["nets"], "shop") == fresh.hashes(["nets"], "shop")
    for address in ("10.0.0.1", "10.0.0.2", "10.1.2.3", "2001:db8::1", "10.9.1.1"):
        for at in (NOW, NOW + HOUR):
            asked = [lists.lookups(at, "shop")["nets"](address) for lists in (grown, fresh)]
            assert asked[0] is asked[1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.sampled_from(["active", "ending", "ended", "pending"]), st.booleans())))
def test_a_history_gives_what_was_on_the_list_by_its_hash(changes: list[tuple[int, str, bool]]) -> None:
    """Beside the lists themselves, changed one entry at a time."""
    base = lists = read_lists([parse(EXACT)])
    entries = [
        replace(proposal(EXACT, str(value)), expires=NOW + HOUR if ends else None).stood(
            f"{state} until {NOW + 2 * HOUR}" if ends else state
        )
        for value, state, ends in changes
    ]
    history = History(base.lists["bins"].hash, entries)
    for entry in entries:
        lists = lists.with_entry(entry)
        pinned = lists.hashes(["bins"], "shop")["bins"]
        found = history.entries(pinned)
        assert found is not None
        again = base.with_entries(found)
        assert again.hashes(["bins"], "shop")["bins"] == pinned
        for value in map(str, range(8)):
            for at in (NOW, NOW + 3 * HOUR):
                asked = [each.lookups(at, "shop")["bins"](value) for each in (again, lists)]
                assert asked[0] == asked[1]
    assert history.entries(base.lists["bins"].hash) == ()
    assert history.entries("0" * 64) is None


def test_the_hash_names_what_the_list_holds() -> None:
    """Entries, expiries and the way of comparing change it; order, spelling and notes do not."""

    def of(source: str) -> str:
        return read_lists([parse(source)]).hashes(["bins"], "shop")["bins"]

    base = of(EXACT + "entries: [a, b]\n")

    assert base == of(EXACT.replace("about: x", "about: other words") + "entries:\n- b\n- ' a'\n")
    assert len({base, of(EXACT + "entries: [a]\n"), of(EXACT + "ignore_case: true\nentries: [a, b]\n")}) == 3
    assert base != of(EXACT + "entries: [a, {value: b, expires: 2026-12-01}]\n")


def test_the_hash_differs_between_tenants_only_where_entries_do() -> None:
    """And comes back when the entry goes."""
    lists = read_lists([parse(EXACT)])
    grown = lists.with_entry(proposal(EXACT))

    assert lists.hashes(["bins"], "shop") == grown.hashes(["bins"], "other") != grown.hashes(["bins"], "shop")
    assert grown.with_entry(end(proposal(EXACT), by="person:a")).hashes(["bins"], "shop") == lists.hashes(
        ["bins"], "shop"
    )


def test_an_empty_set_answers_nothing() -> None:
    """No list, no answer."""
    assert ListSet({}).lookups(NOW, "shop").get("bins") is None
    assert list(ListSet({}).lookups(NOW, "shop")) == []
