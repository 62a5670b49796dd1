"""Rulebooks as bytes: every file of one, so that a decision can be understood and replayed long after."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import orjson

from engine.rulebook import Rulebook, load


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Path → contents as one compressed value; the same files give the same bytes."""
    text = {path: content.decode() for path, content in files.items()}
    return zlib.compress(orjson.dumps(text, option=orjson.OPT_SORT_KEYS))


def unpack_files(packed: bytes) -> dict[str, bytes]:
    """What `pack_files` packed."""
    return {path: text.encode() for path, text in orjson.loads(zlib.decompress(packed)).items()}


def unpacked(packed: bytes) -> Rulebook:
    """The rulebook of packed files. Raises PackError when this version cannot read it any more."""
    with TemporaryDirectory(prefix="arbiter-rulebook-") as folder:
        for path, content in unpack_files(packed).items():
            assert ".." not in PurePosixPath(path).parts, "an archived path leaves its folder"
            file = Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        for name in ("rules", "policies"):
            Path(folder, name).mkdir(exist_ok=True)
        return load(Path(folder, "rules"), Path(folder, "policies"))
