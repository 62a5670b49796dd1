"""Detectors of images: the card, what counts of a model's boxes, and a real model that finds red and blue squares."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from bench import _pictures as pictures
from cli import main
from engine.assembly import Settings
from engine.errors import ModelUnavailable, PackError, SettingsError
from engine.images import Detection, Reader
from engine.images.card import read_card
from engine.images.detector import MOST, Detector, _chosen, _overlaps, detector_name, fitted, read_detector
from tests import detectors


def square(
    colour: str = "red", box: tuple[int, int, int, int] = (32, 64, 32, 32), size: Any = (128, 128)
) -> Image.Image:
    """A picture with a square: left, top, width, height."""
    picture = Image.new("RGB", size, "white")
    left, top, width, height = box
    ImageDraw.Draw(picture).rectangle((left, top, left + width - 1, top + height - 1), fill=colour)
    return picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return detectors.detector(tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Detector:
    return read_detector(folder)


# -- a real model


@pytest.mark.parametrize(
    ("picture", "seen"),
    [
        (square(), ("red", (32, 64, 32, 32))),
        (square("blue"), ("blue", (32, 64, 32, 32))),
        (square(box=(64, 32, 64, 64), size=(256, 256)), ("red", (64, 32, 64, 64))),
        # Twice as wide as high: grey above and below, and the box is in pixels of the image all the same.
        (square(box=(64, 0, 64, 64), size=(256, 128)), ("red", (64, 0, 64, 64))),
        (square(box=(0, 64, 64, 64), size=(128, 256)), ("red", (0, 64, 64, 64))),
    ],
    ids=["red", "blue", "large", "wide", "high"],
)
def test_a_square_is_found_where_it_is(model: Detector, picture: Image.Image, seen: tuple[str, Any]) -> None:
    (found,) = model.detect(picture)
    assert (found.label, found.box) == seen
    assert found.score >= 960, "its edges are softened where the image is made smaller"


@pytest.mark.parametrize("colour", ["green", "white", "black", "grey", "yellow"])
def test_other_squares_are_not_found(model: Detector, colour: str) -> None:
    assert model.detect(square(colour)) == ()


def test_two_squares_are_found_the_better_one_first(model: Detector) -> None:
    picture = square()
    picture.paste(square((0, 40, 240), (0, 0, 32, 32), (32, 32)), (96, 0))
    assert [(each.label, each.box) for each in model.detect(picture)] == [
        ("red", (32, 64, 32, 32)),
        ("blue", (96, 0, 32, 32)),
    ]


def test_each_class_has_a_threshold_of_its_own(tmp_path: Path) -> None:
    pale = (230, 115, 115)  # its score is .45
    for at, count in (("40%", 1), ("50%", 0)):
        model = read_detector(detectors.detector(tmp_path / at, red=at, blue="10%"))
        labels = [each.label for each in model.detect(square(pale))]
        assert labels.count("red") == count


def test_the_older_form_has_boxes_in_rows_and_an_objectness_that_counts(model: Detector, tmp_path: Path) -> None:
    (found,) = read_detector(detectors.detector(tmp_path, "yolo5")).detect(square())
    assert (found.label, found.box) == ("red", (32, 64, 32, 32))
    (plain,) = model.detect(square())
    assert found.score == pytest.approx(0.9 * plain.score, abs=1)


def test_the_same_image_gives_the_same_boxes(model: Detector, folder: Path) -> None:
    picture = pictures.drawn(1)
    assert model.detect(picture) == model.detect(picture) == read_detector(folder).detect(picture)


# -- what counts of boxes


def test_an_image_is_fitted_into_the_middle() -> None:
    whole, scale, left, top = fitted(Image.new("RGB", (200, 100), "red"), 64)
    assert (scale, left, top) == (0.32, 0, 16)
    assert whole[0, 0].tolist() == [114, 114, 114]
    assert whole[32, 32].tolist() == [255, 0, 0]


boxes = st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 20)] * 2).map(
    lambda each: (each[0], each[1], each[0] + each[2], each[1] + each[3])
)


@given(boxes, boxes)
def test_boxes_overlap_by_the_pixels_that_they_share(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    def pixels(box: tuple[int, ...]) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    shared, both = pixels(one) & pixels(other), pixels(one) | pixels(other)
    (found,) = _overlaps(np.array(one, float), np.array([other], float))
    assert found == pytest.approx(len(shared) / len(both))


@given(st.lists(st.tuples(boxes, st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=12))
def test_what_is_kept_overlaps_nothing_better_of_its_class(rows: list[tuple[tuple[int, ...], int, int]]) -> None:
    given = np.array([box for box, _, _ in rows], float)
    scores = np.array([[first, second] for _, first, second in rows])
    kept = _chosen(given, scores, np.array([300, 500]), 0.45)
    assert [score for _, score, _ in kept] == sorted((score for _, score, _ in kept), reverse=True)
    assert all(score >= (300, 500)[label] for _, score, label in kept)
    for at, (box, _, label) in enumerate(kept):
        better = np.array([other for other, _, same in kept[:at] if same == label])
        assert not len(better) or _overlaps(box, better).max() <= 0.45
    # And nothing else is left out: every other box is below its threshold, or overlaps one that was kept.
    for box, score, label in zip(given, scores.max(axis=1), scores.argmax(axis=1), strict=True):
        rivals = np.array([other for other, best, same in kept if same == label and best >= score])
        assert (
            score < (300, 500)[label]
            or (len(rivals) and _overlaps(box, rivals).max() > 0.45)
            or any((box == other).all() for other, _, _ in kept)
        )


def test_of_many_boxes_the_best_are_kept() -> None:
    apart = np.array([[10 * n, 0, 10 * n + 5, 5] for n in range(MOST + 50)], float)
    scores = np.arange(MOST + 50)[:, None] + 500
    kept = _chosen(apart, scores, np.array([1]), 0.45)
    assert [score for _, score, _ in kept] == list(range(499 + MOST + 50, 499 + 50, -1))


def test_what_is_no_number_is_no_box(model: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.full((1, 6, 4), 0.9, np.float32)
    rows[0, 0, 0], rows[0, 2, 1], rows[0, 5, 2] = np.nan, np.inf, np.nan
    rows[0, :4, 3] = (32, 32, 16, 16)
    monkeypatch.setattr(model, "_run", lambda *_: [rows])
    assert model.detect(square()) == (Detection("red", 900, (48, 48, 32, 32)),)


def test_a_box_is_cut_off_at_the_edges_and_none_is_left_outside(
    model: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = [[0, 0, 32, 32, 1, 0], [900, 900, 5, 5, 1, 0]]
    monkeypatch.setattr(model, "_run", lambda *_: [np.array(columns, np.float32).T[None]])
    assert [each.box for each in model.detect(square())] == [(0, 0, 32, 32)]


# -- the folder


def changed(name: str, how: Callable[[str], str]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / name
        file.write_text(how(file.read_text("utf-8")), "utf-8")

    return change


@pytest.mark.parametrize(
    ("change", "line", "what"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"other"), 6, "another SHA-256"),
        (lambda folder: (folder / "model.onnx").unlink(), 6, "no such file"),
        (changed("card.yaml", lambda text: text.replace("model.onnx", "../x.onnx")), 6, "model.onnx"),
        (changed("card.yaml", lambda text: text.replace("yolo8", "ssd")), 7, "yolo8"),
        (changed("card.yaml", lambda text: text.replace("input: 64", "input: 50")), 8, "32"),
        (changed("card.yaml", lambda text: text.replace("60%", "0.6", 1)), 10, "share"),
        (changed("card.yaml", lambda text: text.replace("  red:", "  red one:")), 10, "letters"),
        (changed("card.yaml", lambda text: text.replace("owner: tests\n", "")), 1, "owner"),
        (changed("card.yaml", lambda text: text + "thresholds: {}\n"), 12, "thresholds"),
    ],
)
def test_a_card_with_a_mistake_says_where(tmp_path: Path, change: Callable[[Path], None], line: int, what: str) -> None:
    folder = detectors.detector(tmp_path)
    change(folder)
    with pytest.raises(PackError) as told:
        read_card(folder)
    assert [problem.line for problem in told.value.problems] == [line]
    assert what in told.value.problems[0].render()


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    folder = detectors.detector(tmp_path)
    changed("card.yaml", lambda text: text.replace("yolo8", "ssd").replace("input: 64", "input: 50"))(folder)
    with pytest.raises(PackError) as told:
        read_card(folder)
    assert [problem.line for problem in told.value.problems] == [7, 8]


def test_a_folder_is_used_under_the_name_of_its_card_alone(folder: Path, tmp_path: Path) -> None:
    assert detector_name(folder) == folder.name == sha256((folder / "card.yaml").read_bytes()).hexdigest()
    moved = detectors.detector(tmp_path).rename(tmp_path / "weapons")
    for use in (detector_name, read_detector):
        with pytest.raises(ModelUnavailable, match=f"rename .* to {folder.name}"):
            use(moved)
    assert read_card(moved).name == folder.name


@pytest.mark.parametrize(
    ("body", "form", "why"),
    [
        (b"no model", "yolo8", "cannot be used"),
        (detectors.model("yolo8"), "yolo5", r"it gives \[1, 6, 49\], and its card says \[1, boxes, 7\]"),
        (detectors.model("yolo5"), "yolo8", r"it gives \[1, 49, 7\], and its card says \[1, 6, boxes\]"),
    ],
)
def test_a_model_that_is_not_what_its_card_says_is_not_used(tmp_path: Path, body: bytes, form: str, why: str) -> None:
    folder = detectors.written(tmp_path, detectors.card(body, form), body)
    with pytest.raises(ModelUnavailable, match=why):
        read_detector(folder)


# -- at work


@pytest.mark.anyio
async def test_the_process_that_reads_images_looks_with_it(folder: Path) -> None:
    reader = Reader(folder, seconds=60)
    seen = await reader.look(pictures.saved(square()))
    await reader.close()
    assert (seen.detector, reader.problem) == (folder.name, "")
    assert [(each.label, each.box) for each in seen.detections] == [("red", (32, 64, 32, 32))]


@pytest.mark.anyio
async def test_where_it_cannot_be_loaded_images_are_read_without_it(tmp_path: Path) -> None:
    reader = Reader(detectors.written(tmp_path, detectors.card(b"none"), b"none"), seconds=60)
    seen = await reader.look(pictures.saved(square()))
    await reader.close()
    assert (seen.broken, seen.detector, seen.detections) == ("", "", ())
    assert "cannot be used" in reader.problem


def test_the_start_refuses_a_folder_that_is_none(tmp_path: Path) -> None:
    from engine.assembly import _gallery

    settings = Settings.read({"ARBITER_IMAGE_DETECTOR": str(tmp_path)})
    with pytest.raises(SettingsError, match=r"ARBITER_IMAGE_DETECTOR: .*card\.yaml"):
        _gallery(None, lambda: 0, settings)  # type: ignore[arg-type]


def test_the_command_names_a_detector_and_tries_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(pictures.saved(square()))
    ended = CliRunner().invoke(main, ["images", "detector", str(folder), str(tmp_path / "red.png")])
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.splitlines()[-1] == folder.name
    assert "seen  red  0.9" in ended.stdout
    assert "[32, 64, 32, 32]" in ended.stdout


def test_the_command_shows_every_problem_of_a_card(tmp_path: Path) -> None:
    folder = detectors.detector(tmp_path)
    changed("card.yaml", lambda text: text.replace("yolo8", "ssd").replace("input: 64", "input: 50"))(folder)
    ended = CliRunner().invoke(main, ["images", "detector", str(folder)])
    assert ended.exit_code == 1
    assert "card.yaml:7:" in ended.stderr
    assert "card.yaml:8:" in ended.stderr
