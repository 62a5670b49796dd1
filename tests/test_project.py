"""The checkout itself: what must be true of its files whatever the code does."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BINARY = {".parquet", ".png", ".gz", ".ico", ".woff2"}


def tracked() -> list[Path]:
    """Files that git knows or would take, so that a new file is held to the same before its commit."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files belong to the project is not known", allow_module_level=True)
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in sorted(set(listed.stdout.split("\0"))) if name and (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    return "" if path.suffix in BINARY else path.read_text("utf-8", "replace")


# Written in pieces, so that this file does not find itself.
FORBIDDEN = {
    "a registry host": ["py" + "pi.org", "python" + "hosted", "npm" + "js.", "crates" + ".io", "proxy.golang" + ".org"],
    "a machine path": ["/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "/opt/" + "pypi", "/opt/" + "wheels"],
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(what: str) -> None:
    """A file here must mean the same on every machine and leak no one's infrastructure."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word}"
        for path in tracked()
        for number, line in enumerate(text_of(path).splitlines(), 1)
        for word in FORBIDDEN[what]
        if word in line
    ]
    assert not found


@pytest.mark.parametrize("folder", ["rules", "policies"])
def test_packs_are_data(folder: str) -> None:
    """No code under rules/ and policies/: YAML, lists as text, pages for people."""
    strange = [
        path for path in tracked() if path.is_relative_to(ROOT / folder) and path.suffix not in {".yaml", ".md", ".txt"}
    ]
    assert not strange


def declared() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    run, extras = project["project"]["dependencies"], project["project"]["optional-dependencies"]
    groups = {"run": run, **extras, **project["dependency-groups"]}
    return {group: [re.split(r"[\[<>=~! ]", name)[0] for name in names] for group, names in groups.items()}


def documented() -> list[str]:
    page = (ROOT / "docs/dependencies.md").read_text("utf-8")
    names = re.findall(r"^\| ([\w.-]+) \|", page, re.MULTILINE)
    return [name for name in names if name != "package"]


def test_every_dependency_is_documented_and_nothing_else() -> None:
    assert sorted(documented()) == sorted(name for names in declared().values() for name in names)


def test_run_time_licences_are_free_of_copyleft_on_us() -> None:
    page = (ROOT / "docs/dependencies.md").read_text("utf-8")
    run_time = page.split("## At run time")[1].split("\n## ")[0]
    assert not re.search(r"\b[AL]?GPL|BSL|BUSL|SSPL", run_time)


@pytest.mark.parametrize(
    ("lock", "groups"),
    [
        ("run", ["run"]),
        ("aws", ["run", "aws"]),
        ("spark", ["run", "spark"]),
        ("dev", ["run", "aws", "dev"]),
        ("bench", ["bench"]),
        ("build", ["build"]),
    ],
)
def test_lock_holds_what_is_declared_with_hashes(lock: str, groups: list[str]) -> None:
    text = (ROOT / f"requirements/{lock}.txt").read_text("utf-8")
    entries = re.split(r"\n(?=\S)", text)
    pinned = {re.split(r"==", entry)[0].lower().replace(".", "-"): entry for entry in entries if "==" in entry}
    wanted = {name.lower().replace(".", "-") for group in groups for name in declared()[group]}
    assert wanted <= pinned.keys()
    assert all("--hash=sha256:" in entry for entry in pinned.values())


def test_dev_lock_agrees_with_run_lock() -> None:
    """What is tested is what runs: the same versions in both."""
    pins = {
        name: set(re.findall(r"^([\w.-]+==\S+)", (ROOT / f"requirements/{name}.txt").read_text("utf-8"), re.MULTILINE))
        for name in ("run", "dev")
    }
    assert pins["run"] <= pins["dev"]


LINK = re.compile(r"\[[^\]\n]+\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", [p for p in tracked() if p.suffix == ".md"], ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_resolve(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    broken = []
    for link in LINK.findall(prose):
        name, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", name):
            continue
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def anchors(page: Path) -> set[str]:
    """The anchors that a Markdown page's headings give, as the usual hosts make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_set_up_and_readme_say_the_same_about_the_compiler() -> None:
    sentence = re.search(r"durable-rules needs a C compiler[^\"\n]*", (ROOT / ".ci/setup").read_text("utf-8"))
    assert sentence
    assert sentence.group() in (ROOT / "README.md").read_text("utf-8")


def run_set_up(tmp_path: Path, **env: str) -> str:
    """What set-up says in a copy of the checkout that it must refuse."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/setup").write_text((ROOT / ".ci/setup").read_text("utf-8"), "utf-8")
    ended = subprocess.run(["sh", ".ci/setup"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert not (tmp_path / ".venv").exists()
    return ended.stderr


def test_set_up_refuses_an_unsuitable_python_plainly(tmp_path: Path) -> None:
    assert "Python 3.11 or 3.12" in run_set_up(tmp_path, PATH="/usr/bin:/bin", PYTHON="false")


def test_set_up_says_that_a_compiler_is_missing(tmp_path: Path) -> None:
    said = run_set_up(tmp_path, PATH="/usr/bin:/bin", PYTHON=sys.executable, CC="no-such-compiler")
    assert said.startswith("durable-rules needs a C compiler")


def test_the_wheel_carries_the_packs_inside_engine(tmp_path: Path) -> None:
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is in requirements/build.txt")
    (wheel,) = builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"engine/_packs/rules/payments/card-testing.yaml", "engine/_packs/policies/checkout.yaml"} <= names
    assert {name.split("/")[0] for name in names} <= {"engine", "api", "cli", f"arbiter-{version()}.dist-info"}


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])
