"""A running server, asked with the API key of a person or a program."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
import httpx

from cli.language import label, said
from engine.errors import RequestRefused, SettingsError

F = TypeVar("F", bound=Callable[..., Any])

SERVER, KEY_FILE = "ARBITER_SERVER", "ARBITER_SERVER_KEY_FILE"
_KEY = re.compile(r"[A-Za-z0-9_.-]{8,200}")
SECONDS = 600.0
"""To wait for an answer: a rulebook with new windows comes into force once their history is read."""


def server_options(command: F) -> F:
    """Adds --server and --key-file."""
    server = click.option(
        "--server", envvar=SERVER, default="http://127.0.0.1:8000", show_default=True, metavar="URL",
        help=f"The server, or {SERVER}.",
    )  # fmt: skip
    key_file = click.option(
        "--key-file", envvar=KEY_FILE, type=click.Path(dir_okay=False, path_type=Path),
        help=f"A file with your API key, or {KEY_FILE}.",
    )  # fmt: skip
    return server(key_file(command))


class Remote:
    """The API of one server. What it refuses is raised as RequestRefused, in its own words."""

    def __init__(self, server: str, key_file: Path | None) -> None:
        """SettingsError for an address to which a key must not be sent, or without a key."""
        if key_file is None:
            raise SettingsError(f"whose key? Give --key-file, or set {KEY_FILE}")
        url = urlsplit(server)
        if url.scheme != "https" and not (url.scheme == "http" and _local(url.hostname or "")):
            raise SettingsError(f"{server}: give an https:// address; a key goes in clear to this machine alone")
        key = key_file.read_text("utf-8", errors="replace").strip()
        if not _KEY.fullmatch(key):
            raise SettingsError(f"{key_file} does not hold one API key and nothing else")
        # A proxy of the environment must not see a key that is in clear.
        self._trust_env = url.scheme == "https"
        self._headers = {"authorization": f"Bearer {key}"}
        self._server = server.rstrip("/")

    def get(self, path: str) -> Any:
        """What stands there."""
        return self._answer("GET", path)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to a body."""
        return self._answer("POST", path, json=body)

    def send(self, path: str, body: bytes) -> Any:
        """The answer to bytes, such as an image."""
        return self._answer("POST", path, content=body, media_type="application/octet-stream")

    def delete(self, path: str) -> Any:
        """The answer to a request to end something."""
        return self._answer("DELETE", path)

    def _answer(self, method: str, path: str, media_type: str = "", **more: Any) -> Any:
        headers = {**self._headers, "content-type": media_type} if media_type else self._headers
        try:
            limits = httpx.Timeout(SECONDS, connect=10)
            response = httpx.request(
                method, self._server + path, headers=headers, timeout=limits, trust_env=self._trust_env, **more
            )
        except httpx.HTTPError as error:
            raise RequestRefused(f"{self._server} does not answer: {error or type(error).__name__}") from None
        if not response.is_success:
            raise RequestRefused(_refusal(response))
        try:
            return response.json()
        except ValueError:
            raise RequestRefused(f"{self._server} does not answer as Arbiter does") from None


def _local(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _refusal(response: httpx.Response) -> str:
    """What an RFC 9457 problem says, a line for each of its errors."""
    try:
        problem = response.json()
        lines = [said(problem.get("detail") or problem["title"])]
        lines += [_error(each) for each in problem.get("errors", ())]
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"the server answered {response.status_code}, and not as Arbiter does"
    return "\n".join(lines)


def _error(error: dict[str, Any]) -> str:
    place = error["path"] if "path" in error else f"{error['file']}:{error['line']}:{error['column']}"
    hint = f"\n    {label('hint')}{said(error['hint'])}" if error.get("hint") else ""
    return f"  {place}: {said(error['what'])}{hint}"
