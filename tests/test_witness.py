"""A witness signs what goes on from what it signed, and nothing else; a log shows it what it signs."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st

from api import listening
from api.witness import create_app
from engine import merkle
from engine.anchors import Anchor, Anchors, FolderAnchor, NotAnchored, TimestampAnchor, WitnessAnchor, witnesses
from engine.assembly import Settings
from engine.database import migrate
from engine.errors import SettingsError
from engine.ledger import Ledger
from engine.notes import COSIGNATURE, Checkpoint, Verifier, open_note, sign, verifier, write_hashes
from engine.receipt import Signer
from engine.vault import KeyFile
from engine.witness import SIZE_TYPE, Refused, Witness, create, create_state, read_signer
from tests.serving import Loop
from tests.test_cli import arbiter, good
from tests.test_ledger import an_entry, opened, together
from tests.test_merkle import tiled

LOG = Signer("audit.example.com/decisions", bytes(range(32)))
WITNESS = Signer("witness.example.org/w1", bytes(range(32, 64)))
KEY = verifier(WITNESS, COSIGNATURE)
SECONDS = 1_763_600_000
HONEST = [merkle.leaf_hash(bytes([number])) for number in range(20)]
FORKED = [*HONEST[:5], merkle.leaf_hash(b"other"), *HONEST[6:]]
TREES = {"honest": tiled(HONEST, repeat(3)), "forked": tiled(FORKED, repeat(3))}


def note_of(size: int, tree: str = "honest", signer: Signer = LOG) -> str:
    return sign(Checkpoint(signer.log, size, TREES[tree].root(size)).text, signer)


def request(old: int, new: int, tree: str = "honest", **more: Any) -> str:
    proof = TREES[tree].consistency(old, new) if 0 < old < new else []
    return f"old {old}\n{write_hashes(proof)}\n{note_of(new, tree, **more)}"


def watching(state: Path, logs: list[Verifier]) -> Witness:
    """A witness over a state, which is made where there is none."""
    if not state.exists():
        create_state(state, WITNESS.key_id)
    return Witness(WITNESS, state, logs, lambda: SECONDS * 1_000_000)


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return watching(tmp_path / "state.db", [verifier(LOG)])


# --------------------------------------------------------------------------------------------- what it signs


def test_it_signs_what_goes_on_from_what_it_signed(witness: Witness, tmp_path: Path) -> None:
    """Also after a start anew, and the same checkpoint once more; what it signed last can be had from it."""
    for old, new in ((0, 3), (3, 8), (8, 8), (8, 20)):
        again = watching(tmp_path / "state.db", [verifier(LOG)])
        line = again.add(request(old, new))
        text, signed = open_note(note_of(new) + line, [KEY])
        assert (Checkpoint.read(text).size, signed[0].seconds) == (new, SECONDS)
        assert witness.latest(LOG.log) == note_of(new) + line
    assert witness.refusals() == []


ASKED: dict[str, tuple[str, int, int | None]] = {
    "an older size than it signed": (request(3, 9), 409, 8),
    "a larger size than it signed": (request(9, 12), 409, 8),
    "nothing known": (request(0, 12), 409, 8),
    "a shorter log": (request(8, 5), 400, None),
    "another history of the same size": (request(8, 8, "forked"), 409, 8),
    "another history that goes on": (request(8, 12, "forked"), 422, None),
    "a proof too short": (request(8, 12).replace(write_hashes(TREES["honest"].consistency(8, 12)[-1:]), ""), 422, None),
    "a proof where none is needed": (f"old 8\n{write_hashes(HONEST[:1])}\n{note_of(8)}", 422, None),
    "a log that is not watched": (request(8, 12, signer=Signer("other.example/log", bytes(32))), 404, None),
    "another key of the same name": (request(8, 12, signer=Signer(LOG.log, bytes(32))), 403, None),
    "no signature": (f"old 8\n\n{Checkpoint(LOG.log, 12, HONEST[0]).text}", 400, None),
    "no checkpoint": ("old 8\n\n" + sign(f"{LOG.log}\ntwelve\n", LOG), 403, None),
    "a size with a zero in front": (request(8, 12).replace("old 8", "old 08"), 400, None),
    "another first line": (request(8, 12).replace("old", "new", 1), 400, None),
    "no hash": (f"old 8\nAAAA\n\n{note_of(12)}", 400, None),
    "too many hashes": (f"old 8\n{write_hashes(HONEST[:16] * 4)}\n{note_of(12)}", 400, None),
    "nothing": ("", 400, None),
}


@pytest.mark.parametrize("what", ASKED)
def test_what_it_refuses_and_how(witness: Witness, what: str) -> None:
    """The statuses of C2SP tlog-witness; it stays where it was."""
    witness.add(request(0, 8))
    asked, status, size = ASKED[what]
    with pytest.raises(Refused) as refused:
        witness.add(asked)
    assert (refused.value.status, refused.value.size) == (status, size)
    assert witness.latest(LOG.log) == note_of(8) + open_note(witness.latest(LOG.log) or "", [KEY])[1][0].line
    assert len(witness.refusals()) == (what.startswith("another history") or "proof" in what)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.sampled_from(list(TREES))), max_size=12))
@settings(max_examples=150, deadline=None)
def test_whatever_it_is_asked_all_it_signed_is_one_history(
    tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[int, int, str]]
) -> None:
    """Two histories are shown to it in any order: what it signs grows, and each is the beginning of the next."""
    witness = watching(tmp_path_factory.mktemp("w") / "s.db", [verifier(LOG)])
    signed: list[tuple[int, str]] = []
    for old, new, tree in asked:
        try:
            witness.add(request(old, new, tree))
        except Refused:
            continue
        signed.append((new, tree))
    for (size, tree), (later, other) in pairwise(signed):
        assert size <= later
        assert TREES[tree].root(size) == TREES[other].root(size)


def test_two_at_once_over_one_state_do_not_sign_two_histories(tmp_path: Path) -> None:
    """Eight threads with a history each: one of them is signed."""
    witness = watching(tmp_path / "state.db", [verifier(LOG)])
    witness.add(request(0, 4))
    results: list[str] = []

    def ask(tree: str) -> None:
        try:
            witness.add(request(4, 12, tree))
            results.append(tree)
        except Refused:
            pass

    threads = [threading.Thread(target=ask, args=(tree,)) for tree in [*TREES] * 4]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(set(results)) == 1


def test_another_witness_s_state_is_none(tmp_path: Path) -> None:
    """With it the key would sign what its own state refuses: a fork of what it signed before."""
    first = create(tmp_path / "1.json", tmp_path / "1.db", WITNESS.log)
    create(tmp_path / "2.json", tmp_path / "2.db", WITNESS.log)
    Witness(first, tmp_path / "1.db", (), lambda: 0)
    (tmp_path / "3.db").touch()
    for name in ("2.db", "3.db"):
        with pytest.raises(SettingsError, match="is not the state of the witness"):
            Witness(first, tmp_path / name, (), lambda: 0)


def test_a_key_is_made_once_and_read_back(tmp_path: Path) -> None:
    """And never shown in an error."""
    path = tmp_path / "key.json"
    made = create(path, tmp_path / "s.db", WITNESS.log)
    assert read_signer(path).key_id == made.key_id
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(SettingsError, match="exists already"):
        create(path, tmp_path / "t.db", WITNESS.log)
    for text in ("", "{}", '{"format": 2, "witness": "w", "seed": "00"}'):
        path.write_text(text)
        with pytest.raises(SettingsError, match="no key of a witness"):
            read_signer(path)
    with pytest.raises(SettingsError, match="cannot read"):
        read_signer(tmp_path / "lost.json")


# ---------------------------------------------------------------------------------------------- over HTTP


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Witness]]:
    """A witness on loopback that watches the log of the tests' key file."""
    loop = Loop()
    signer = KeyFile.read(tmp_path / "keys.json").signer if (tmp_path / "keys.json").exists() else LOG
    witness = watching(tmp_path / "state.db", [verifier(LOG), verifier(signer)])
    with listening("127.0.0.1", 0) as listener:
        config = uvicorn.Config(create_app(witness), lifespan="off", log_level="critical", loop="none")
        server = uvicorn.Server(config)
        running = loop.start(server.serve([listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", witness
        server.should_exit = True
        running.result(20)
    loop.close()


def test_it_speaks_the_protocol_of_witnesses(served: tuple[str, Witness]) -> None:
    """Its lines, a conflict with its size in the type that says so, and refusals in words."""
    url, _ = served
    post = f"{url}/add-checkpoint"
    assert httpx.get(f"{url}/checkpoint", params={"log": LOG.log}).status_code == 404
    answer = httpx.post(post, content=request(0, 8).encode())
    assert (answer.status_code, open_note(note_of(8) + answer.text, [KEY])[1][0].by) == (200, KEY)
    conflict = httpx.post(post, content=request(3, 9).encode())
    assert (conflict.status_code, conflict.text) == (409, "8\n")
    assert conflict.headers["content-type"].split(";")[0] == SIZE_TYPE
    for body, status in ((request(8, 12, "forked").encode(), 422), (b"\xff", 400), (b"x" * 70_000, 413)):
        assert httpx.post(post, content=body).status_code == status
    assert httpx.get(f"{url}/checkpoint", params={"log": LOG.log}).text == note_of(8) + answer.text


@pytest.fixture
async def ledger(ledger_url: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    async with opened(ledger_url, KeyFile.read(tmp_path / "keys.json")) as one:
        yield one


@pytest.fixture(autouse=True)
def _keys(tmp_path: Path) -> None:
    KeyFile.create(tmp_path / "keys.json")


async def shown(ledger: Ledger, anchor: Anchor, first: int, count: int = 3) -> bool:
    """Some entries more, signed, and shown."""
    await together(ledger, *(an_entry(number) for number in range(first, first + count)))
    await ledger.log.place()
    await ledger.log.publish(1)
    return await Anchors(ledger.log, [anchor], lambda: 7).show(anchor)


@pytest.mark.anyio
async def test_a_log_shows_a_witness_what_it_signs(ledger: Ledger, served: tuple[str, Witness]) -> None:
    """From the first checkpoint on; one that forgot where the witness stands is told, and goes on from there."""
    url, witness = served
    anchor = WitnessAnchor(KEY, url)
    for first in (0, 3, 6):
        assert await shown(ledger, anchor, first)
        published = await ledger.log.latest()
        assert published is not None
        assert published.note == witness.latest(published.checkpoint.log)
        assert [each.by for each in open_note(published.note, [KEY])[1]] == [KEY]
        anchor = WitnessAnchor(KEY, url) if first else anchor
    assert not await Anchors(ledger.log, [anchor], lambda: 7).show(anchor), "it saw it"
    seen = await ledger.log.anchored()
    assert seen is not None
    assert (seen.size, seen.name, seen.kind, seen.at) == (9, KEY.name, "witness", 7)


@pytest.mark.anyio
async def test_a_witness_notices_what_a_backup_lost(tmp_path: Path, served: tuple[str, Witness]) -> None:
    """A ledger that was restored from a backup, and went on otherwise, gets no signature any more."""
    url, witness = served
    database, backup = tmp_path / "a.db", tmp_path / "backup.db"
    env = {"ARBITER_DATABASE_URL": f"sqlite:///{database}", "ARBITER_KEY_FILE": str(tmp_path / "keys.json")}
    keys = KeyFile.read(tmp_path / "keys.json")
    anchor = WitnessAnchor(KEY, url)
    migrate(env["ARBITER_DATABASE_URL"])
    async with opened(env["ARBITER_DATABASE_URL"], keys) as ledger:
        await shown(ledger, anchor, 0)
    await asyncio.to_thread(good, "backup", backup, **env)
    async with opened(env["ARBITER_DATABASE_URL"], keys) as ledger:
        await shown(ledger, anchor, 3)
    shutil.copy(backup, database)

    async with opened(env["ARBITER_DATABASE_URL"], keys) as ledger:
        with pytest.raises(NotAnchored, match="already, more than"):
            await shown(ledger, anchor, 50, 1)
        with pytest.raises(NotAnchored, match="answers 422"):
            await shown(ledger, anchor, 60, 9)
        published = await ledger.log.latest()
    assert published is not None
    assert KEY.name not in published.note
    assert witness.refusals()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (200, "nonsense", "not its signature"),
        (200, "\u2014 other AAAAAAAA\n", "not its signature"),
        (500, "", "answers 500"),
        (409, "no number", "answers 409"),
        (409, "99\n", "99 entries already"),
        (409, "0\n", "two histories"),
    ],
)
async def test_a_witness_that_answers_wrongly_is_not_believed(
    ledger: Ledger, status: int, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the log goes on."""

    async def answer(*_: Any) -> tuple[int, bytes]:
        return status, text.encode()

    monkeypatch.setattr("engine.anchors._post", answer)
    with pytest.raises(NotAnchored, match=said):
        await shown(ledger, WitnessAnchor(KEY, "http://nowhere.invalid"), 0)
    assert await ledger.log.anchored() is None


@pytest.mark.anyio
async def test_a_witness_that_is_away_is_asked_again_and_said_once(
    ledger: Ledger, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log goes on meanwhile; what is wrong can be read."""
    monkeypatch.setattr("engine.anchors.RETRY_SECONDS", 0.01)
    anchors = Anchors(ledger.log, [WitnessAnchor(KEY, "http://127.0.0.1:9")], lambda: 7)
    await together(ledger, an_entry(1))
    await ledger.log.place()
    await ledger.log.publish(1)
    keeping = asyncio.create_task(anchors.keep())
    await asyncio.sleep(0.5)
    keeping.cancel()
    assert anchors.problems == {KEY.name: "it does not answer: ConnectError"}
    assert len([record for record in caplog.records if KEY.name in record.message]) == 1


# ----------------------------------------------------------------------------------- folders and timestamps


@pytest.mark.anyio
async def test_a_folder_gets_a_file_for_each_checkpoint_and_none_is_changed(ledger: Ledger, tmp_path: Path) -> None:
    """Another checkpoint of the same size is refused: there is one history."""
    folder = tmp_path / "worm"
    folder.mkdir()
    anchor = FolderAnchor(folder)
    for first in (0, 3):
        assert await shown(ledger, anchor, first)
    files = sorted(folder.iterdir())
    published = await ledger.log.latest()
    assert published is not None
    assert (len(files), files[1].read_text("utf-8")) == (2, published.note)
    assert files[1].stat().st_mode & 0o777 == 0o444
    assert (await anchor.see(published, ledger.log)).decode() == files[1].name

    files[1].chmod(0o644)
    files[1].write_text(note_of(6))
    with pytest.raises(NotAnchored, match="two histories"):
        await anchor.see(published, ledger.log)
    await together(ledger, *(an_entry(number) for number in range(6, 9)))
    await ledger.log.place()
    longer = await ledger.log.publish(1)
    assert longer is not None
    with pytest.raises(NotAnchored, match="do not go on from"):
        await anchor.see(longer, ledger.log)
    files[1].write_text(note_of(12))
    with pytest.raises(NotAnchored, match="more than the 9 here"):
        await anchor.see(longer, ledger.log)
    shutil.rmtree(folder)
    with pytest.raises(NotAnchored, match="cannot write"):
        await anchor.see(published, ledger.log)


TSA = """
[tsa]
default_tsa = here
[here]
dir = {folder}
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
ess_cert_id_alg = sha256
[v3]
extendedKeyUsage = critical,timeStamping
keyUsage = critical,digitalSignature
"""


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A timestamping authority on loopback, as OpenSSL makes them, and its root certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl")
    folder = tmp_path / "tsa"
    folder.mkdir()
    (folder / "tsa.cnf").write_text(TSA.format(folder=folder))
    (folder / "serial").write_text("01\n")

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=root", "-days", "9")
    openssl("req", *key, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=tsa")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "9", "-extensions", "v3")
    openssl("x509", "-req", "-in", "tsa.csr", *signed, "-extfile", "tsa.cnf", "-out", "tsa.pem")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (folder / "query").write_bytes(self.rfile.read(int(self.headers["content-length"])))
            openssl("ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query", "-out", "reply")
            data = (folder / "reply").read_bytes()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder / "ca.pem"
        server.shutdown()
        thread.join()


@pytest.mark.anyio
async def test_a_timestamp_is_taken_and_openssl_confirms_it(
    ledger: Ledger, tmp_path: Path, authority: tuple[str, Path]
) -> None:
    """The checkpoint's text existed then, in the authority's word; one of another root is refused."""
    url, root = authority
    assert await shown(ledger, TimestampAnchor(url, root), 0)
    (seen,) = [each async for each in ledger.log.anchors(1, 3)]
    published = await ledger.log.latest()
    assert published is not None
    (tmp_path / "reply").write_bytes(seen.proof)
    (tmp_path / "text").write_text(published.checkpoint.text)
    checked = ("openssl", "ts", "-verify", "-data", tmp_path / "text", "-in", tmp_path / "reply", "-CAfile", root)
    run = await asyncio.to_thread(subprocess.run, checked, capture_output=True, text=True)
    assert (run.returncode, seen.kind) == (0, "timestamp"), run

    other = tmp_path / "other.pem"
    typed = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "k", "-out", other)
    await asyncio.to_thread(subprocess.run, (*typed, "-subj", "/CN=other"), check=True, capture_output=True)
    with pytest.raises(NotAnchored, match="does not hold"):
        await shown(ledger, TimestampAnchor(url, other), 3)


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ARBITER_MODE": "production"}, "nobody outside sees what the log signs"),
        ({"ARBITER_MODE": "prod"}, "it is development or production"),
        ({"ARBITER_WITNESSES": "w"}, "ARBITER_WITNESSES: a key is written"),
        ({"ARBITER_WITNESSES": KEY.text}, "its address is missing"),
        ({"ARBITER_WITNESSES": f"{verifier(LOG).text} http://w.example"}, "is a log's, not a witness's"),
        ({"ARBITER_ANCHOR_DIR": "/nowhere/at/all"}, "is not a folder"),
        ({"ARBITER_TIMESTAMP_URL": "http://tsa.example"}, "go together"),
        ({"ARBITER_TIMESTAMP_URL": "http://t.example", "ARBITER_TIMESTAMP_ROOTS": "/nowhere.pem"}, "no certificates"),
    ],
)
def test_what_cannot_anchor_is_refused_at_the_start(given: dict[str, str], said: str) -> None:
    """In production somebody outside must see the log."""
    with pytest.raises(SettingsError, match=said):
        Settings.read(given).anchors()


def test_several_witnesses_are_named_with_commas_between(tmp_path: Path) -> None:
    """Each with its key and address."""
    found = witnesses(f"{KEY.text} https://w.example.org , {KEY.text} http://127.0.0.1:8100/")
    assert [each.name for each in found] == [KEY.name] * 2
    Settings.read({"ARBITER_MODE": "production", "ARBITER_ANCHOR_DIR": str(tmp_path)}).anchors()


# --------------------------------------------------------------------------------------- the command line


def test_a_witness_is_made_and_asked_on_the_command_line(tmp_path: Path) -> None:
    """Its key is printed; what it signed can be shown to hold an export against, and nothing is no checkpoint."""
    key, state = tmp_path / "w.json", tmp_path / "w.db"
    given = ("--key", key, "--state", state)
    text = good("witness", "init", WITNESS.log, *given).strip()
    signer = read_signer(key)
    assert text == verifier(signer, COSIGNATURE).text
    assert [path.stat().st_mode & 0o777 for path in (key, state)] == [0o600] * 2
    lost = ("--key", key, "--state", tmp_path / "lost.db")
    for command in (("show", *lost, LOG.log), ("serve", *lost, "--log", verifier(LOG).text)):
        refused = arbiter("witness", *command)
        assert (refused.exit_code, "there is no state" in refused.stderr) == (1, True)
    assert not (tmp_path / "lost.db").exists()
    for taken in (
        given,
        ("--key", key, "--state", tmp_path / "x.db"),
        ("--key", tmp_path / "x.json", "--state", state),
    ):
        assert "exists already" in arbiter("witness", "init", WITNESS.log, *taken).stderr
    assert not (tmp_path / "x.db").exists()
    assert not (tmp_path / "x.json").exists()
    witness = Witness(signer, state, [verifier(LOG)], lambda: SECONDS * 1_000_000)
    assert "signed nothing of a log" in arbiter("witness", "show", *given, LOG.log).stderr
    witness.add(request(0, 8))
    for _ in range(3):
        with pytest.raises(Refused):
            witness.add(request(8, 12, "forked"))
    assert len(witness.refusals()) == 1, "once, however often it is asked"
    result = arbiter("witness", "show", *given, LOG.log)
    assert result.stdout == witness.latest(LOG.log)
    assert "do not go on from the 8" in result.stderr
    for name in ("", "a b", "a+b"):
        assert arbiter("witness", "init", name, "--key", tmp_path / "x", "--state", tmp_path / "y").exit_code == 1
    assert "--log: a key is written" in arbiter("witness", "serve", *given, "--log", "x").stderr
