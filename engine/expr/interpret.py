"""The slow walker: one node at a time, straight from the rows. For explanations, and to hold the fast ways against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.expr.nodes import And, Call, Env, Expression, Feature, Field, Literal, Node, Not, Now, Or, Window
from engine.expr.python import reach


def interpret(expression: Expression, event: dict[str, Any], feature_by_window: Mapping[Window, Any], env: Env) -> Any:
    """The value of an expression at an event; None is unknown. A window that is not in the mapping is unknown."""
    return _value(expression.tree, event, feature_by_window, env)


def _value(node: Node, event: dict[str, Any], features: Mapping[Window, Any], env: Env) -> Any:
    match node:
        case Literal():
            return node.value
        case Field():
            return _field(node, event)
        case Now():
            return env.received_at
        case Feature():
            return features.get(node.window)
        case Not():
            item = _value(node.item, event, features, env)
            return None if item is None else not item
        case And() | Or():
            return _logic(node, [_value(item, event, features, env) for item in node.items])
        case Call():
            return _call(node, [_value(arg, event, features, env) for arg in node.args], env)
    raise AssertionError(f"no meaning for {type(node).__name__}")


def _field(node: Field, event: dict[str, Any]) -> Any:
    parts = node.path.split(".")
    if node.type.element:
        return reach(event, parts)
    found: Any = event
    for part in parts:
        found = found.get(part)
        if found is None:
            return None
    return found


def _logic(node: And | Or, items: list[bool | None]) -> bool | None:
    decides = isinstance(node, Or)
    if decides in items:
        return decides
    return None if None in items else not decides


def _call(node: Call, args: list[Any], env: Env) -> Any:
    if node.row.strict and any(arg is None for arg in args):
        return None
    return node.row.python(env, *args) if node.row.sees_env else node.row.python(*args)
