"""A detector: an ONNX model of the YOLO kind that marks what it sees on an image with boxes.

The image is fitted into the square that the model looks at, with grey around it; of its boxes those count whose score
reaches the threshold of their class; of boxes of one class that overlap much the best is kept (greedy non-maximum
suppression); and the boxes come back in pixels of the image. Nothing of it is random.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.errors import ModelUnavailable
from engine.images.card import DetectorCard, named_card
from engine.images.seen import Detection

if TYPE_CHECKING:
    from PIL.Image import Image

MOST = 100
"""Most boxes that are kept of one image, the best first."""
CANDIDATES = 3_000
"""Most boxes over their threshold that are compared with each other; the best of them."""
_GREY = 114
_THOUSAND = 1000


class Detector:
    """A model that was loaded and gives what its card says. `name` is the SHA-256 of its card."""

    def __init__(self, name: str, card: DetectorCard, body: bytes) -> None:
        """Raises ValueError for a model that does not load, or whose outputs are not those of its card."""
        self.name = name
        self.card = card
        self._labels = [str(label) for label in card.classes]
        self._least = np.array([int(each.at * _THOUSAND) for each in card.classes.values()])
        self._input, self._run = _session(body)
        self._outputs(np.full((card.input, card.input, 3), _GREY, np.uint8))

    def detect(self, image: Image) -> tuple[Detection, ...]:
        """What it sees on an RGB image, the best first."""
        square, scale, left, top = fitted(image, self.card.input)
        boxes, scores = self._outputs(square)
        kept = _chosen(boxes, scores, self._least, float(self.card.overlap))
        found = (
            Detection(self._labels[label], score, _whole(box, scale, left, top, image.size))
            for box, score, label in kept
        )
        return tuple(each for each in found if each.box[2] and each.box[3])

    def _outputs(self, square: Any) -> tuple[Any, Any]:
        """(boxes as left, top, right, bottom in the square; scores in thousandths by class)."""
        given = np.ascontiguousarray(square.transpose(2, 0, 1)[None], np.float32) / 255
        rows = self._run(None, {self._input: given})[0]
        objectness = self.card.form == "yolo5"
        width = 4 + objectness + len(self._labels)
        if rows.ndim != 3 or rows.shape[0] != 1 or rows.shape[2 if objectness else 1] != width:
            wanted = f"[1, boxes, {width}]" if objectness else f"[1, {width}, boxes]"
            raise ValueError(f"it gives {list(rows.shape)}, and its card says {wanted}")
        rows = rows[0] if objectness else rows[0].T
        rows = rows[np.isfinite(rows).all(axis=1)].astype(np.float64)
        scores = rows[:, 5:] * rows[:, 4:5] if objectness else rows[:, 4:]
        centre, half = rows[:, :2], rows[:, 2:4] / 2
        return np.hstack([centre - half, centre + half]), np.rint(np.clip(scores, 0, 1) * _THOUSAND).astype(int)


def read_detector(folder: Path) -> Detector:
    """The detector in a folder that has the name of its card. Raises ModelUnavailable, which says why not."""
    read = named_card(folder)
    try:
        return Detector(read.name, read.card, (folder / str(read.card.model.file)).read_bytes())
    except Exception as error:  # noqa: BLE001 - onnxruntime raises its own kinds
        raise ModelUnavailable(f"{folder / str(read.card.model.file)} cannot be used: {error}") from None


def detector_name(folder: Path) -> str:
    """The name of the detector in a folder, without loading it. Raises ModelUnavailable."""
    return named_card(folder).name


def fitted(image: Image, side: int) -> tuple[Any, float, int, int]:
    """(the image in a square of `side` with grey around it, its scale there, where its left and top edges are)."""
    from PIL.Image import Resampling, new

    scale = side / max(image.size)
    width, height = (max(1, round(each * scale)) for each in image.size)
    left, top = (side - width) // 2, (side - height) // 2
    square = new("RGB", (side, side), (_GREY, _GREY, _GREY))
    square.paste(image.resize((width, height), Resampling.BILINEAR), (left, top))
    return np.asarray(square), scale, left, top


def _session(body: bytes) -> tuple[str, Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # Other workers need their cores.
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(body, options, providers=["CPUExecutionProvider"])
    if len(session.get_inputs()) != 1:
        raise ValueError(f"it has {len(session.get_inputs())} inputs, not one")
    return session.get_inputs()[0].name, session.run


def _chosen(boxes: Any, scores: Any, least: Any, overlap: float) -> list[tuple[Any, int, int]]:
    """(box, score, class) of what counts, the best first. A box is of the class that it has the best score for."""
    labels = scores.argmax(axis=1)
    best = scores[np.arange(len(scores)), labels]
    over = np.flatnonzero(best >= least[labels])
    order = over[np.argsort(-best[over], kind="stable")][:CANDIDATES]
    kept: list[int] = []
    for place in order.tolist():
        rivals = [other for other in kept if labels[other] == labels[place]]
        if not rivals or _overlaps(boxes[place], boxes[rivals]).max() <= overlap:
            kept.append(place)
            if len(kept) == MOST:
                break
    return [(boxes[place], int(best[place]), int(labels[place])) for place in kept]


def _overlaps(box: Any, others: Any) -> Any:
    """Intersection over union of one box with others."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    both = np.clip(sides, 0, None).prod(axis=1)
    areas = np.clip(others[:, 2:] - others[:, :2], 0, None).prod(axis=1)
    union = np.clip(box[2:] - box[:2], 0, None).prod() + areas - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def _whole(box: Any, scale: float, left: int, top: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box of the square as left, top, width and height in pixels of the image, cut off at its edges."""
    moved = (box - np.array([left, top, left, top])) / scale
    edges = np.clip(np.rint(moved), 0, [*size, *size]).astype(int)
    x, y, right, bottom = edges.tolist()
    return x, y, right - x, bottom - y
