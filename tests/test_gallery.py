"""Images in a running Arbiter: sent once, compared whenever a listing names them, recorded, replayed; known ones."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from bench import _pictures as pictures
from cli.ledger import _images
from engine.arbiter import Arbiter, Caller
from engine.archive import Library
from engine.assembly import Settings
from engine.errors import BodyRefused, Conflict, EventRefused, NotFound, SecondPerson
from engine.ledger import Filter
from engine.replay import Replayed, Replayer
from engine.retrieval import Retrieval
from engine.vault import KeyFile
from tests import books, detectors
from tests.books import LI, NOW, SECOND, SHOP, WANG, Clock, running
from tests.test_detector import square

pytestmark = pytest.mark.anyio

DESK = Caller("desk", "service", "shop-a", frozenset({"rules", "score"}))
OTHER = Caller("till", "service", "shop-b", frozenset({"rules", "score"}))

RULES = """\
pack: pictures
about: What pictures show.
for: listing
owner: tests
rules:
  - id: pictures.counterfeit
    when: '"counterfeit" in listing.image_matches'
    signal: counterfeit
    severity: high
    points: 50
    because: {en: "like {listing.image_labels}", zh: "近似 {listing.image_labels}"}
    basis: {kind: house-policy, review_by: 2027-05-31}
  - id: pictures.unseen
    when: listing.images_unknown > 0 or listing.images_broken > 0
    signal: unseen
    severity: low
    points: 1
    because: {en: "{listing.images_unknown} not sent, {listing.images_broken} broken", zh: "{listing.images_unknown}"}
    basis: {kind: house-policy, review_by: 2027-05-31}
  - id: pictures.often
    when: 'count(last 1d by merchant.id where listing.images_broken > 0) >= 2'
    signal: often_broken
    severity: low
    points: 1
    because: {en: "often broken", zh: "多次损坏"}
    basis: {kind: house-policy, review_by: 2027-05-31}
"""
POLICY = """\
policy: goods
for: [listing]
verdicts: [approve, review, decline]
tiers: {standard: {review: 40, decline: 85}}
default_tier: standard
review: {queue: content, due: 30m, if_late: decline}
"""
RED = pictures.saved(square())
FAKE = pictures.drawn(2, "product", (320, 240))
BODY = pictures.saved(FAKE)
NAME = sha256(BODY).hexdigest()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(key_path: Path, tmp_path: Path, _migrated_sqlite: Path) -> Settings:
    books.write(tmp_path, {"rules/pictures.yaml": RULES, "policies/goods.yaml": POLICY})
    shutil.copyfile(_migrated_sqlite, tmp_path / "arbiter.db")
    url = f"sqlite:///{tmp_path / 'arbiter.db'}"
    return Settings(url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")


@pytest.fixture
async def arbiter(settings: Settings, clock: Clock) -> AsyncIterator[Arbiter]:
    async with running(settings, clock) as it:
        yield it


def listing(id: str, *images: str, **more: Any) -> bytes:
    """A listing that names images: by their SHA-256, or as they stand."""
    rows = [{"hash": f"sha256:{each}" if len(each) == 64 else each} for each in images]
    body = {
        "kind": "listing",
        "event_id": id,
        "at": "2026-11-23T12:00:00Z",
        "merchant": {"id": "m-1"},
        "listing": {"id": "l-1", "title": "样品", **({"images": rows} if rows else {}), **more},
    }
    return orjson.dumps(body)


async def judged(arbiter: Arbiter, id: str, *images: str) -> dict[str, Any]:
    """The record of a decision on a listing."""
    answer = orjson.loads(await arbiter.decide(listing(id, *images), SHOP))
    return (await arbiter.decision(answer["id"], SHOP))["record"]


def reference(image: str = NAME, **more: Any) -> bytes:
    return orjson.dumps({"image": image, "kind": "counterfeit", "label": "acme-bag", "reason": "order 118", **more})


async def changes(arbiter: Arbiter) -> list[tuple[str, str | None, str | None]]:
    page = await arbiter._ledger.page("shop-a", Filter(kind="change"))
    leaves = [orjson.loads(stored.entry.leaf) for stored in reversed(page.entries)]
    return [(each["what"], each["before"], each["after"]) for each in leaves if each["what"].startswith("image")]


# -- sent


async def test_an_image_is_looked_at_and_known_by_its_sha256(arbiter: Arbiter) -> None:
    shown = await arbiter.take_image(BODY, SHOP)
    assert (shown["sha256"], shown["size"]) == (NAME, len(BODY))
    assert (shown["format"], shown["width"], shown["height"], shown["broken"]) == ("png", 320, 240, "")
    assert (shown["matches"], shown["detections"], shown["comparable"], shown["examined"]) == ([], [], True, False)
    assert await arbiter.image(NAME, SHOP) == shown
    with pytest.raises(NotFound):
        await arbiter.image(NAME, OTHER)


async def test_a_broken_image_is_kept_as_broken(arbiter: Arbiter) -> None:
    shown = await arbiter.take_image(BODY[:900], SHOP)
    assert (shown["broken"], shown["comparable"]) == ("truncated", False)
    record = await judged(arbiter, "e-1", shown["sha256"])
    assert record["signals"] == ["unseen"]
    assert record["reasons"][0]["message"]["en"] == "0 not sent, 1 broken"


async def test_what_was_whole_once_is_not_broken_by_a_slow_day(arbiter: Arbiter) -> None:
    await arbiter.take_image(BODY, SHOP)
    arbiter._gallery._reader._seconds = 0.0001
    assert (await arbiter.take_image(BODY, SHOP))["broken"] == ""


# -- named by a listing


async def test_a_listing_without_images_sent_here_is_judged_as_ever(arbiter: Arbiter) -> None:
    for id, images in (("e-1", ()), ("e-2", ("pdq:f8f8",))):
        record = await judged(arbiter, id, *images)
        assert record["verdict"] == "approve"
        assert "images" not in record
        assert "image_matches" not in record["event"]["public"]["listing"]


async def test_an_image_that_was_never_sent_is_a_finding(arbiter: Arbiter) -> None:
    record = await judged(arbiter, "e-1", NAME)
    assert record["signals"] == ["unseen"]
    assert record["reasons"][0]["message"]["en"] == "1 not sent, 0 broken"


async def test_a_picture_like_a_known_one_is_found_whatever_its_bytes(arbiter: Arbiter) -> None:
    await arbiter.take_image(BODY, SHOP)
    known = await arbiter.references.add(reference(), LI)
    random = np.random.default_rng(5)
    copy = pictures.compressed(pictures.cropped(pictures.resized(FAKE, 1.5), random, 0.92, 0.95), 60)
    shown = await arbiter.take_image(pictures.saved(copy, "JPEG"), SHOP)
    record = await judged(arbiter, "e-1", shown["sha256"])
    assert (record["verdict"], record["signals"]) == ("review", ["counterfeit"])
    assert record["reasons"][0]["message"]["en"] == "like acme-bag"
    (seen,) = record["images"]["seen"]
    assert seen["matches"] == shown["matches"]
    assert seen["matches"][0]["reference"] == known["id"]
    explained = await arbiter.explanation(record["id"], SHOP)
    assert explained["images"] == record["images"]
    said = f"like counterfeit acme-bag ({known['id']}): {seen['matches'][0]['distance']} of 256 bits differ"
    assert said in "\n".join(_images(explained["images"]))


async def test_what_becomes_known_later_is_found_from_then_on(arbiter: Arbiter) -> None:
    await arbiter.take_image(BODY, SHOP)
    assert (await judged(arbiter, "e-1", NAME))["verdict"] == "approve"
    await arbiter.references.add(reference(), LI)
    assert (await judged(arbiter, "e-2", NAME))["verdict"] == "review"


async def test_a_known_image_of_one_tenant_is_none_of_another(arbiter: Arbiter) -> None:
    for caller in (SHOP, OTHER):
        await arbiter.take_image(BODY, caller)
    await arbiter.references.add(reference(), LI)
    assert (await arbiter.image(NAME, OTHER))["matches"] == []
    assert await arbiter.references.read(OTHER) == []


async def test_windows_count_what_was_found(arbiter: Arbiter) -> None:
    broken = (await arbiter.take_image(BODY[:900], SHOP))["sha256"]
    found = [(await judged(arbiter, f"e-{number}", broken))["signals"] for number in range(3)]
    assert found == [["unseen"], ["unseen"], ["unseen", "often_broken"]]


@pytest.mark.parametrize("field", ["image_matches", "images_unknown"])
async def test_no_sender_says_what_was_found(arbiter: Arbiter, field: str) -> None:
    value: Any = ["counterfeit"] if field == "image_matches" else 0
    with pytest.raises(EventRefused) as refused:
        await arbiter.decide(listing("e-1", **{field: value}), SHOP)
    (problem,) = refused.value.problems
    assert (problem.path, problem.code, problem.hint) == (f"listing.{field}", "derived_field", "leave it out")


async def test_the_same_event_gets_the_same_answer_though_its_image_came_between(arbiter: Arbiter) -> None:
    first = await arbiter.decide(listing("e-1", NAME), SHOP)
    await arbiter.take_image(BODY, SHOP)
    assert await arbiter.decide(listing("e-1", NAME), SHOP) == first


async def test_a_detector_of_ones_own_looks_at_each_image(settings: Settings, clock: Clock, tmp_path: Path) -> None:
    """Before it was in use nobody looked; once it is, an image that is sent again is looked at."""
    name = sha256(RED).hexdigest()
    async with running(settings, clock) as arbiter:
        await arbiter.take_image(RED, SHOP)
    folder = detectors.detector(tmp_path / "detectors")
    async with running(replace(settings, image_detector=folder), clock) as arbiter:
        before = await judged(arbiter, "e-1", name)
        assert before["event"]["public"]["listing"]["image_classes"] == []
        assert (await arbiter.image(name, SHOP))["examined"] is False
        assert (await arbiter.take_image(RED, SHOP))["examined"] is True
        record = await judged(arbiter, "e-2", name)
        assert record["event"]["public"]["listing"]["image_classes"] == ["red"]
        assert record["images"]["detector"] == folder.name
        (box,) = record["images"]["seen"][0]["detections"]
        assert (box["label"], box["box"]) == ("red", [32, 64, 32, 32])
        said = "\n".join(_images((await arbiter.explanation(record["id"], SHOP))["images"]))
        assert f"red at {box['score'] / 1000:.3f}, left top width height [32, 64, 32, 32]" in said


# -- recorded


@pytest.mark.parametrize("level", ["full", "recorded"])
async def test_a_decision_on_images_is_replayed_byte_for_byte(arbiter: Arbiter, keys: KeyFile, level: str) -> None:
    await arbiter.take_image(BODY, SHOP)
    await arbiter.references.add(reference(), LI)
    record = await judged(arbiter, "e-1", NAME, "f" * 64)
    # What is known now is another thing: a replay asks what was known then.
    await _end(arbiter, (await arbiter.references.read(LI))[0]["id"])
    assert (await _replayed(arbiter, record["id"], level)).equal


async def test_a_record_whose_findings_were_altered_does_not_replay(arbiter: Arbiter) -> None:
    await arbiter.take_image(BODY, SHOP)
    await arbiter.references.add(reference(), LI)
    record = await judged(arbiter, "e-1", NAME)
    stored = await arbiter._ledger.get("shop-a", record["id"])
    assert stored is not None
    altered = stored.entry.leaf.replace(b'"image_matches":["counterfeit"]', b'"image_matches":[]')
    assert altered != stored.entry.leaf
    again = Replayer(arbiter._live.rulebook).replay(altered)
    assert not again.equal


async def _replayed(arbiter: Arbiter, id: str, level: str) -> Replayed:
    stored = await arbiter._ledger.get("shop-a", id)
    assert stored is not None
    pinned = orjson.loads(stored.entry.leaf)["pins"]["rulebook"]
    replayer = Replayer(await Library(arbiter._ledger.database, lambda: NOW).find(pinned))
    past, why = await Retrieval(arbiter._ledger, arbiter._vault, None).past(stored, replayer.rulebook)
    found = replayer.replay(stored.entry.leaf, past if level == "full" else None, why)
    assert found.level == level
    return found


# -- known images


async def _end(arbiter: Arbiter, id: str) -> dict[str, Any]:
    await arbiter.references.remove(id, LI)
    return await arbiter.references.approve(id, WANG)


async def test_a_known_image_ends_when_a_second_person_agrees(arbiter: Arbiter) -> None:
    await arbiter.take_image(BODY, SHOP)
    known = await arbiter.references.add(reference(), LI)
    assert (known["state"], known["added_by"], known["reason"]) == ("active", "li.si", "order 118")
    with pytest.raises(SecondPerson):
        await arbiter.references.remove(known["id"], DESK)
    assert (await arbiter.references.remove(known["id"], LI))["state"] == "ending"
    assert (await arbiter.image(NAME, SHOP))["matches"], "it counts until its end is approved"
    for caller in (LI, DESK):
        with pytest.raises(SecondPerson):
            await arbiter.references.approve(known["id"], caller)
    ended = await arbiter.references.approve(known["id"], WANG)
    assert (ended["state"], ended["ended_by"], ended["end_approved_by"]) == ("ended", "li.si", "wang.wu")
    assert (await arbiter.image(NAME, SHOP))["matches"] == []
    with pytest.raises(Conflict):
        await arbiter.references.approve(known["id"], WANG)


async def test_an_end_that_is_withdrawn_leaves_it_known(arbiter: Arbiter) -> None:
    await arbiter.take_image(BODY, SHOP)
    known = await arbiter.references.add(reference(), LI)
    await arbiter.references.remove(known["id"], LI)
    assert (await arbiter.references.withdraw(known["id"], DESK))["state"] == "active"
    assert (await arbiter.image(NAME, SHOP))["matches"]


async def test_every_step_is_in_the_ledger(arbiter: Arbiter) -> None:
    await arbiter.take_image(BODY, SHOP)
    known = await arbiter.references.add(reference(), LI)
    await _end(arbiter, known["id"])
    what = f"counterfeit acme-bag sha256:{NAME}"
    assert await changes(arbiter) == [
        ("image_reference_added", None, f"active: {what}"),
        ("image_reference_end_asked", f"active: {what}", f"ending: {what}"),
        ("image_reference_ended", f"ending: {what}", f"ended: {what}"),
    ]


async def test_a_known_image_ends_by_itself(arbiter: Arbiter, clock: Clock) -> None:
    await arbiter.take_image(BODY, SHOP)
    known = await arbiter.references.add(reference(expires="2026-11-23T12:00:01Z"), LI)
    assert (await arbiter.image(NAME, SHOP))["matches"]
    clock.now += SECOND
    assert (await arbiter.image(NAME, SHOP))["matches"] == []
    # Nobody loses anything by its end: no second person is needed.
    assert (await arbiter.references.remove(known["id"], DESK))["state"] == "ended"
    assert (await arbiter.references.add(reference(), LI))["state"] == "active", "and it may be known again"


@pytest.mark.parametrize(
    ("more", "path", "code"),
    [
        ({"kind": "weapon"}, "kind", "not_a_choice"),
        ({"label": " "}, "label", "too_short"),
        ({"label": "call 13800138000"}, "label", "personal_in_identifier"),
        ({"label": "a\nb"}, "label", "bad_format"),
        ({"reason": ""}, "reason", "too_short"),
        ({"image": "abc"}, "image", "too_short"),
        ({"expires": "2026-11-23T12:00:00Z"}, "expires", "out_of_range"),
        ({"until": "2027"}, "until", "unknown_field"),
    ],
)
async def test_what_does_not_fit_is_refused(arbiter: Arbiter, more: dict[str, Any], path: str, code: str) -> None:
    await arbiter.take_image(BODY, SHOP)
    with pytest.raises(BodyRefused) as refused:
        await arbiter.references.add(reference(**more), LI)
    assert [(each.path, each.code) for each in refused.value.problems] == [(path, code)]


async def test_only_an_image_that_shows_something_can_be_known(arbiter: Arbiter) -> None:
    with pytest.raises(NotFound):
        await arbiter.references.add(reference(), LI)
    for body in (BODY[:900], pictures.saved(pictures.Image.new("RGB", (99, 99), "white"))):
        name = (await arbiter.take_image(body, SHOP))["sha256"]
        with pytest.raises(BodyRefused, match="nothing can be compared"):
            await arbiter.references.add(reference(name), LI)


async def test_an_image_is_known_once_as_the_same_thing(arbiter: Arbiter) -> None:
    await arbiter.take_image(BODY, SHOP)
    await arbiter.references.add(reference(), LI)
    with pytest.raises(Conflict, match="known as such already"):
        await arbiter.references.add(reference(), LI)
    await arbiter.references.add(reference(kind="brand_mark", label="acme"), LI)
    assert {each["kind"] for each in (await arbiter.image(NAME, SHOP))["matches"]} == {"counterfeit", "brand_mark"}


async def test_known_images_are_known_after_a_restart(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        await arbiter.take_image(BODY, SHOP)
        await arbiter.references.add(reference(), LI)
    async with running(settings, clock) as arbiter:
        assert (await judged(arbiter, "e-1", NAME))["verdict"] == "review"


async def test_a_reason_with_a_phone_number_is_masked_for_who_reads_it(arbiter: Arbiter) -> None:
    await arbiter.take_image(BODY, SHOP)
    known = await arbiter.references.add(reference(reason="told by 13800138000"), LI)
    assert "13800138000" not in known["reason"]
