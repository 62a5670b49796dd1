"""A detector that really detects: the mean colour of each patch of 16 × 16 pixels says how red, and how blue, it is."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, PATCH, STEP = 64, 16, 8
PLACES = (SIDE - PATCH) // STEP + 1

CARD = """\
detector: squares
about: Red and blue squares, for tests.
owner: tests
source: written by hand
licence: Apache-2.0
model: {{file: model.onnx, sha256: {sha256}}}
form: {form}
input: 64
classes:
  red: {{at: {red}}}
  blue: {{at: {blue}}}
"""


def model(form: str = "yolo8", objectness: float = 0.9) -> bytes:
    """The weights. As yolo5 it gives boxes in rows, with an objectness that is the same everywhere."""
    nodes = [
        helper.make_node("AveragePool", ["images"], ["patches"], kernel_shape=[PATCH] * 2, strides=[STEP] * 2),
        helper.make_node("Reshape", ["patches", "rows"], ["means"]),
        helper.make_node("MatMul", ["colours", "means"], ["raw"]),
        helper.make_node("Clip", ["raw", "none", "all"], ["classes"]),
    ]
    given: dict[str, Any] = {
        "rows": np.array([1, 3, PLACES**2], np.int64),
        "colours": np.array([[1, -0.5, -0.5], [-0.5, -0.5, 1]], np.float32),
        "none": np.array(0, np.float32),
        "all": np.array(1, np.float32),
        "boxes": _boxes(),
    }
    if form == "yolo8":
        nodes.append(helper.make_node("Concat", ["boxes", "classes"], ["output"], axis=1))
        shape = [1, 6, PLACES**2]
    else:
        given["there"] = np.full((1, 1, PLACES**2), objectness, np.float32)
        nodes.append(helper.make_node("Concat", ["boxes", "there", "classes"], ["columns"], axis=1))
        nodes.append(helper.make_node("Transpose", ["columns"], ["output"], perm=[0, 2, 1]))
        shape = [1, PLACES**2, 7]
    graph = helper.make_graph(
        nodes,
        "squares",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in given.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made)
    body: bytes = made.SerializeToString(deterministic=True)
    return body


def _boxes() -> Any:
    middle = np.arange(PLACES) * STEP + PATCH / 2
    down, across = np.meshgrid(middle, middle, indexing="ij")
    side = np.full(PLACES**2, PATCH)
    return np.stack([across.ravel(), down.ravel(), side, side])[None].astype(np.float32)


def card(body: bytes, form: str = "yolo8", red: str = "60%", blue: str = "60%") -> str:
    """The card of these weights."""
    return CARD.format(sha256=sha256(body).hexdigest(), form=form, red=red, blue=blue)


def written(root: Path, text: str, body: bytes) -> Path:
    """A folder with this card and these weights, under the name of the card."""
    folder = root / sha256(text.encode()).hexdigest()
    folder.mkdir(parents=True)
    (folder / "card.yaml").write_text(text, "utf-8")
    (folder / "model.onnx").write_bytes(body)
    return folder


def detector(root: Path, form: str = "yolo8", **at: str) -> Path:
    """The folder of a detector that works."""
    body = model(form)
    return written(root, card(body, form, **at), body)
