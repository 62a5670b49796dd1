"""The process that decodes images: `python -m engine.images.child [DETECTOR]`, started by `engine.images.reader`.

Decoders of images are written in C, and what they read comes from strangers. Here they have a process of their own,
with little memory and no files to write; who started it kills it when it takes too long, and starts another.

On standard input comes a length (four bytes, big-endian) and so many bytes; on standard output goes a length and JSON.
It ends with its input.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from engine.errors import ModelUnavailable
from engine.images.reading import Detect, look

HEAD = 4
MEMORY = 4 << 30
"""Bytes of address space, more than which is refused: a decoded image takes at most some hundred MiB."""


def main(arguments: list[str]) -> None:
    """Answer until the input ends."""
    given, answers = sys.stdin.buffer, sys.stdout.buffer
    # A library that prints must not get between the answers.
    sys.stdout = sys.stderr
    name, detect, problem = _detector(arguments)
    _confine()
    while head := given.read(HEAD):
        body = given.read(int.from_bytes(head))
        _send(answers, _answer(body, name, detect, problem))


def _confine() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(body: bytes, name: str, detect: Detect | None, problem: str) -> dict[str, Any]:
    seen = look(body, name, detect)
    return {"seen": seen.json(), "hashes": seen.hashes.hex(), "problem": problem}


def _detector(arguments: list[str]) -> tuple[str, Detect | None, str]:
    """The name of the detector and how it looks; without one, and where it cannot be used, nobody looks."""
    if not arguments:
        return "", None, ""
    from engine.images.detector import read_detector

    try:
        found = read_detector(Path(arguments[0]))
    except ModelUnavailable as error:
        return "", None, str(error)
    return found.name, found.detect, ""


def _send(stream: BinaryIO, answer: dict[str, Any]) -> None:
    body = orjson.dumps(answer)
    stream.write(len(body).to_bytes(HEAD) + body)
    stream.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
