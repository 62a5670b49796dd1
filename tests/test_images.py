"""Images: decoded within limits, hashed, compared with known ones, and what an event learns from them."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from bench import _pictures as pictures
from engine.errors import TooMuch
from engine.images import HASH_BYTES, KINDS, LIMIT, VIEWS, Index, Reader, Reference, Seen, fingerprints
from engine.images import reader as reading_in_a_process
from engine.images.reading import look
from engine.images.seen import Detection
from engine.images.sight import MAX_MATCHES, named_in, sight_of
from engine.schema import schema

NOW = 1_795_435_200_000_000


def reference(number: int, picture: Image.Image, kind: str = "counterfeit", until: int | None = None) -> Reference:
    return Reference(f"r{number}", kind, f"goods-{number}", f"{number:064x}", fingerprints(picture), until)


def distance(index: Index, picture: Image.Image) -> int | None:
    """How far the nearest known image is, None where none is near enough."""
    found = index.matches(fingerprints(picture), NOW)
    return found[0].distance if found else None


# -- hashes


def test_a_hash_has_256_bits_and_an_image_one_for_each_view() -> None:
    hashes = fingerprints(pictures.drawn(1))
    assert len(hashes) == VIEWS * HASH_BYTES == 16 * 32
    # About the median: as many bits are set as not.
    assert int(np.bitwise_count(np.frombuffer(hashes[:32], np.uint8)).sum()) == 128


@pytest.mark.parametrize("colour", ["white", "black", (200, 30, 30)])
def test_an_image_of_one_colour_has_no_hash(colour: Any) -> None:
    assert fingerprints(Image.new("RGB", (300, 200), colour)) == b""


def test_the_size_of_an_image_hardly_matters() -> None:
    picture = pictures.drawn(4)
    assert fingerprints(picture)[:32] == fingerprints(picture.copy())[:32]
    assert distance(Index([reference(1, picture)]), pictures.resized(picture, 3)) in range(9)


@pytest.mark.parametrize("size", [(1, 400), (400, 1), (2, 2), (900, 30)], ids=str)
def test_odd_sizes_are_hashed_too(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    assert len(fingerprints(Image.fromarray(noise))) == VIEWS * HASH_BYTES


@cache
def forty() -> tuple[Image.Image, ...]:
    return tuple(pictures.drawn(seed, size=(300, 240)) for seed in range(100, 140))


@cache
def index_of_forty() -> Index:
    return Index(reference(number, picture) for number, picture in enumerate(forty()))


@pytest.mark.parametrize(
    ("what", "changed"),
    [
        ("a quarter of the size", lambda picture, random: pictures.resized(picture, 0.25)),
        ("twice the size", lambda picture, random: pictures.resized(picture, 2)),
        ("JPEG of quality 30", lambda picture, random: pictures.compressed(picture, 30)),
        ("JPEG of quality 90", lambda picture, random: pictures.compressed(picture, 90)),
        ("cropped to 90 %", lambda picture, random: pictures.cropped(picture, random, 0.9, 0.9)),
        ("cropped to 90 % of its width", lambda picture, random: pictures.cropped(picture, random, 0.9, 1)),
        ("a watermark", pictures.marked),
    ],
)
def test_an_image_is_found_again_after(what: str, changed: Any) -> None:
    """Of 40 images at least 36; how many of more, says bench.images."""
    random = np.random.default_rng(9)
    found = [index_of_forty().matches(fingerprints(changed(picture, random)), NOW) for picture in forty()]
    right = sum(bool(each) and each[0].reference.id == f"r{number}" for number, each in enumerate(found))
    assert right >= 36, what
    assert sum(len(each) for each in found) - right <= 1, "hardly another one beside it"


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_a_photograph_is_found_again(name: str) -> None:
    """The two that scikit-learn brings: in every way, beside the other and forty drawn ones."""
    names = ("china.jpg", "flower.jpg")
    taken = {each: Image.fromarray(load_sample_image(each)) for each in names}
    known = [reference(100 + at, taken[each]) for at, each in enumerate(names)]
    index = Index([*known, *index_of_forty().references])
    picture, random = taken[name], np.random.default_rng(7)
    changed = [pictures.resized(picture, 0.25), pictures.compressed(picture, 30), pictures.marked(picture, random)]
    changed += [pictures.cropped(picture, random, random.uniform(0.9, 1), random.uniform(0.9, 1)) for _ in range(10)]
    for each in changed:
        (match,) = index.matches(fingerprints(each), NOW)
        assert match.reference is known[names.index(name)]


def test_images_that_have_nothing_in_common_are_not_taken_for_each_other() -> None:
    others = [pictures.drawn(seed, size=(300, 240)) for seed in range(300, 340)]
    assert [distance(index_of_forty(), each) for each in others].count(None) >= 39


# -- the index


def bits(*flipped: int) -> bytes:
    """A hash in which these bits are set."""
    row = np.zeros(256, np.uint8)
    row[list(flipped)] = 1
    return np.packbits(row).tobytes()


def test_the_index_counts_differing_bits_as_counting_one_by_one_does() -> None:
    random = np.random.default_rng(3)
    known = [Reference(f"r{n}", "banned", "x", "0" * 64, random.bytes(32 * (n % 3 + 1))) for n in range(50)]
    index = Index(known)
    for _ in range(20):
        asked = random.bytes(32)
        slow = {
            each.id: min(
                sum((a ^ b).bit_count() for a, b in zip(asked, each.hashes[at : at + 32], strict=True))
                for at in range(0, len(each.hashes), 32)
            )
            for each in known
        }
        quick = {match.reference.id: match.distance for match in index.matches(asked, NOW, limit=120)}
        assert quick == {id: far for id, far in slow.items() if far <= 120}


@pytest.mark.parametrize(("far", "found"), [(LIMIT - 1, True), (LIMIT, True), (LIMIT + 1, False)])
def test_an_image_is_like_another_up_to_the_limit(far: int, found: bool) -> None:
    index = Index([Reference("r1", "banned", "x", "0" * 64, bits())])
    assert bool(index.matches(bits(*range(far)), NOW)) is found


def test_of_the_image_that_is_asked_about_only_the_whole_counts() -> None:
    index = Index([Reference("r1", "banned", "x", "0" * 64, bits(*range(200)))])
    assert not index.matches(bits() + bits(*range(200)), NOW)


@pytest.mark.parametrize(("at", "found"), [(NOW - 1, True), (NOW, False)])
def test_a_known_image_counts_until_its_end(at: int, found: bool) -> None:
    index = Index([Reference("r1", "banned", "x", "0" * 64, bits(), until=NOW)])
    assert bool(index.matches(bits(), at)) is found


def test_the_nearest_comes_first_and_of_equal_ones_the_first_by_id() -> None:
    known = [Reference(id, "banned", "x", "0" * 64, bits(*range(far))) for id, far in (("c", 0), ("b", 5), ("a", 5))]
    assert [match.reference.id for match in Index(known).matches(bits(), NOW)] == ["c", "a", "b"]


def test_the_hash_of_an_index_is_that_of_what_it_holds_whatever_the_order() -> None:
    first, second = reference(1, pictures.drawn(1)), reference(2, pictures.drawn(2))
    assert Index([first, second]).hash == Index([second, first]).hash
    others = [Index(), Index([first]), Index([first, reference(2, pictures.drawn(2), until=NOW)])]
    assert len({each.hash for each in (Index([first, second]), *others)}) == 4


def test_an_empty_index_and_an_image_without_hashes_match_nothing() -> None:
    assert Index().matches(bits(), NOW) == ()
    assert Index([reference(1, pictures.drawn(1))]).matches(b"", NOW) == ()


# -- decoding


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(side: int) -> bytes:
    """A PNG of side × side pixels in a few kilobytes."""
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(min((side // 8 + 1) * side, 1 << 24)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


PNG = pictures.saved(pictures.drawn(6))
JPEG = pictures.saved(pictures.drawn(6), "JPEG")


@pytest.mark.parametrize(
    ("body", "broken"),
    [
        (PNG, ""),
        (JPEG, ""),
        (pictures.saved(pictures.drawn(6), "WEBP"), ""),
        (pictures.saved(pictures.drawn(6), "GIF"), ""),
        (b"", "format"),
        (b"no image at all", "format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "format"),
        (pictures.saved(pictures.drawn(6), "TIFF"), "format"),
        (pictures.saved(pictures.drawn(6), "BMP"), "format"),
        (PNG[:20], "format"),
        (PNG[: len(PNG) // 2], "truncated"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (bomb(6_400), "too_large"),
        (bomb(2_000_000_000), "too_large"),
    ],
    ids=lambda each: each if isinstance(each, str) else f"{len(each)} bytes",
)
def test_bytes_are_an_image_or_it_is_said_why_not(body: bytes, broken: str) -> None:
    seen = look(body)
    assert (seen.broken, seen.sha256, seen.size) == (broken, sha256(body).hexdigest(), len(body))
    assert bool(seen.hashes) is (not broken)


def test_as_many_pixels_as_the_limit_are_decoded_and_no_more() -> None:
    largest = look(bomb(6_320))
    assert (largest.broken, largest.width, largest.height) == ("", 6_320, 6_320)
    assert look(bomb(6_328)).broken == "too_large"


def test_any_byte_of_an_image_may_be_another() -> None:
    random = np.random.default_rng(11)
    for whole in (PNG, JPEG):
        for _ in range(40):
            body = bytearray(whole)
            for _ in range(random.integers(1, 6)):
                body[random.integers(0, len(body))] = random.integers(0, 256)
            assert look(bytes(body)).broken in ("", "format", "truncated", "too_large")


def test_an_image_is_looked_at_as_it_is_shown() -> None:
    """Turned as its EXIF says, and on white where it is transparent."""
    picture = pictures.drawn(3, "product", (400, 300))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = look(pictures.saved(picture.rotate(90, expand=True), exif=exif))
    assert (turned.width, turned.height) == (400, 300)
    clear = picture.convert("RGBA")
    clear.putalpha(Image.fromarray((np.asarray(picture).min(axis=2) < 255).astype(np.uint8) * 255))
    index = Index([reference(1, picture)])
    for seen in (turned, look(pictures.saved(clear))):
        assert index.matches(seen.hashes, NOW)[0].distance <= 4


def test_what_was_seen_is_the_same_after_it_was_kept() -> None:
    seen = Seen("0" * 64, 9, "png", 4, 3, "", b"1" * 32, "d" * 64, (Detection("logo", 871, (0, 1, 2, 3)),))
    assert Seen.of(seen.json(), seen.hashes) == seen


# -- the process that reads


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    reader = Reader(seconds=60)
    yield reader
    await reader.close()


@pytest.mark.anyio
async def test_the_process_sees_what_we_see(reader: Reader) -> None:
    for body in (PNG, JPEG, b"nothing", PNG[:5000], bomb(6_400)):
        assert await reader.look(body) == look(body)


@pytest.mark.anyio
async def test_answers_come_to_whom_they_are_for(reader: Reader) -> None:
    bodies = [pictures.saved(pictures.drawn(seed, size=(64, 64))) for seed in range(12)]
    seen = await asyncio.gather(*map(reader.look, bodies))
    assert [each.sha256 for each in seen] == [sha256(body).hexdigest() for body in bodies]


@pytest.mark.anyio
async def test_an_image_that_takes_too_long_is_broken_and_the_next_one_is_read(reader: Reader) -> None:
    reader._seconds = 0.0001
    assert (await reader.look(PNG)).broken == "timeout"
    reader._seconds = 60
    assert (await reader.look(PNG)).broken == ""


@pytest.mark.anyio
async def test_an_image_that_ends_the_process_is_broken_and_the_next_one_is_read(reader: Reader) -> None:
    await reader.look(PNG)
    assert reader._process is not None
    reader._process.kill()
    await reader._process.wait()
    assert (await reader.look(PNG)).broken == "crashed"
    assert (await reader.look(PNG)).broken == ""


@pytest.mark.anyio
async def test_who_leaves_takes_no_answer_of_another(reader: Reader) -> None:
    await reader.look(PNG)
    asked = asyncio.create_task(reader.look(bomb(6_320)))
    await asyncio.sleep(0.02)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert (await reader.look(JPEG)).sha256 == sha256(JPEG).hexdigest()


@pytest.mark.anyio
async def test_more_than_may_wait_are_asked_to_come_back(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_in_a_process, "WAITING", 2)
    found = await asyncio.gather(*(reader.look(PNG) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(each, Seen) for each in found) == 2
    assert [each.retry_after for each in found if isinstance(each, TooMuch)] == [1, 1]


@pytest.mark.anyio
async def test_the_process_ends_with_the_one_that_started_it() -> None:
    reader = Reader(seconds=60)
    await reader.look(PNG)
    process = reader._process
    await reader.close()
    assert process is not None
    assert process.returncode is not None
    await reader.close()


# -- what an event learns


def listing(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"listing": {"images": list(rows)}}


A, B = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, ()),
        ({"listing": {}}, ()),
        (listing(), ()),
        (listing({"hash": "pdq:f8f8"}, {"url": "https://img.example.com/1.jpg"}), ()),
        (listing({"hash": f"sha256:{A}"}), (A,)),
        (listing({"hash": f"sha256:{A.upper()}"}), (A,)),
        (listing({"hash": f"SHA256:{A}"}), (A,)),
        (listing({"hash": f"sha256:{A}"}, {"hash": "pdq:f8"}, {}), (A, None, None)),
        (listing({"hash": f"sha256:{A[:-1]}"}, {"hash": f"sha256:{A[:-1]}g"}), ()),
        (listing({"hash": A}), ()),
    ],
)
def test_an_image_is_named_by_its_sha256(values: dict[str, Any], named: tuple[str | None, ...]) -> None:
    assert named_in(values) == named


def seen(name: str, picture: int | None = None, **more: Any) -> Seen:
    hashes = b"" if picture is None else fingerprints(pictures.drawn(picture))
    return Seen(name, 10, "png", 300, 200, hashes=hashes, **more)


LOGO = (Detection("logo", 900, (1, 2, 3, 4)),)


@pytest.mark.parametrize(
    ("known", "named", "field", "value"),
    [
        ([], (A, B), "images_unknown", 2),
        ([seen(A)], (A, B, None), "images_unknown", 2),
        ([seen(A)], (A, A), "images_unknown", 0),
        ([seen(A, broken="format"), seen(B)], (A, B), "images_broken", 1),
        ([seen(A, broken="format")], (A,), "images_unexamined", 0),
        ([seen(A)], (A,), "images_unexamined", 1),
        ([seen(A, detector="other")], (A,), "images_unexamined", 1),
        ([seen(A, detector="mine")], (A,), "images_unexamined", 0),
        ([seen(A, detector="mine", detections=LOGO)], (A,), "image_classes", ["logo"]),
        ([seen(A, detector="other", detections=LOGO)], (A,), "image_classes", []),
        ([seen(A, 1), seen(B, 2)], (A, B), "image_matches", ["banned", "counterfeit"]),
        ([seen(A, 1), seen(B, 2)], (A, B), "image_labels", ["goods-1", "goods-2"]),
        ([seen(A, 1), seen(B, 2)], (B,), "image_matches", ["banned"]),
        ([seen(A, 3)], (A,), "image_matches", []),
    ],
)
def test_fields_say_what_is_known_of_the_images(
    known: list[Seen], named: tuple[str | None, ...], field: str, value: Any
) -> None:
    index = Index([reference(1, pictures.drawn(1)), reference(2, pictures.drawn(2), "banned")])
    sight = sight_of({each.sha256: each for each in known}, named, index, NOW, "mine")
    assert sight.fields[field] == value


def test_without_a_detector_nothing_counts_as_examined() -> None:
    assert sight_of({A: seen(A)}, [A], Index(), NOW).fields["images_unexamined"] == 1


def test_the_evidence_has_the_distances_and_the_boxes() -> None:
    index = Index([reference(1, pictures.drawn(1))])
    sight = sight_of({A: seen(A, 1, detector="mine", detections=LOGO)}, [A, B], index, NOW, "mine")
    (shown,) = sight.evidence["seen"]
    assert shown["matches"] == [{"reference": "r1", "kind": "counterfeit", "label": "goods-1", "distance": 0}]
    assert shown["detections"] == [{"label": "logo", "score": 900, "box": [1, 2, 3, 4]}]
    assert (sight.evidence["index"], sight.evidence["detector"]) == (index.hash, "mine")


def test_the_evidence_of_one_image_is_bounded() -> None:
    every = Index(Reference(f"r{n:03}", "banned", f"label-{n}", "0" * 64, bits()) for n in range(300))
    sight = sight_of({A: Seen(A, 1, hashes=bits())}, [A], every, NOW)
    assert len(sight.evidence["seen"][0]["matches"]) == MAX_MATCHES
    assert len(sight.fields["image_labels"]) == 200


def test_the_fields_are_those_of_the_schema() -> None:
    given = {f"listing.{name}": value for name, value in sight_of({A: seen(A)}, [A], Index(), NOW).fields.items()}
    fields = schema().judged_fields("listing")
    assert {path for path, each in fields.items() if each.found} == set(given)
    body = {**schema().sample_fields("listing"), **given, "event_id": "e", "at": NOW}
    assert schema().build(body, received_at=NOW, kind="listing").values["listing"]["images_unknown"] == 0
    assert set(fields["listing.image_matches"].choices) == set(KINDS)
