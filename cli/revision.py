"""The folders of rules and policies as they were at a revision of git."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from engine.errors import RequestRefused


@contextmanager
def at_revision(revision: str, rules: Path, policies: Path) -> Iterator[tuple[Path, Path]]:
    """Both folders at a commit, branch or tag of the checkout that they are in, laid into a temporary place.

    Raises RequestRefused when they are in no checkout, or the revision is none of it or does not have them.
    """
    if revision.startswith("-"):
        raise RequestRefused(f"'{revision}' is no revision of git")
    with TemporaryDirectory(prefix="arbiter-revision-") as folder:
        yield _laid(revision, rules, Path(folder, "1")), _laid(revision, policies, Path(folder, "2"))


def _laid(revision: str, source: Path, to: Path) -> Path:
    """One folder at a revision, by its own name."""
    source = source.resolve()
    commit = _git(source, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").decode().strip()
    if not commit:
        raise RequestRefused(f"the checkout of {source} has no revision '{revision}'; git log shows what there is")
    root = Path(_git(source, "rev-parse", "--show-toplevel").decode().strip())
    inside = source.relative_to(root.resolve()).as_posix()
    body = _git(root, "archive", "--format=tar", commit, "--", inside)
    if not body:
        raise RequestRefused(f"there is no {inside} at revision '{revision}'")
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        archive.extractall(to, filter="data")
    return to / inside


def _git(folder: Path, *args: str) -> bytes:
    """What git says; nothing where it says no. RequestRefused where there is no git, or no checkout."""
    try:
        # The arguments are ours but for the revision, which cannot be an option.
        found = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, check=False)  # noqa: S603, S607
    except FileNotFoundError:
        raise RequestRefused("--rulebook needs git, which is not on the path") from None
    if b"not a git repository" in found.stderr:
        raise RequestRefused(f"{folder} is in no checkout of git, so that it has no revisions")
    return found.stdout if found.returncode == 0 else b""
