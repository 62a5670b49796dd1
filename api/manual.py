"""The page at /docs: the OpenAPI document as plain HTML. It has no script and loads nothing, from us or anyone else."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from html import escape
from typing import Any

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem 1.25rem 4rem}
h1{margin-bottom:0}h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}
section{border:1px solid var(--line);border-radius:.4rem;padding:.25rem 1rem 1rem;margin:1rem 0}
h3{font:600 1rem ui-monospace,monospace;overflow-wrap:anywhere}
pre{background:var(--soft);padding:.75rem;overflow:auto;border-radius:.3rem}
code,pre{font:.85rem/1.45 ui-monospace,monospace}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.2rem .75rem .2rem 0}
th{font-weight:600}tr{border-top:1px solid var(--line)}summary{cursor:pointer}
"""

CSP = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
)
"""Content-Security-Policy of the page: nothing but its own style."""


def page(document: Mapping[str, Any]) -> str:
    """The manual of the API that `document` (OpenAPI 3.1) describes."""
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} API</h1><p>{escape(info.get('summary', ''))} ",
        "The same as a machine reads it: <a href=/openapi.json>openapi.json</a>.</p>",
        "<p>Send your key as <code>Authorization: Bearer …</code>. Errors are RFC 9457 problems.</p>",
    ]
    for tag, operations in _by_tag(document).items():
        parts.append(f"<h2>{escape(tag)}</h2>")
        parts += [_operation(method, path, operation) for method, path, operation in operations]
    parts.append("<h2>shapes</h2>")
    parts += [_shape(name, schema) for name, schema in document["components"]["schemas"].items()]
    return "".join(parts)


def _by_tag(document: Mapping[str, Any]) -> dict[str, list[tuple[str, str, Mapping[str, Any]]]]:
    found: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            found.setdefault(operation.get("tags", ["other"])[0], []).append((method.upper(), path, operation))
    return found


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    text = "<br>".join(escape(part) for part in (operation.get("description") or "").split("\n\n") if part)
    scopes = operation.get("x-scopes")
    key = "" if scopes is None else f"<p>Scope: {' or '.join(map(_code, scopes)) or 'any key'}</p>"
    return (
        f"<section><h3>{method} {escape(path)}</h3><p>{text or escape(operation.get('summary', ''))}</p>{key}"
        f"{_parameters(operation)}{''.join(_body(operation))}{_responses(operation)}</section>"
    )


def _parameters(operation: Mapping[str, Any]) -> str:
    rows = [
        (_code(each["name"]), each["in"], _type(each["schema"]), escape(each.get("description", "")))
        for each in operation.get("parameters", ())
    ]
    return _table(("parameter", "in", "type", ""), rows)


def _body(operation: Mapping[str, Any]) -> Iterator[str]:
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body: {_code(media_type)} {_type(content['schema'])}</p>"
        examples = {name: each["value"] for name, each in content.get("examples", {}).items()}
        if "example" in content:
            examples["example"] = content["example"]
        for name, value in examples.items():
            text = escape(json.dumps(value, ensure_ascii=False, indent=2))
            yield f"<details><summary>{escape(name)}</summary><pre>{text}</pre></details>"


def _responses(operation: Mapping[str, Any]) -> str:
    rows = []
    for status, response in operation["responses"].items():
        shapes = [_type(content.get("schema", {})) for content in response.get("content", {}).values()]
        rows.append((_code(status), " ".join(shapes), escape(response.get("description", ""))))
    return _table(("status", "shape", ""), rows)


def _shape(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        (_code(field) + ("" if field in required else " ?"), _type(each), escape(each.get("description", "")))
        for field, each in schema.get("properties", {}).items()
    ]
    about, fields = escape(schema.get("description", "")), _table(("field", "type", ""), rows)
    return f"<section id={escape(name)}><h3>{escape(name)}</h3><p>{about}</p>{fields}</section>"


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(map(_type, schema[several]))
    if "enum" in schema:
        return " | ".join(_code(str(value)) for value in schema["enum"])
    if "const" in schema:
        return _code(str(schema["const"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(schema.get("format") or schema.get("type") or "anything")


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    body = "".join("<tr>" + "".join(f"<td>{cell}" for cell in row) for row in rows)
    return "<table><tr>" + "".join(f"<th>{cell}" for cell in head) + body + "</table>"
