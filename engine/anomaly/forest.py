"""One isolation forest as one ONNX operator, and the walk through its trees that explains a score.

The graph is TreeEnsembleRegressor (SUM of path lengths), then Div and Pow: it gives scikit-learn's `score_samples`
turned positive. scikit-learn casts rows to float32 and compares them with float64 thresholds; a threshold rounded
down to float32 decides every float32 row alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnxruntime

INPUT, OUTPUT = "rows", "oddness"
_OPSETS = (("", 17), ("ai.onnx.ml", 3))
_IR = 8
_BRANCH, _LEAF = "BRANCH_LEQ", "LEAF"


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree in scikit-learn's arrays: children are -1 at leaves, `rows` is how many training rows reached a node,
    `length` the path length that counts where a path ends."""

    left: Sequence[int]
    right: Sequence[int]
    feature: Sequence[int]
    threshold: Sequence[float]
    missing_left: Sequence[bool]
    rows: Sequence[int]
    length: Sequence[float]


def graph(trees: Sequence[Tree], features: int, normal: float) -> bytes:
    """The ONNX model of a forest whose path lengths are divided by `normal` in all (trees x c(sample))."""
    columns: dict[str, list[Any]] = {name: [] for name in _NODES}
    targets: dict[str, list[Any]] = {name: [] for name in _TARGETS}
    for number, tree in enumerate(trees):
        for node, left in enumerate(tree.left):
            leaf = left < 0
            row = (
                number,
                node,
                0 if leaf else tree.feature[node],
                _LEAF if leaf else _BRANCH,
                0.0 if leaf else tree.threshold[node],
                0 if leaf else left,
                0 if leaf else tree.right[node],
                0 if leaf else int(tree.missing_left[node]),
                float(tree.rows[node]),
            )
            for name, value in zip(_NODES, row, strict=True):
                columns[name].append(value)
            if leaf:
                for name, value in zip(_TARGETS, (number, node, 0, tree.length[node]), strict=True):
                    targets[name].append(value)
    helper = onnx.helper
    given: dict[str, Any] = {**columns, **targets}
    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        [INPUT],
        ["length"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        **given,
    )
    constants = [
        helper.make_tensor(name, onnx.TensorProto.FLOAT, [1], [value])
        for name, value in (("normal", -normal), ("two", 2.0))
    ]
    steps = [
        helper.make_node("Div", ["length", "normal"], ["exponent"]),
        helper.make_node("Pow", ["two", "exponent"], [OUTPUT]),
    ]
    floats = onnx.TensorProto.FLOAT
    made = helper.make_graph(
        [ensemble, *steps],
        "isolation_forest",
        [helper.make_tensor_value_info(INPUT, floats, [None, features])],
        [helper.make_tensor_value_info(OUTPUT, floats, [None, 1])],
        constants,
    )
    opsets = [helper.make_opsetid(*opset) for opset in _OPSETS]
    model = helper.make_model(made, opset_imports=opsets, ir_version=_IR, producer_name="arbiter")
    onnx.checker.check_model(model)
    body: bytes = model.SerializeToString(deterministic=True)
    return body


_NODES = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_featureids",
    "nodes_modes",
    "nodes_values",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "nodes_missing_value_tracks_true",
    # How many training rows came by: the operator does without, but with it the graph alone explains a score.
    "nodes_hitrates",
)
_TARGETS = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


class Forest:
    """A forest read from its ONNX bytes. Raises ValueError when they are no forest as `graph` makes them."""

    def __init__(self, body: bytes, features: int) -> None:
        try:
            model = onnx.load_model_from_string(body)
            onnx.checker.check_model(model)
        except Exception as error:  # noqa: BLE001 - protobuf and the checker raise what they like
            raise ValueError(f"this is no ONNX model: {error}") from None
        kinds = [node.op_type for node in model.graph.node]
        if kinds != ["TreeEnsembleRegressor", "Div", "Pow"]:
            raise ValueError(f"the graph is no isolation forest of ours: {', '.join(kinds)}")
        self.features = features
        self.trees = _trees(model.graph.node[0], features)
        self.base = sum(tree[0].length for tree in self.trees) / len(self.trees)
        self._roots = [_walk(tree) for tree in self.trees]
        self._normal = -float(onnx.numpy_helper.to_array(model.graph.initializer[0])[0])
        options = onnxruntime.SessionOptions()
        # A row takes microseconds: threads would cost more than they bring, and take cores from other workers.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._run = onnxruntime.InferenceSession(body, options, providers=["CPUExecutionProvider"]).run

    def scores(self, rows: Any) -> Any:
        """The oddness of each row: (n,) float32 in (0, 1) for (n, features) floats. Larger is odder."""
        return self._run(None, {INPUT: np.ascontiguousarray(rows, np.float32)})[0][:, 0]

    def score(self, row: Sequence[float]) -> float:
        """The oddness of one row."""
        return float(self._run(None, {INPUT: np.array([row], np.float32)})[0][0, 0])

    def contributions(self, row: Sequence[float]) -> list[float]:
        """By how much each feature lengthens the mean path of this row, in nodes; below 0 makes it odder.

        `base` and the contributions add up to the mean path length of the row (Saabas, "Interpreting random forests",
        2014: each split gets the change of the expected length).
        """
        values = np.array(row, np.float32).tolist()
        total = [0.0] * self.features
        for root in self._roots:
            node = root
            while node:
                feature, threshold, missing_left, left, left_change, right, right_change = node
                value = values[feature]
                if value <= threshold or (missing_left and value != value):
                    total[feature] += left_change
                    node = left
                else:
                    total[feature] += right_change
                    node = right
        size = len(self._roots)
        return [change / size for change in total]

    def oddness(self, length: float) -> float:
        """The oddness of a mean path length."""
        return float(2.0 ** (-length * len(self._roots) / self._normal))


_Walk = tuple[Any, ...]
"""(feature, threshold, missing goes left, left, change of the expected length there, right, change); () is a leaf."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node as read: the path length expected of the training rows that reached it, and how many those were.

    At a leaf `feature` is -1 and the children are the node's own number.
    """

    feature: int
    threshold: float
    missing_left: bool
    left: int
    right: int
    rows: float
    length: float


def _trees(node: Any, features: int) -> list[dict[int, Node]]:
    """The trees of the operator, node by number; children have larger numbers than their parent, so none leads back."""
    found = {each.name: each for each in node.attribute}
    columns = [_column(found, name) for name in _NODES]
    targets = [_column(found, name) for name in _TARGETS]
    if len({len(column) for column in columns}) != 1 or len({len(column) for column in targets}) != 1:
        raise ValueError("the columns of the trees differ in length")
    ends: dict[int, dict[int, float]] = {}
    for tree, number, _, length in zip(*targets, strict=True):
        ends.setdefault(tree, {})[number] = length
    rows: dict[int, dict[int, tuple[Any, ...]]] = {}
    for tree, number, *rest in zip(*columns, strict=True):
        rows.setdefault(tree, {})[number] = tuple(rest)
    if not rows:
        raise ValueError("the forest has no trees")
    return [_tree(rows[tree], ends.get(tree, {}), features) for tree in sorted(rows)]


def _tree(rows: dict[int, tuple[Any, ...]], ends: dict[int, float], features: int) -> dict[int, Node]:
    made: dict[int, Node] = {}
    for number in sorted(rows, reverse=True):
        feature, mode, threshold, left, right, missing_left, came = rows[number]
        if mode == _LEAF:
            if number not in ends:
                raise ValueError("a leaf has no path length")
            made[number] = Node(-1, 0.0, False, number, number, came, ends[number])
            continue
        on = all(number < child < len(rows) for child in (left, right))
        if mode != _BRANCH or not 0 <= feature < features or not on or not came > 0:
            raise ValueError("a node of a tree leads nowhere")
        below = made[left], made[right]
        length = sum(each.rows * each.length for each in below) / sum(each.rows for each in below)
        made[number] = Node(feature, threshold, bool(missing_left), left, right, came, length)
    if 0 not in made:
        raise ValueError("a tree has no root")
    return made


def _walk(tree: dict[int, Node]) -> _Walk:
    made: dict[int, _Walk] = {}
    for number in sorted(tree, reverse=True):
        node = tree[number]
        if node.feature < 0:
            made[number] = ()
            continue
        left, right = (tree[child].length - node.length for child in (node.left, node.right))
        made[number] = (node.feature, node.threshold, node.missing_left, made[node.left], left, made[node.right], right)
    return made[0]


def _column(found: dict[str, Any], name: str) -> list[Any]:
    if name not in found:
        raise ValueError(f"the trees lack {name}")
    value = onnx.helper.get_attribute_value(found[name])
    return [each.decode() for each in value] if name == "nodes_modes" else list(value)
