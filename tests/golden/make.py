"""Makes a small export with an entry of every sort: `python -m tests.golden.make tests/golden/format-2`.

Run once for each format of the record, by the code that writes it first; what it made is kept for ever as it is
(tests/test_golden.py). The keys are thrown away: nobody can add to it.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import chdir
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
from click.testing import CliRunner

from cli import main
from engine.arbiter import Caller
from engine.assembly import Settings
from engine.callers import By
from engine.journal import Journal
from engine.ledger import Ledger
from engine.notes import verifier
from engine.vault import KeyFile
from tests import books, models

CHIEF = Caller("chief", "person", "shop-a", frozenset({"rules", "outcome", "admin"}))
FILES = {
    **books.SMALL,
    "policies/till.yaml": books.POLICY
    + "degraded: {deadline: {at_least: review, if: amount < 100 CNY, then: approve}}\n"
    + "actions: [{when: [strange_amount], do: hold_parcel, for: 2h, basis: house-policy}]\n",
    "rules/shadow.yaml": books.RULES.replace("small.", "shadowed.").replace("    basis", "    mode: shadow\n    basis"),
    "policies/exceptions/lab.yaml": (
        "exceptions:\n  - {id: lab, rule: small.burst, subject: {device.id: d-0001}, owner: a, reason: ours,"
        " from: 2026-11-01, expires: 2027-01-15, approved_by: b}\n"
    ),
}


async def decide_all() -> None:
    """A ledger in the working directory with records of every type."""
    folder = Path()
    made = books.book(folder, {**FILES, "policies/anomaly.yaml": models.DETECTOR})
    pins = [models.trained(made, folder / "models", seed=seed) for seed in (1, 2)]
    books.write(folder, {"policies/anomaly.yaml": f"{models.DETECTOR}model: {pins[0]}\nchallengers: [{pins[1]}]\n"})
    keys = KeyFile.create(folder / "keys.json", "golden.invalid/ledger")
    settings = Settings(
        "sqlite:///a.db",
        key_file=folder / "keys.json",
        rules=folder / "rules",
        policies=folder / "policies",
        model_dir=folder / "models",
    )
    async with books.running(settings, books.Clock()) as arbiter:
        seen = {"card": {"ref": "c"}, "device": {"id": "d-0001"}, "buyer": {"account": "u", "name": "张三"}}
        for number in range(3):
            review = await books.judged(arbiter, books.payment(f"e{number}", 61 if number == 2 else 5, **seen))
        challenge = await books.judged(arbiter, books.payment("late", 41, at="2026-11-23T11:00:00Z"))
        await books.judged(arbiter, books.payment("network", 7, ip="192.0.2.7"))
        await books.judged(arbiter, books.payment("odd", 99_999, card={"ref": "d"}, merchant={"id": "m-1"}))
        await arbiter.decide(books.payment("deadline", 9), books.SHOP, deadline_ms=-1)
        approved = b'{"what": "review", "result": "approved", "reason": "known to us"}'
        await arbiter.resolve(review["id"], approved, books.LI)
        await arbiter.resolve(challenge["id"], b'{"what": "challenge", "result": "passed"}', books.SHOP)
        await arbiter.resolve(challenge["id"], b'{"what": "enforced", "result": "captured"}', books.SHOP)
        at = "2026-11-23T12:00:00Z"
        outcome = {"outcome": {"refers_to": "e2", "result": "chargeback"}}
        login = {"account": {"action": "login"}, "buyer": {"account": "u"}}
        for kind, body in (("outcome", outcome), ("account", login)):
            await arbiter.observe(orjson.dumps({"kind": kind, "event_id": kind, "at": at, **body}), books.SHOP)
        await arbiter.set_merchant_tier("m-1", b'{"tier": "watched", "reason": "disputes"}', books.LI)
        await arbiter.add_list_entry("bad-bins", b'{"value": "622848", "reason": "stolen"}', books.LI)
        await books.judged(
            arbiter, books.payment("listed", 8, card={"ref": "e", "bin": "622848"}, merchant={"id": "m-1"})
        )
        rules = folder / "rules/small.yaml"
        rules.write_text(rules.read_text("utf-8").replace("amount >= 85 CNY", "amount >= 80 CNY"), "utf-8")
        await arbiter.reload(CHIEF)
        await books.judged(arbiter, books.payment("after", 82))
    ledger = await Ledger.open(settings.database_url, keys)
    try:
        await Journal(ledger, books.Clock()).access(
            "shop-a", "export", "{}", "audit", 18, By("auditor", "person", "auditor")
        )
    finally:
        await ledger.close()


def make(out: Path) -> None:
    """The export, in a new folder."""
    out = out.absolute()
    # No record may name a path or a user of the machine that made it.
    with TemporaryDirectory() as made, chdir(made):
        asyncio.run(decide_all())
        environ = {"ARBITER_DATABASE_URL": "sqlite:///a.db", "ARBITER_KEY_FILE": "keys.json", "LOGNAME": "auditor"}
        ended = CliRunner().invoke(main, ["audit", "export", "--out", str(out)], env=environ)
        assert ended.exit_code == 0, ended.output
        print("key:", verifier(KeyFile.read(Path("keys.json")).signer).text)
        print("checkpoint:", sha256((out / "checkpoint").read_bytes()).hexdigest())


if __name__ == "__main__":
    make(Path(sys.argv[1]))
