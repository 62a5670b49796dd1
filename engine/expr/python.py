"""Typed tree → Python for one event.

The generated source holds only our own words and the names of slots (v1, k2): every path, text and number that a
user wrote is bound in the namespace, never printed into the source. Each distinct part is computed once, in order,
as one assignment; unknown is None.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.expr.nodes import And, Call, Env, Expression, Feature, Field, Literal, Node, Not, Now, Or, Window

Evaluate = Callable[[dict[str, Any], Sequence[Any], Env], Any]


def value_of(expression: Expression, windows: Sequence[Window] = ()) -> Evaluate:
    """The expression as a function of (event values, window values, env). None is unknown.

    The window values stand in the order of `windows`, which must hold every window of the expression.
    """
    writer = Writer(windows)
    result = writer.value(expression.tree)
    return writer.function(f"return {result}")


def reach(event: Mapping[str, Any], parts: Sequence[str]) -> list[Any] | None:
    """The list at a path, which may lead through a list of objects; elements may be None. None when it is missing."""
    found: Any = event
    for position, part in enumerate(parts):
        if isinstance(found, list):
            rest = parts[position:]
            return [value for item in found for value in _elements(item, rest)]
        found = found.get(part)
        if found is None:
            return None
    return found if isinstance(found, list) else [found]


def _elements(item: Any, parts: Sequence[str]) -> list[Any]:
    found = None if item is None else reach(item, parts)
    return [None] if found is None else found


class Writer:
    """Writes assignments for nodes; asking twice for one part gives the same variable."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self.lines: list[str] = []
        self.space: dict[str, Any] = {
            "__builtins__": {"len": len},
            "EMPTY": {},
            "reach": reach,
            "low": bisect_left,
            "high": bisect_right,
        }
        self._known: dict[str, str] = {}
        self._parents: dict[str, str] = {"": "e"}
        self._slots = {window: position for position, window in enumerate(windows)}
        self._count = 0

    def bind(self, value: Any) -> str:
        """A name in the namespace for a value."""
        self._count += 1
        name = f"k{self._count}"
        self.space[name] = value
        return name

    def keep(self, code: str) -> str:
        """A variable that holds what `code` gives."""
        self._count += 1
        name = f"v{self._count}"
        self.lines.append(f"{name} = {code}")
        return name

    def value(self, node: Node) -> str:
        """The variable or bound name that holds the node's value."""
        known = self._known.get(node.key)
        if known is None:
            known = self._known[node.key] = self._write(node)
        return known

    def function(self, *last: str) -> Evaluate:
        """The function of everything written so far, ending in the lines `last`."""
        body = "\n    ".join([*self.lines, *last])
        # The source is made of our own templates and counted names only; see the module's docstring.
        exec(compile(f"def evaluate(e, f, env):\n    {body}\n", "<condition>", "exec"), self.space)  # noqa: S102
        made: Evaluate = self.space.pop("evaluate")
        return made

    def _write(self, node: Node) -> str:
        match node:
            case Literal():
                return self.bind(node.value)
            case Field():
                return self._field(node)
            case Now():
                return self.keep("env.received_at")
            case Feature():
                return self.keep(f"f[{self._slots[node.window]}]")
            case Not():
                item = self.value(node.item)
                return self.keep(f"None if {item} is None else not {item}")
            case And() | Or():
                return self._logic(node)
            case Call():
                return self._call(node)
        raise AssertionError(f"no Python for {type(node).__name__}")

    def _field(self, node: Field) -> str:
        if node.type.element:
            return self.keep(f"reach(e, {self.bind(tuple(node.path.split('.')))})")
        parent, _, key = node.path.rpartition(".")
        return self.keep(f"{self._parent(parent)}.get({self.bind(key)})")

    def _parent(self, path: str) -> str:
        known = self._parents.get(path)
        if known is None:
            above, _, key = path.rpartition(".")
            known = self.keep(f"{self._parent(above)}.get({self.bind(key)}) or EMPTY")
            self._parents[path] = known
        return known

    def _logic(self, node: And | Or) -> str:
        items = [self.value(item) for item in node.items]
        decides, otherwise = ("False", "True") if isinstance(node, And) else ("True", "False")
        decided = " or ".join(f"{item} is {decides}" for item in items)
        unknown = " or ".join(f"{item} is None" for item in items)
        return self.keep(f"{decides} if {decided} else None if {unknown} else {otherwise}")

    def _call(self, node: Call) -> str:
        row, args = node.row, [self.value(arg) for arg in node.args]
        code = row.code.format(*args) if row.code else self._plain_call(node, args)
        doubtful = [
            arg for arg, child in zip(args, node.args, strict=True) if row.strict and not isinstance(child, Literal)
        ]
        if not doubtful:
            return self.keep(code)
        return self.keep(f"None if {' or '.join(f'{arg} is None' for arg in dict.fromkeys(doubtful))} else {code}")

    def _plain_call(self, node: Call, args: list[str]) -> str:
        given = ["env", *args] if node.row.sees_env else args
        return f"{self.bind(node.row.python)}({', '.join(given)})"
