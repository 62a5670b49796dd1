"""Images over HTTP and by the command line, against real servers in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from api import Limits, wire
from bench import _pictures as pictures
from cli import main
from engine.assembly import Settings
from engine.errors import SettingsError
from tests.serving import Served, serve_in_process, serve_on_loopback
from tests.test_api import check_problem
from tests.test_fetching import HOST, OK, certificate, site

__all__ = ["certificate"]  # the fixture

BODY = pictures.saved(pictures.drawn(2, "product", (320, 240)))
JPEG = {"content-type": "image/jpeg"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_in_process(tmp_path_factory.mktemp("api"), limits=Limits(image_bytes=200_000)) as served:
        yield served


def sent(served: Served, body: bytes = BODY, key: str = "score", **headers: str) -> httpx.Response:
    return served.post("/v1/images", content=body, key=key, headers={**JPEG, **headers})


def test_an_image_is_looked_at_and_read_again(served: Served) -> None:
    answer = sent(served)
    assert answer.status_code == 200, answer.text
    shown = wire.Image.model_validate(answer.json())
    assert (shown.width, shown.height, shown.broken, shown.size) == (320, 240, "", len(BODY))
    for key in ("score", "rules", "audit"):
        assert served.get(f"/v1/images/{shown.sha256}", key=key).json() == answer.json()


def test_a_broken_image_is_no_error(served: Served) -> None:
    answer = sent(served, b"no image")
    assert (answer.status_code, answer.json()["broken"]) == (200, "format")


@pytest.mark.parametrize(
    ("body", "key", "headers", "code"),
    [
        (BODY, "", {}, "unauthenticated"),
        (BODY, "rules", {}, "scope_missing"),
        (b"", "score", {}, "request_invalid"),
        (BODY, "score", {"content-type": "application/json"}, "media_type_unsupported"),
        (BODY, "score", {"content-type": "image/svg+xml"}, "media_type_unsupported"),
        (bytes(200_001), "score", {}, "too_large"),
    ],
)
def test_what_is_no_image_of_a_caller_that_may_is_refused(
    served: Served, body: bytes, key: str, headers: dict[str, str], code: str
) -> None:
    check_problem(sent(served, body, key, **headers), code)


@pytest.mark.parametrize("name", ["a" * 64, "A" * 64, "a" * 63, "..%2F.."])
def test_an_image_that_was_never_sent_is_not_there(served: Served, name: str) -> None:
    code = "not_found" if name in ("a" * 64, "..%2F..") else "request_invalid"
    check_problem(served.get(f"/v1/images/{name}", key="score"), code)


def test_a_known_image_goes_its_way(served: Served) -> None:
    name = sent(served).json()["sha256"]
    wanted = {"image": name, "kind": "counterfeit", "label": "acme-bag", "reason": "order 118"}
    check_problem(served.post("/v1/images/references", json=wanted, key="score"), "scope_missing")
    made = served.post("/v1/images/references", json=wanted, key="rules")
    assert made.status_code == 201, made.text
    id = made.json()["id"]
    assert [each["id"] for each in served.get("/v1/images/references", key="audit").json()["items"]] == [id]
    assert served.get(f"/v1/images/{name}", key="score").json()["matches"][0]["label"] == "acme-bag"
    path = f"/v1/images/references/{id}"
    check_problem(served.call("DELETE", path, key="rules"), "second_person")
    assert served.call("DELETE", path, key="person").json()["state"] == "ending"
    check_problem(served.post(f"{path}/approval", json={}, key="person"), "second_person")
    assert served.call("DELETE", f"{path}/approval", key="rules").json()["state"] == "active"
    check_problem(served.post("/v1/images/references", json=wanted, key="rules"), "conflict")
    check_problem(served.call("DELETE", "/v1/images/references/none", key="person"), "not_found")


def test_fetching_is_off(served: Served) -> None:
    answer = served.post("/v1/images/fetch", json={"url": "https://img.example.com/1.jpg"}, key="score")
    assert "off" in check_problem(answer, "not_found")["detail"]
    assert Settings.read({}).image_fetch == "off"
    with pytest.raises(SettingsError, match="ARBITER_IMAGE_FETCH"):
        Settings.read({"ARBITER_IMAGE_FETCH": "on"})


def test_where_it_is_on_an_image_is_fetched_as_if_it_was_sent(served: Served, certificate: Path) -> None:
    gallery = served.arbiter._gallery
    before = gallery._fetching, gallery._resolve, gallery._connect

    async def fetched(url: str) -> httpx.Response:
        answer = OK.replace(b"image", BODY).replace(b": 5", b": %d" % len(BODY))
        async with site(certificate, {"/1.png": answer}) as there:
            gallery._fetching, gallery._resolve, gallery._connect = True, there.resolve, there.connect
            headers = {"authorization": f"Bearer {served.keys['score']}"}
            return await served.client.post("/v1/images/fetch", json={"url": url}, headers=headers)

    try:
        answer = served.loop.run(fetched(f"https://{HOST}/1.png"))
        assert answer.json() == sent(served).json()
        refused = served.loop.run(fetched("https://10.0.0.1/1.png"))
        (error,) = check_problem(refused, "body_invalid")["errors"]
        assert (error["path"], error["code"]) == ("url", "not_fetched")
        assert "10.0.0.1" not in refused.text
    finally:
        gallery._fetching, gallery._resolve, gallery._connect = before


# -- the command


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Runs `arbiter images …` against a server with somebody's key."""
    folder = tmp_path_factory.mktemp("command")
    with serve_on_loopback(folder) as (served, port):
        run = served.loop.run
        keys = {
            "shop": served.keys["score"],
            "desk": run(served.arbiter.create_key("desk", "service", "shop-a", ["score", "rules"])),
            "li": served.keys["person"],
            "wang": run(served.arbiter.create_key("wang.wu", "person", "shop-a", ["rules"])),
        }
        for name, key in keys.items():
            (folder / f"{name}.key").write_text(key, "ascii")
        (folder / "bag.png").write_bytes(BODY)
        (folder / "white.png").write_bytes(pictures.saved(pictures.Image.new("RGB", (50, 50), "white")))
        (folder / "other.png").write_bytes(pictures.saved(pictures.drawn(3)))

        def call(who: str, *words: str) -> Result:
            given = [str(folder / word) if word.endswith(".png") else word for word in words]
            where = ["--server", f"http://127.0.0.1:{port}", "--key-file", str(folder / f"{who}.key")]
            return CliRunner().invoke(main, ["images", *given, *where])

        yield call


def test_the_command_adds_lists_and_ends_known_images(command: Any) -> None:
    said = command("shop", "list")
    assert said.exit_code == 1, "its key may not"
    assert "no known images" in command("li", "list").stderr
    added = command(
        *("desk", "add", "bag.png", "--kind", "counterfeit", "--label", "acme-bag", "--reason", "order 118"),
        *("--expires", "2099-12-30", "--person", "zhao.liu"),
    )
    assert added.exit_code == 0, added.output
    id = added.stdout.split()[0]
    assert "active  counterfeit  acme-bag  zhao.liu" in added.stdout
    assert added.stdout.rstrip().endswith("order 118  until 2099-12-30")
    (shown,) = json.loads(command("li", "list", "--json").stdout)
    assert shown["id"] == id
    looked = command("shop", "check", "bag.png", "other.png", "white.png").stdout
    assert f"like the known image {id}  counterfeit  acme-bag  0/256" in looked
    assert "like no known image; no detector looked" in looked
    assert "ending" in command("li", "remove", id[:6]).stdout
    assert command("li", "approve", id[:6]).exit_code == 1
    assert "active" in command("wang", "keep", id[:6]).stdout
    assert "ending" in command("li", "remove", id).stdout
    assert "ended" in command("wang", "approve", id).stdout
    assert command("li", "list").stdout == ""
    assert id in command("li", "list", "--all").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "white.png", "--kind", "banned", "--label", "x", "--reason", "y"), "nothing can be compared"),
        (("add", "bag.png", "--kind", "banned", "--label", " ", "--reason", "y"), "label"),
        (("remove", "abc"), "at least 4 digits"),
        (("remove", "ffffffff"), "no known image"),
    ],
)
def test_the_command_says_what_is_wrong(command: Any, words: tuple[str, ...], said: str) -> None:
    ended = command("desk", *words)
    assert ended.exit_code == 1
    assert said in ended.stderr


def test_the_command_knows_a_day_from_no_day(command: Any) -> None:
    ended = command("desk", "add", "bag.png", "--kind", "banned", "--label", "x", "--reason", "y", "--expires", "soon")
    assert ended.exit_code == 2
    assert "--expires soon" in ended.stderr
