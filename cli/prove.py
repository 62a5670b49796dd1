"""`prove`: what policies promise of every event, shown or broken."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from cli.group import counted
from cli.language import language_option, listed, padded, said, say, term
from cli.packs import parts
from cli.settings import pack_options, settings
from engine.packs import read_all
from engine.reasoning.prove import Proof
from engine.reasoning.prove import prove as proofs_of
from engine.rulebook import load

REFUTED, UNDECIDED = 1, 3
"""Exit codes: an invariant is broken; or none is, but of one it could not be told."""


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
@pack_options
@language_option
def prove(paths: tuple[Path, ...], as_json: bool, rules: Path | None, policies: Path | None) -> None:
    """Prove the invariants of policies for every event and every combination of findings, or print what breaks them.

    What breaks an invariant is printed as a case to put under its tests, where it fails until the policy is mended; the
    rules and the policy themselves were asked before it is shown. What cannot be decided is said. Without PATH it looks
    at every policy in ARBITER_POLICIES. Exit code 1 when an invariant is broken, 3 when none is but one is undecided.

    \b
    Examples:
      arbiter prove
      arbiter prove policies/checkout.yaml
      arbiter prove --json | jq '.invariants[] | select(.status != "proven")'
    """
    found = []
    for proof, file in _proofs(paths, rules, policies):
        found.append((proof, file))
        if not as_json:
            _tell(proof, file)
    if as_json:
        click.echo(json.dumps({"invariants": [_as_data(*each) for each in found]}, ensure_ascii=False, indent=2))
    else:
        click.echo(listed(_summary([proof for proof, _ in found])))
    statuses = {proof.status for proof, _ in found}
    raise SystemExit(REFUTED if "refuted" in statuses else UNDECIDED if "undecided" in statuses else 0)


def _proofs(paths: Sequence[Path], rules: Path | None, policies: Path | None) -> Iterator[tuple[Proof, str]]:
    """What came of each invariant, and the name of its file. Raises PackError."""
    given = settings(rules, policies)
    with parts(given.rules, given.policies, list(paths), everything=not paths) as looked_at:
        for part in looked_at:
            rulebook = load(part.rules, part.policies)
            documents = [each for each in read_all(part.policies) if part.shown(each.file) is not None]
            names = [each.data["policy"] for each in documents if "policy" in each.data]
            for proof in proofs_of(rulebook, names):
                yield proof, part.shown(proof.promise.document.file) or ""


def _tell(proof: Proof, file: str) -> None:
    place = proof.promise.document.problem((*proof.promise.loc, "id"), "")
    why = f" ({said(proof.why)})" if proof.why else ""
    click.echo(f"{padded(term(proof.status), 10)}{proof.policy}: {proof.id}{why}")
    if proof.status != "proven":
        click.echo(f"    {file}:{place.line}:{place.column}: {proof.promise.text}")
    if proof.case:
        say("    it is broken by this case, to be put under its tests:")
        click.echo(f"      {proof.case}")


def _summary(proofs: Sequence[Proof]) -> Iterator[str]:
    yield counted(len(proofs), "invariant")
    for status in ("proven", "refuted", "undecided"):
        yield f"{sum(proof.status == status for proof in proofs)} {status}"


def _as_data(proof: Proof, file: str) -> dict[str, Any]:
    place = proof.promise.document.problem((*proof.promise.loc, "id"), "")
    return {
        "id": proof.id,
        "status": proof.status,
        "policy": proof.policy,
        "invariant": proof.promise.text,
        "why": proof.why,
        "case": proof.case,
        "file": file,
        "line": place.line,
        "column": place.column,
    }
