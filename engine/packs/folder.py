"""The files of a pack folder: which ones there are, how they are called, and their bytes as text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from engine.errors import PackError, Problem
from engine.packs.text import Source

MAX_BYTES = 1 << 20
MAX_FILES = 2_000
SUFFIXES = (".yaml", ".yml")
SUITE_ENDING = "_test"
_SUITE = re.compile(rb"""^(?:\xef\xbb\xbf)?["']?suite["']?\s*:""", re.MULTILINE)

# Control characters, and characters that nobody sees: with them a rule can read differently from what it does.
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff]"
)
_SHOWN_AT_MOST = 20
_OTHER_ENCODINGS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


def refusal(file: str, what: str, hint: str = "") -> PackError:
    """A problem of a file as a whole."""
    return PackError([Problem(file, 1, 1, what, hint)])


def shown_name(path: Path, root: Path) -> str:
    """The file as a person would type it: below the folder that holds `root`."""
    base = root.parent if root.name else root
    for name, start in ((path, base), (path.absolute(), base.absolute()), (path.resolve(), base.resolve())):
        if name.is_relative_to(start):
            return name.relative_to(start).as_posix()
    return path.as_posix()


def yaml_files(root: Path, problems: list[Problem]) -> tuple[Path, ...]:
    """The YAML files below `root` by name, without hidden ones; what cannot be walked goes to `problems`.

    A linked folder is walked where it stays inside `root` (Kubernetes mounts packs so), and only once.
    """
    if not root.is_dir():
        hint = "give a folder of YAML files, such as rules"
        raise refusal(root.as_posix(), "there is no such folder", hint)
    found = list(islice(_walk(root, root, {root.resolve()}, problems), MAX_FILES + 1))
    if len(found) > MAX_FILES:
        raise refusal(shown_name(root, root), f"more than {MAX_FILES:,} YAML files", "merge small files")
    return tuple(sorted(found, key=lambda path: path.as_posix()))


def is_suite(path: Path) -> bool:
    """Whether a file is a suite of tests: named NAME_test.yaml, with `suite:` at the beginning of a line.

    Suites lie beside the packs and are no part of the rulebook: a test that changes does not change what was approved.
    """
    if not path.stem.endswith(SUITE_ENDING) or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return _SUITE.search(file.read(MAX_BYTES)) is not None
    except OSError:
        return False  # whoever reads it as a pack says what is wrong with it


def _walk(folder: Path, root: Path, seen: set[Path], problems: list[Problem]) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        problems.extend(refusal(shown_name(folder, root), f"the folder cannot be read: {error.strerror}").problems)
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            fault = _fault_of_folder(entry, root, seen)
            if fault:
                problems.extend(refusal(shown_name(entry, root), *fault).problems)
            else:
                seen.add(entry.resolve())
                yield from _walk(entry, root, seen, problems)
        elif entry.suffix.lower() in SUFFIXES:
            yield entry


def _fault_of_folder(folder: Path, root: Path, seen: set[Path]) -> tuple[str, str] | None:
    if not inside(folder, root):
        return "the linked folder lies outside the pack folder", f"copy it into {root.name or root}"
    if folder.resolve() in seen:
        return "the linked folder is already read under another name", "delete the link"
    return None


def inside(path: Path, root: Path) -> bool:
    """Whether `path`, links followed, lies in `root`."""
    return path.resolve().is_relative_to(root.resolve())


def contents(path: Path, *, root: Path, name: str, most: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file of at most `most` bytes inside `root`. Raises PackError."""
    if not inside(path, root):
        raise refusal(name, "the link leads out of the pack folder", "copy the file into it")
    try:
        # A pipe or a device named x.yaml would block the reader or never end.
        if path.exists() and not path.is_file():
            raise refusal(name, "this is not a regular file")
        with path.open("rb") as file:
            body = file.read(most + 1)
    except OSError as error:
        raise refusal(name, f"the file cannot be read: {error.strerror or error}") from None
    if len(body) > most:
        raise refusal(name, f"larger than {most:,} bytes", "split the file, or keep long lists in a text file")
    return body


def decoded(body: bytes, name: str) -> str:
    """The text of a UTF-8 file without its byte order mark. Raises PackError with the places of bad characters."""
    try:
        content = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PackError([_not_utf8(body.removeprefix(b"\xef\xbb\xbf"), name, error.object[error.start])]) from None
    source = Source(name, content)
    found = [
        source.problem(bad.start(), bad.end(), *_forbidden(bad[0]))
        for bad in islice(FORBIDDEN.finditer(content), _SHOWN_AT_MOST)
    ]
    if found:
        raise PackError(found)
    return content


def _forbidden(character: str) -> tuple[str, str]:
    code = ord(character)
    if code == 0:
        return "a NUL character", "is this a text file? save it as UTF-8"
    kind = "a control character" if code < 0xA0 else "an invisible character"
    return f"{kind}, U+{code:04X}", f"delete it; where it is meant, write {escaped(character)} in double quotes"


def escaped(character: str) -> str:
    """A character as YAML has it in double quotes by its number."""
    code = ord(character)
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}"


def _not_utf8(body: bytes, name: str, byte: int) -> Problem:
    readable = body.decode("utf-8", "surrogateescape")
    index = next(at for at, character in enumerate(readable) if "\udc80" <= character <= "\udcff")
    line, column = Source(name, readable[: index + 1]).line_column(index)
    return Problem(name, line, column, f"byte 0x{byte:02X} is not UTF-8 text", f"save the file as UTF-8{_guess(body)}")


def _guess(body: bytes) -> str:
    for mark, encoding in _OTHER_ENCODINGS:
        if body.startswith(mark):
            return f"; it looks like {encoding}"
    try:
        body.decode("gb18030")
    except UnicodeDecodeError:
        return ""
    return "; it looks like GBK"
