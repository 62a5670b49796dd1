"""`arbiter appeal` against a server, and the same over HTTP: an appeal from the notice to the lifting."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli import main
from tests.books import write
from tests.serving import Served, serve_in_process, serve_on_loopback
from tests.told import TOLD


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("appeals")
    write(folder / "packs", TOLD)
    with serve_in_process(folder, packs=folder / "packs") as it:
        yield it


AT = datetime.now(UTC).isoformat(timespec="seconds")


def decided(served: Served, event_id: str, amount: int = 85) -> str:
    """The id of a decision over so many CNY; the same id for the same event."""
    body = {"kind": "payment", "event_id": event_id, "at": AT, "amount": f"{amount}.00 CNY"}
    sent = json.dumps({**body, "payment": {"stage": "attempt"}})
    answer = served.post("/v1/decisions", key="score", content=sent)
    return str(answer.json()["id"])


def test_over_http_an_appeal_is_followed_from_the_notice_to_the_lifting(served: Served) -> None:
    page = f"/v1/decisions/{decided(served, 'p1')}"
    notice = served.get(f"{page}/notice?lang=zh", key="outcome").json()
    sent = {"channel": "in_app", "lang": "zh", "sha256": notice["sha256"]}
    assert served.post(f"{page}/notice", key="outcome", json=sent).status_code == 200
    new = {"kind": "human_review", "ref": "h1", "reason": "I bought it for my mother."}
    opened = served.post(f"{page}/appeals", key="outcome", json=new).json()
    step = f"{page}/appeals/{opened['appeal']['id']}"
    assert 'arbiter_appeals{kind="human_review",state="open"} 1.0' in served.get("/metrics").text

    end = {"what": "decide", "result": "lifted", "en": "It was you.", "zh": "经核实为本人。"}
    alone = served.post(step, key="outcome", json=end)
    assert (alone.status_code, alone.json()["type"].rpartition(":")[2]) == (403, "second_person")
    lifted = served.post(step, key="person", json=end).json()
    assert ([each["do"] for each in lifted["lifted"]], lifted["appeal"]["state"]) == (["block_card", "hold"], "lifted")
    assert served.get(page, key="audit").json()["verdict"] == "approve"
    assert served.get(f"{page}/notice", key="outcome").json()["title"] == "Lifted"
    assert served.get(f"{page}/notice?for=officer", key="audit").json()["verdict"]["stands"] == "approve"
    assert 'arbiter_appeals{kind="human_review",state="open"} 0.0' in served.get("/metrics").text
    assert served.get("/v1/appeals?state=lifted", key="audit").json()["items"][0]["ref"] == "h1"


OTHER = {"channel": "sms", "lang": "en", "sha256": "0" * 64}
REFUSED = [
    ("GET", "/v1/decisions/{id}/notice?for=officer", "outcome", None, 403, "scope_missing"),
    ("GET", "/v1/decisions/{id}/notice?lang=fr", "outcome", None, 400, "request_invalid"),
    ("GET", "/v1/decisions/{id}/notice?language=zh", "outcome", None, 400, "request_invalid"),
    ("GET", "/v1/decisions/none/notice", "outcome", None, 404, "not_found"),
    ("GET", "/v1/decisions/{mild}/notice", "outcome", None, 409, "conflict"),
    (
        "POST",
        "/v1/decisions/{id}/notice",
        "outcome",
        {"channel": "sms", "lang": "en", "sha256": "0" * 64},
        409,
        "conflict",
    ),
    ("POST", "/v1/decisions/{id}/appeals", "audit", {}, 403, "scope_missing"),
    ("POST", "/v1/decisions/{id}/appeals", "outcome", {"kind": "appeal"}, 422, "body_invalid"),
    ("POST", "/v1/decisions/{mild}/appeals", "outcome", {"kind": "appeal", "ref": "r", "reason": "x"}, 409, "conflict"),
    ("POST", "/v1/decisions/{id}/appeals/none", "person", {"what": "take"}, 404, "not_found"),
    ("POST", "/v1/decisions/{id}/appeals/none", "person", {"what": "judge"}, 422, "body_invalid"),
    ("GET", "/v1/appeals?state=opne", "audit", None, 400, "request_invalid"),
    ("GET", "/v1/appeals?overdue=perhaps", "audit", None, 400, "request_invalid"),
    ("GET", "/v1/appeals?sate=open", "audit", None, 400, "request_invalid"),
]


@pytest.mark.parametrize(("method", "path", "key", "body", "status", "code"), REFUSED)
def test_what_cannot_be_is_a_problem(
    served: Served, method: str, path: str, key: str, body: Any, status: int, code: str
) -> None:
    ids = {"id": decided(served, "refused"), "mild": decided(served, "mild", 5)}
    asked = {"headers": {"content-type": "application/json"}, "content": json.dumps(body)} if body is not None else {}
    answer = served.call(method, path.format(**ids), key=key, **asked)
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (status, code)


@dataclass(frozen=True)
class Desk:
    """People before a server: each types with the key in a file."""

    folder: Path
    url: str

    def types(self, who: str, *typed: str, stdin: str = "") -> str:
        asked = ["--server", self.url, "--key-file", str(self.folder / f"{who}.key")]
        ended = CliRunner().invoke(main, ["appeal", *typed, *asked], input=stdin)
        return ended.output if ended.exit_code == 0 else f"exit {ended.exit_code}: {ended.output}"


@pytest.mark.service
def test_officers_hear_an_appeal_on_the_command_line(tmp_path: Path) -> None:
    write(tmp_path / "packs", TOLD)
    (tmp_path / "en.txt").write_text("It was you.\n", "utf-8")
    (tmp_path / "zh.txt").write_text("经核实为本人。\n", "utf-8")
    texts = ("--en", str(tmp_path / "en.txt"), "--zh", str(tmp_path / "zh.txt"))
    with serve_on_loopback(tmp_path, packs=tmp_path / "packs") as (served, port):
        desk = Desk(tmp_path, f"http://127.0.0.1:{port}")
        for who, kind in (("shop", "service"), ("li.si", "person")):
            key = served.loop.run(served.arbiter.create_key(who, kind, "shop-a", ["outcome"]))
            (tmp_path / f"{who}.key").write_text(key, "utf-8")
        id = decided(served, "p1")
        opened = json.loads(desk.types("shop", "open", id, "--ref", "a1", "--reason", "-", "--json", stdin="Not me.\n"))
        appeal = opened["appeal"]["id"]
        assert "in_review" in desk.types("li.si", "take", id, appeal)
        assert "more_asked" in desk.types("li.si", "ask", id, appeal, *texts)
        assert "in_review" in desk.types("shop", "add", id, appeal, "--ref", "a2", "--reason", str(tmp_path / "en.txt"))
        assert desk.types("shop", "decide", id, appeal, "lifted", *texts).startswith("exit 1: arbiter: a person looks")
        assert f"{appeal}  申诉  审理中" in desk.types("li.si", "list", "--lang", "zh")
        assert desk.types("li.si", "list", "--overdue") == "0 appeals\n"
        said = desk.types("li.si", "decide", id, appeal, "partly", "--lift", "hold", *texts)
        assert "ended: hold\n" in said
        assert "\nPartly\n\nPart is lifted. It was not accepted. The card is blocked." in said
        shown = desk.types("li.si", "show", id)
        assert [line.split()[1] for line in shown.splitlines()[1:]] == [
            *("opened", "taken", "more_asked", "added", "partly"),
        ]
        assert desk.types("shop", "withdraw", id, appeal).startswith("exit 1: arbiter: this appeal has ended: partly")
