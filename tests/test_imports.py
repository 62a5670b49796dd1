"""`arbiter list import`: the forms in which lists are published, what a preview shows, and what is refused."""

from __future__ import annotations

import gzip
import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from cli import main
from engine.errors import Problem
from engine.lists import read_list, read_lists
from engine.lists.files import Row, file_line, file_rows
from engine.lists.published import FORMS, download, read_published
from engine.lists.tables import NEVER
from engine.packs import Source, read
from engine.packs.moments import end_of, start_of, written_end
from tests.books import ROOT, SHARED

OFAC = SHARED / "data/lists"
NOW = start_of("2026-11-20T12:00:00+08:00")

SDN = (
    '9001,"ZORANDER, Mikula Petrowan","individual","TESTLAND] [SDGT",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,'
    "\"DOB 1 Jan 1900; a.k.a. 'FOX'; a.k.a. 'THE ELDER'.\"\r\n"
    '9002,"BRANDOV MARITIME CO., LTD.",-0- ,"TESTLAND",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- \r\n'
    '9003,"SEA QUIMBLE","vessel","TESTLAND",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- \r\n'
    "\x1a\r\n"
)
ALT = (
    '9001,1,"aka","SORANDER, Nikola",-0- \r\n9002,2,"fka","BRANDOV OFFICE #39",-0- \r\n'
    '9002,3,"aka","Q",-0- \r\n9003,4,"aka","QUIMBLE STAR",-0- \r\n'
)
SDN_XML = """<?xml version="1.0" standalone="yes"?>
<sdnList xmlns="https://sanctions.example/sdn.xsd">
  <publshInformation><Publish_Date>10/02/2026</Publish_Date><Record_Count>3</Record_Count></publshInformation>
  <sdnEntry><uid>9001</uid><firstName>Mikula Petrowan</firstName><lastName>ZORANDER</lastName>
    <sdnType>Individual</sdnType><programList><program>TESTLAND</program><program>SDGT</program></programList>
    <akaList>
      <aka><uid>1</uid><type>a.k.a.</type><category>strong</category><lastName>SORANDER</lastName>
        <firstName>Nikola</firstName></aka>
      <aka><uid>5</uid><type>a.k.a.</type><category>weak</category><lastName>FOX</lastName></aka>
    </akaList></sdnEntry>
  <sdnEntry><uid>9002</uid><lastName>BRANDOV &amp; SONS</lastName><sdnType>Entity</sdnType>
    <programList><program>TESTLAND</program></programList></sdnEntry>
  <sdnEntry><uid>9003</uid><lastName>SEA QUIMBLE</lastName><sdnType>Vessel</sdnType></sdnEntry>
</sdnList>
"""
UN = """<?xml version="1.0" encoding="UTF-8"?>
<CONSOLIDATED_LIST dateGenerated="2026-10-03T00:00:00.000Z">
  <INDIVIDUALS>
    <INDIVIDUAL><DATAID>1</DATAID><FIRST_NAME>MIKULA</FIRST_NAME><SECOND_NAME>PETROWAN</SECOND_NAME>
      <THIRD_NAME>ZORANDER</THIRD_NAME><UN_LIST_TYPE>Testland</UN_LIST_TYPE>
      <REFERENCE_NUMBER>TLi.001</REFERENCE_NUMBER><NAME_ORIGINAL_SCRIPT>Микула Зорандер</NAME_ORIGINAL_SCRIPT>
      <INDIVIDUAL_ALIAS><QUALITY>Good</QUALITY><ALIAS_NAME>Nikola Sorander</ALIAS_NAME></INDIVIDUAL_ALIAS>
      <INDIVIDUAL_ALIAS><QUALITY>Low</QUALITY><ALIAS_NAME>Fox</ALIAS_NAME></INDIVIDUAL_ALIAS>
      <INDIVIDUAL_ALIAS><QUALITY/><ALIAS_NAME/></INDIVIDUAL_ALIAS>
    </INDIVIDUAL>
  </INDIVIDUALS>
  <ENTITIES>
    <ENTITY><FIRST_NAME>BRANDOV MARITIME</FIRST_NAME><UN_LIST_TYPE>Testland</UN_LIST_TYPE>
      <REFERENCE_NUMBER>TLe.001</REFERENCE_NUMBER>
      <ENTITY_ALIAS><QUALITY>f.k.a.</QUALITY><ALIAS_NAME>Brandov Lines</ALIAS_NAME></ENTITY_ALIAS></ENTITY>
  </ENTITIES>
</CONSOLIDATED_LIST>
"""
EU = """<?xml version="1.0" encoding="UTF-8"?>
<export xmlns="http://eu.example/export/1.1" generationDate="2026-10-04T12:00:00.000+02:00" globalFileId="1">
  <sanctionEntity designationDetails="" euReferenceNumber="EU.1.11" logicalId="1">
    <regulation programme="TST" publicationDate="2026-01-01"><publicationUrl>x</publicationUrl></regulation>
    <subjectType code="person" classificationCode="P"/>
    <nameAlias firstName="Mikula" middleName="" lastName="Zorander" wholeName="Mikula Zorander" strong="true"/>
    <nameAlias firstName="" middleName="" lastName="" wholeName="&#x200f;ميكولا زوراندر&#x200e;" strong="true"/>
    <nameAlias firstName="" middleName="" lastName="" wholeName="Fox" strong="false"/>
  </sanctionEntity>
  <sanctionEntity logicalId="2"><regulation programme="TST"/><regulation programme="TST"/>
    <subjectType code="enterprise"/><nameAlias wholeName="Brandov Maritime"/></sanctionEntity>
</export>
"""

REASONED = {
    "csv": (
        "ofac-sdn",
        [("sdn.csv", SDN), ("alt.csv", ALT)],
        "",
        {
            "ZORANDER, Mikula Petrowan": "OFAC 9001 TESTLAND, SDGT",
            "BRANDOV MARITIME CO., LTD.": "OFAC 9002 TESTLAND",
            "SORANDER, Nikola": "OFAC 9001 TESTLAND, SDGT, alias",
            "BRANDOV OFFICE #39": "OFAC 9002 TESTLAND, alias",
        },
        {"weak aliases": 2, "ships and aircraft": 2, "names that cannot be compared": 1},
    ),
    "xml": (
        "ofac-sdn",
        [("sdn.xml", SDN_XML)],
        "2026-10-02",
        {
            "ZORANDER, Mikula Petrowan": "OFAC 9001 TESTLAND, SDGT",
            "SORANDER, Nikola": "OFAC 9001 TESTLAND, SDGT, alias",
            "BRANDOV & SONS": "OFAC 9002 TESTLAND",
        },
        {"weak aliases": 1, "ships and aircraft": 1},
    ),
    "un": (
        "un",
        [("consolidated.xml", UN)],
        "2026-10-03",
        {
            "MIKULA PETROWAN ZORANDER": "UN TLi.001 Testland",
            "Микула Зорандер": "UN TLi.001 Testland, original script",
            "Nikola Sorander": "UN TLi.001 Testland, alias",
            "BRANDOV MARITIME": "UN TLe.001 Testland",
            "Brandov Lines": "UN TLe.001 Testland, alias",
        },
        {"weak aliases": 1},
    ),
    "eu": (
        "eu",
        [("full.xml", EU)],
        "2026-10-04",
        {"Mikula Zorander": "EU EU.1.11 TST", "ميكولا زوراندر": "EU EU.1.11 TST", "Brandov Maritime": "EU 2 TST"},
        {"weak aliases": 1},
    ),
}


def laid(folder: Path, *files: tuple[str, str | bytes]) -> list[Path]:
    for name, content in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return [folder / name for name, _ in files]


def run(*args: str | Path) -> Result:
    env = {name: None for name in os.environ if name.startswith("ARBITER_")}
    result = CliRunner().invoke(main, ["list", *map(str, args)], env=env, prog_name="arbiter")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def imported(*args: str | Path) -> dict[str, Any]:
    result = run("import", *args, "--json", "--show", "1000")
    found: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == int(not found["ok"])
    return found


@pytest.mark.parametrize("which", REASONED)
def test_a_published_list_is_read_as_its_authority_writes_it(which: str, tmp_path: Path) -> None:
    """Names with the number and programmes of their listing, weak aliases and ships left out and counted."""
    form, files, published, reasons, left_out = REASONED[which]
    into = tmp_path / "lists" / "official.yaml"
    into.parent.mkdir()
    paths = laid(tmp_path, *files)
    found = imported(*paths, "--as", form, "--into", into, "--apply")

    assert {row["value"]: row["reason"] for row in found["sample"]["added"]} == reasons
    assert (found["left_out"], found["published"] or "", found["written"]) == (left_out, published, True)
    named = read_list(read(into, root=tmp_path / "lists"))
    assert (named.match, named.size, named.hash) == ("name", len(reasons), found["hash"]["after"])
    noted = into.read_text("utf-8").split("source:\n")[1]
    assert all(sha256(path.read_bytes()).hexdigest() in noted for path in paths)
    assert published in noted
    assert read_lists([read(into, root=tmp_path / "lists")]).lookups(NOW, "shop")["official"]("Зорандер, Микула") is (
        which != "none"
    )
    again = imported(*paths, "--as", form, "--into", into, "--apply")
    assert (again["added"], again["removed"], again["changed"], again["same"]) == (0, 0, 0, len(reasons))
    assert again["hash"]["before"] == again["hash"]["after"] == named.hash


@pytest.mark.parametrize("which", REASONED)
def test_weak_aliases_come_when_asked_for(which: str, tmp_path: Path) -> None:
    """Each with the word in its reason."""
    form, files, *_ = REASONED[which]
    found = imported(*laid(tmp_path, *files), "--as", form, "--into", tmp_path / "o.yaml", "--weak")

    weak = {row["value"].upper() for row in found["sample"]["added"] if row["reason"].endswith(", weak alias")}
    assert weak == ({"FOX", "THE ELDER"} if which == "csv" else {"FOX"})
    assert "weak aliases" not in found["left_out"]
    assert not (tmp_path / "o.yaml").exists(), "without --apply nothing is written"


def test_files_may_be_packed(tmp_path: Path) -> None:
    """The hash is that of the file as it lies, the bytes those in it."""
    packed = gzip.compress(UN.encode())
    (path,) = laid(tmp_path, ("un.xml.gz", packed))

    assert (download(path).body, download(path).sha256) == (UN.encode(), sha256(packed).hexdigest())
    (broken,) = laid(tmp_path, ("half.xml.gz", packed[:-20]))
    assert "the packed file is broken" in run("import", broken, "--as", "un", "--into", tmp_path / "o.yaml").stderr


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]><CONSOLIDATED_LIST>&j;</CONSOLIDATED_LIST>"
)
READS_FILES = '<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/hostname">]><CONSOLIDATED_LIST>&x;</CONSOLIDATED_LIST>'
ENTRY = SDN_XML.index("<sdnEntry>")

BROKEN: tuple[tuple[str, list[tuple[str, str | bytes]], list[str]], ...] = (
    ("un", [("f", BOMB)], ["f:1:34: the file declares a document type"]),
    ("un", [("f", READS_FILES)], ["f:1:13: the file declares a document type"]),
    ("un", [("f", UN[:-40])], ["f:15:99: this is no whole XML file"]),
    ("un", [("f", EU)], ["f:1:1: no XML file with the root 'CONSOLIDATED_LIST'"]),
    ("un", [("f", "MZ\x00binary")], ["f:1:3: this is no whole XML file"]),
    ("un", [("f", "")], ["f:1:1: no XML file with the root"]),
    ("un", [("f", "<CONSOLIDATED_LIST/>")], ["f:1:1: there is no name in it"]),
    ("un", [("f", "<CONSOLIDATED_LIST>" + "<a>" * 40)], ["f:1:"]),
    ("un", [("f", UN.replace("BRANDOV MARITIME", ""))], ["f:13:1: a ENTITY without a name"]),
    ("eu", [("f", UN)], ["f:1:1: no XML file with the root 'export'"]),
    (
        "eu",
        [("f", EU.replace('wholeName="Mikula Zorander"', "").replace("Mikula", "").replace("Zorander", ""))],
        ["f:6:"],
    ),
    ("ofac-sdn", [("f", SDN_XML[:ENTRY] + "</sdnList>")], ["f:1:1: the file says it has 3 entries, and has 0"]),
    ("ofac-sdn", [("f", SDN[:60])], ["f:1:1: no CSV"]),
    ("ofac-sdn", [("f", SDN[: SDN.index("MARITIME")])], ["f:2:1: no CSV"]),
    (
        "ofac-sdn",
        [("f", SDN.splitlines()[1] + '\r\n9005,"X"\r\n,a\r\n')],
        ["f:2:1: not a row of 12", "f:3:1: not a row"],
    ),
    ("ofac-sdn", [("f", ALT)], ["f:1:1: SDN.CSV is missing"]),
    ("ofac-sdn", [("f", "a,b\n")], ["f:1:1: neither SDN.CSV (12 cells a row) nor ALT.CSV (5)"]),
    ("ofac-sdn", [("f", SDN), ("g", '9009,1,"aka","LOST",-0- \r\n')], ["g:1:1: an alias of the listing 9009, which"]),
    (
        "ofac-sdn",
        [("f", SDN.replace("FOX", "F\xd6X").encode("latin-1"))],
        ["f:1:1: byte 0xD6 is not"],
    ),
)


@pytest.mark.parametrize(("form", "files", "problems"), BROKEN)
def test_a_broken_or_hostile_file_is_refused_with_its_places(
    form: str, files: list[tuple[str, str | bytes]], problems: list[str], tmp_path: Path
) -> None:
    """Nothing is expanded, nothing is read from elsewhere, and half a file is no list."""
    found = imported(*laid(tmp_path, *files), "--as", form, "--into", tmp_path / "o.yaml", "--apply")
    told = [f"{each['file']}:{each['line']}:{each['column']}: {each['message']}" for each in found["problems"]]

    assert [shown[: len(begin)] for shown, begin in zip(told, problems, strict=True)] == problems
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(name for name, _ in files)


def test_every_form_is_tried_here() -> None:
    """A new one needs its samples."""
    assert {form for form, *_ in REASONED.values()} == set(FORMS)


# -- Text and CSV into any list --------------------------------------------------------------------------------

LIST = "# Who keeps it: the network desk.\nlist: nets\nabout: x   # kept by hand\nmatch: cidr\nentries: [203.0.113.9]\n"


def kept(folder: Path, yaml: str = LIST, **beside: str) -> Path:
    into, *_ = laid(folder / "lists", ("nets.yaml", yaml), *((f"{name}.txt", text) for name, text in beside.items()))
    return into


def test_a_text_becomes_the_text_file_of_a_list(tmp_path: Path) -> None:
    """What people wrote in the YAML file stays, entries and comments too."""
    into = kept(tmp_path, LIST)
    (new,) = laid(tmp_path, ("new.txt", "# comment\n192.0.2.1\n198.51.100.0/24 until 2027-01-31 # contract 12\n"))
    shown = run("import", new, "--as", "text", "--into", into)

    assert shown.exit_code == 0
    assert "0 entries before, 2 afterwards" in shown.stdout
    assert "  + 198.51.100.0/24 until 2027-01-31  # contract 12" in shown.stdout
    assert "nothing is written yet: say --apply" in shown.stderr
    assert into.read_text() == LIST

    assert run("import", new, "--as", "text", "--into", into, "--apply").exit_code == 0
    assert into.read_text().startswith(LIST + "file: nets.txt\nsource:\n  form: text\n")
    assert (into.parent / "nets.txt").read_text() == "192.0.2.1\n198.51.100.0/24 until 2027-01-31 # contract 12\n"
    assert sorted(path.name for path in into.parent.iterdir()) == ["nets.txt", "nets.yaml"]
    holds = read_lists([read(into, root=into.parent)]).lookups(NOW, "shop")["nets"]
    assert [holds(ip) for ip in ("192.0.2.1", "203.0.113.9", "198.51.100.7", "192.0.2.2")] == [True, True, True, False]


def test_a_preview_tells_what_is_added_removed_and_changed(tmp_path: Path) -> None:
    """Counted in full, shown in part."""
    old = "192.0.2.1 # a\n192.0.2.2\n192.0.2.3 until 2027-01-31\n192.0.2.4\n"
    into = kept(tmp_path, LIST + "file: mine.txt\n", mine=old)
    (new,) = laid(tmp_path, ("n.txt", "192.0.2.1 # b\n192.0.2.3\n192.0.2.4\n192.0.2.5\n192.0.2.6\n"))
    args = (new, "--as", "text", "--into", into, "--may-remove", "25")
    found = imported(*args)

    assert {key: found[key] for key in ("before", "after", "same", "added", "removed", "changed")} == {
        "before": 4, "after": 5, "same": 1, "added": 2, "removed": 1, "changed": 2,
    }  # fmt: skip
    assert [row["value"] for row in found["sample"]["added"]] == ["192.0.2.5", "192.0.2.6"]
    assert [row["value"] for row in found["sample"]["removed"]] == ["192.0.2.2"]
    assert found["sample"]["changed"][1] == {
        "from": {"value": "192.0.2.3", "expires": "2027-01-31", "reason": None},
        "to": {"value": "192.0.2.3", "expires": None, "reason": None},
    }
    shown = run("import", *args, "--show", "1").stdout
    assert "  ~ 192.0.2.1  # a  →  192.0.2.1  # b" in shown
    assert "    … 1 more" in shown
    assert (into.parent / "mine.txt").read_text() == old


def test_what_the_list_has_may_stay(tmp_path: Path) -> None:
    """`--add` takes nothing off."""
    into = kept(tmp_path, LIST + "file: mine.txt\n", mine="192.0.2.1 # a\n192.0.2.2\n")
    (new,) = laid(tmp_path, ("n.csv", "reason,net,expires\nseen,192.0.2.2,\n\n,192.0.2.3,2027-01-31\n"))
    found = imported(new, "--as", "csv", "--column", "net", "--into", into, "--add", "--apply")

    assert (found["added"], found["removed"], found["changed"], found["same"]) == (1, 0, 1, 1)
    assert (into.parent / "mine.txt").read_text() == "192.0.2.1 # a\n192.0.2.2 # seen\n192.0.2.3 until 2027-01-31\n"


REFUSED = (
    ("text", "1.2.3.4\nx\n\n5.6.7.8 until soon\n9.9.9.9/8\n", ["n:4:15", "n:2:1", "n:5:1"]),
    ("text", "1.2.3.4\nx\u200b\n", ["n:2:2"]),
    ("text", b"1.2.3.4\n\xff\n", ["n:2:1"]),
    ("csv", "value,expires\nx,\n1.2.3.4,soon\n1.2.3.4\n,\n1.2.3.5,\n", ["n:3:1", "n:4:1", "n:2:1", "n:5:1"]),
    ("csv", 'value,reason\n"1.2.3.4\n5",b\ny,\n', ["n:2:1", "n:4:1"]),
    ("csv", 'value\n1.2.3.4\n"5.6', ["n:3:1"]),
    ("csv", "net\n1.2.3.4\n", ["n:1:1"]),
    ("csv", "", ["n:1:1"]),
)


@pytest.mark.parametrize(("form", "content", "places"), REFUSED)
def test_every_line_that_does_not_fit_is_told_and_nothing_is_written(
    form: str, content: str | bytes, places: list[str], tmp_path: Path
) -> None:
    """In the words that the list itself has for it, in one run."""
    into = kept(tmp_path)
    (new,) = laid(tmp_path, ("n", content))
    found = imported(new, "--as", form, "--into", into, "--apply")

    assert sorted(f"{each['file']}:{each['line']}:{each['column']}" for each in found["problems"]) == sorted(places)
    assert found["written"] is False
    assert [path.name for path in into.parent.iterdir()] == ["nets.yaml"]
    said = run("import", new, "--as", form, "--into", into, "--apply")
    assert (said.exit_code, said.stderr.rstrip().endswith("; nothing was written")) == (1, True)


@pytest.mark.parametrize("match", ["exact", "prefix", "phrase", "cidr", "name"])
def test_every_kind_of_list_takes_entries_at_once(match: str, tmp_path: Path) -> None:
    """Compared and refused as that kind does it."""
    into = kept(tmp_path, f"list: nets\nabout: x\nmatch: {match}\n")
    value = "192.0.2.0/24" if match == "cidr" else "Petra Brandov"
    (new,) = laid(tmp_path, ("n", f"{value}\n"))

    assert imported(new, "--as", "text", "--into", into, "--apply")["written"]
    holds = read_lists([read(into, root=into.parent)]).lookups(NOW, "shop")["nets"]
    assert holds("192.0.2.9" if match == "cidr" else "Petra Brandov") is True
    (bad,) = laid(tmp_path, ("m", '""\n' if match == "name" else "y #\n" if match == "cidr" else "x" * 501))
    assert len(imported(bad, "--as", "text", "--into", into)["problems"]) == 1


SUSPICIOUS = (
    ("half is gone", "a\nb\nc\nd\n", "a\nb\n", (), "2 of 4 entries would go (50%), at most 10 % may"),
    ("just too much", "a\nb\nc\nd\n", "a\nb\nc\n", ("--may-remove", "24"), "1 of 4 entries would go (25%)"),
    ("it is meant", "a\nb\nc\nd\n", "a\nb\nc\n", ("--may-remove", "25"), ""),
    ("nothing is left", "a\n", "# none\n", ("--may-remove", "100"), "no entry would be left"),
)


@pytest.mark.parametrize(("what", "old", "new", "args", "refused"), SUSPICIOUS, ids=[what for what, *_ in SUSPICIOUS])
def test_an_import_that_removes_too_much_is_refused(
    what: str, old: str, new: str, args: tuple[str, ...], refused: str, tmp_path: Path
) -> None:
    """Unless it is said to be meant; an empty list never is."""
    into = kept(tmp_path, "list: nets\nabout: x\nmatch: exact\nfile: t.txt\n", t=old)
    (given,) = laid(tmp_path, ("n", new))
    found = imported(given, "--as", "text", "--into", into, "--apply", *args)

    assert [said[: len(refused)] for said in found["refused"]] == ([refused] if refused else [])
    assert found["written"] is not bool(refused)
    assert (into.parent / "t.txt").read_text() == (old if refused else new)


def test_an_older_publication_is_refused_unless_it_is_meant(tmp_path: Path) -> None:
    """Yesterday's download in today's folder."""
    into = tmp_path / "o.yaml"
    (new, old) = laid(tmp_path, ("new.xml", UN), ("old.xml", UN.replace("2026-10-03", "2026-09-03")))
    assert imported(new, "--as", "un", "--into", into, "--apply")["written"]
    before = into.read_text()
    found = imported(old, "--as", "un", "--into", into, "--apply")

    assert found["refused"] == [
        "published 2026-09-03, before what the list has (2026-10-03); if it is meant, say --older"
    ]
    assert into.read_text() == before
    assert imported(old, "--as", "un", "--into", into, "--apply", "--older")["written"]
    assert into.read_text().count("source:") == 1
    assert "published: 2026-09-03" in into.read_text()


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("--as", "text", "--into", "none.yaml"), 1, "there is no such list; write its YAML file first"),
        (("--as", "text", "--into", "none.txt"), 1, "--into names the YAML file of a list"),
        (("--as", "un", "--into", "none.yaml", "--published", "soon"), 2, "--published soon: write a day"),
        (("--as", "ofac", "--into", "none.yaml"), 2, "'ofac' is not one of"),
    ],
)
def test_a_wrong_wish_is_said_in_words(args: tuple[str, ...], code: int, says: str, tmp_path: Path) -> None:
    """Before a file is looked into."""
    (new,) = laid(tmp_path, ("n", UN))
    said = run("import", new, *(str(tmp_path / arg) if arg.startswith("none") else arg for arg in args))

    assert (said.exit_code, says in " ".join(said.stderr.split())) == (code, True), said.stderr


def test_a_broken_list_is_not_imported_into(tmp_path: Path) -> None:
    """Its own problems come first."""
    into = kept(tmp_path, LIST.replace("cidr", "cdir"))
    (new,) = laid(tmp_path, ("n", "1.2.3.4\n"))
    assert "expected one of exact" in run("import", new, "--as", "text", "--into", into).stderr


VALUES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Zs"]) | st.sampled_from(' "#')
)


@given(VALUES | st.sampled_from(["a until b", "#9", "a #b", '"a" #b', '"a"', "x until 2027-01-31 # y"]), st.booleans())
def test_a_line_of_a_text_file_says_what_it_was_made_of(value: str, ends: bool) -> None:
    """Or there is none for it."""
    value = value.strip()
    row = Row(
        value, end_of("2027-01-31") if ends else NEVER, "seen # twice until now", lambda *said: Problem("", 1, 1, *said)
    )
    try:
        line = file_line(row)
    except ValueError:
        assert not value or '"' in value
        return
    problems: list[Problem] = []
    (back,) = file_rows(Source("f", line), problems)
    assert (back.value, back.expires, back.reason, problems) == (row.value, row.expires, row.reason, [])


@pytest.mark.parametrize(
    "end", ["2027-01-31", "2027-01-31T12:00:00Z", "2027-01-31T12:00:00.000001Z", "2027-01-31T16:00:00Z"]
)
def test_an_end_is_written_as_it_is_read(end: str) -> None:
    """A day as a day, wherever it comes from."""
    assert end_of(written_end(end_of(end))) == end_of(end)
    assert written_end(end_of("2027-01-31")) == "2027-01-31"


# -- ask -------------------------------------------------------------------------------------------------------


def test_a_name_that_was_found_is_explained(tmp_path: Path) -> None:
    """Every entry that it is like, the nearest first, with the listing's number."""
    (new,) = laid(tmp_path, ("un.xml", UN))
    imported(new, "--as", "un", "--into", tmp_path / "un.yaml", "--apply")
    asked = json.loads(run("ask", "un", "Mikula Zorander", "--rules", tmp_path, "--json").stdout)

    assert (asked["on"], asked["threshold"]) == (True, 0.85)
    assert [(each["likeness"], each["value"], each["reason"]) for each in asked["entries"]] == [
        (1.0, "Микула Зорандер", "UN TLi.001 Testland, original script"),
        (0.921, "MIKULA PETROWAN ZORANDER", "UN TLi.001 Testland"),
        (0.857, "Nikola Sorander", "UN TLi.001 Testland, alias"),
    ]
    assert "not on the list" in run("ask", "un", "Petra Quimble", "--rules", tmp_path).stdout
    assert "on the list" in run("ask", "tor-exits", "192.0.2.66", "--rules", ROOT / "rules").stdout
    assert "did you mean 'un'" in run("ask", "unn", "x", "--rules", tmp_path).stderr


# -- Real files ------------------------------------------------------------------------------------------------


@pytest.mark.data("data/lists")
def test_the_real_files_of_ofac_are_read(tmp_path: Path) -> None:
    """All their rows, and half of them is noticed."""
    sdn, alt = download(OFAC / "ofac_sdn.csv.gz"), download(OFAC / "ofac_alt.csv.gz")
    found = read_published("ofac-sdn", [sdn, alt])
    assert len(found.rows) + found.left_out["ships and aircraft"] == 7379 + 9682
    assert found.left_out["weak aliases"] > 2000

    into = tmp_path / "ofac.yaml"
    files = (OFAC / "ofac_sdn.csv.gz", OFAC / "ofac_alt.csv.gz")
    whole = imported(*files, "--as", "ofac-sdn", "--into", into, "--apply", "--show", "0")
    assert (whole["written"], whole["after"] > 16_000) == (True, True)
    half = "".join(sdn.body.decode().splitlines(keepends=True)[:3000])
    (cut,) = laid(tmp_path, ("sdn.csv", half))
    assert (
        "an alias of the listing"
        in imported(cut, files[1], "--as", "ofac-sdn", "--into", into)["problems"][0]["message"]
    )
    assert "would go" in imported(cut, "--as", "ofac-sdn", "--into", into)["refused"][0]
