"""The command line: `arbiter`, on top of the API and the engine.

packs    check: what people write; notices says what to look at though nothing is wrong
testing  test: the tests of rules and policies; mutating says what they would not notice
rules    rule new: a rule with its tests, from answers; draft is its YAML
fmt      YAML files in the one layout
schemas  schema: what the files may hold, for editors
prove    the invariants of policies, for every event
law      the articles that rules cite, in their versions
compliance  checklists and articles: what is done, what is due, what nobody looks after
experiment  questions about rules that are rolled out
figures  what decisions came to, beside their targets
alerts   the alert lines that are raised, and were
merchants  where merchants stand, why, and since when
lists    list import, list ask: many entries at once, and what a list has on a value
images   known images kept on a server, and detectors that look at images
models   train, model: anomaly models
backtest  a history judged as columns; report shows it, revision finds the rulebook of then
diff     two rulebooks over one history
tune     thresholds and points fitted to a history: tunable and features say of what, observing asks the engine,
         tuned and scorecard show, tunedraft writes
score    a table of events judged without a server; replay, history and tables do the work
serve    the API
proposing  propose, proposal, rollback: a rulebook on its way into force, and back; remote is the server they ask
mode     what is switched on for a while; asks the server by remote, too
playbook what is done when something is going on, and incidents on a server
ledger   explain, backup: what was decided
audit    audit export, audit verify: the log in a folder, and whether it holds
sampling  audit sample: decisions that nobody can choose
replaying  audit replay: decisions computed again
reconciling  audit reconcile: the shop's orders beside the verdicts; orders does the work
witness  cosigns checkpoints, elsewhere than the log
research audit research: an anonymised table
notice   notice, statements: what people are told of verdicts
counterfactual  what a verdict hung on
appeal   appeals against verdicts, from opening to lifting
subject  subject access: what is held about one person
disputing  dispute pack, dispute close: what a chargeback dispute needs, and the end of its copy
processing  records of processing against the law, and Arbiter's own
fairness  prices of the same goods, different buyers
erase    a person, taken out of the ledger
retention  run: what is past its term ends
language messages in English, or in Chinese that chinese finds in zh.yaml
keys     the key file and the keys of callers; pseudonym names a person as the ledger does
demo     samples judged, then the API

A user's mistake is a short message and exit code 1, a wrong option 2; a traceback is a mistake of ours.
"""

from __future__ import annotations

from cli.group import Commands

__all__ = ["main"]

main = Commands(
    name="arbiter",
    lazy={
        "check": ("cli.packs:check", "Check rules and policies, and run their tests."),
        "test": ("cli.testing:test", "Run the tests of rules and policies; find those that are missing."),
        "rule": ("cli.rules:rule", "Write a new rule with its tests."),
        "fmt": ("cli.fmt:fmt", "Write YAML files in the one layout."),
        "prove": ("cli.prove:prove", "Prove the invariants of policies, or show what breaks them."),
        "compliance": ("cli.compliance:compliance", "Checklists and articles of law: where you stand."),
        "law": ("cli.law:law", "The articles of law that rules cite, in their versions."),
        "schema": ("cli.schemas:schema", "The JSON Schema of the YAML files, for editors."),
        "experiment": ("cli.experiment:experiment", "Does a rule do what it is for? A pre-declared comparison."),
        "figures": ("cli.figures:figures", "What decisions came to, beside their targets."),
        "alerts": ("cli.alerts:alerts", "What is raised, and what was."),
        "merchants": ("cli.merchants:merchants", "In which tier merchants stand, and why; reviews that are due."),
        "list": ("cli.lists:lists", "Import many entries into a list; ask what it has on a value."),
        "score": ("cli.score:score", "Judge a table of events without a server."),
        "backtest": ("cli.backtest:backtest", "What a rulebook would have done with a history."),
        "diff": ("cli.diff:diff", "What another rulebook would have done otherwise."),
        "tune": ("cli.tune:tune", "The best threshold within a limit; points of a scorecard."),
        "train": ("cli.models:train", "Train an anomaly model."),
        "model": ("cli.models:model", "List, compare and promote anomaly models."),
        "images": ("cli.images:images", "Known images of listings, and detectors that look."),
        "serve": ("cli.serve:serve", "Serve the API."),
        "propose": ("cli.proposing:propose", "Propose a rulebook to a server that asks for approval."),
        "proposal": ("cli.proposing:proposal", "Look at proposed rulebooks, approve them, let them decide."),
        "rollback": ("cli.proposing:rollback", "Let the rulebook before decide again."),
        "playbook": ("cli.playbook:playbook", "What to do when something is going on; incidents and drills."),
        "mode": ("cli.mode:mode", "Be more careful for a while, in all workers."),
        "explain": ("cli.ledger:explain", "Explain a decision."),
        "audit": ("cli.audit:audit", "Take the log out, check it, replay and reconcile it."),
        "witness": ("cli.witness:witness", "Cosign the checkpoints of logs, elsewhere than they are kept."),
        "notice": ("cli.notice:notice", "What a person is told of a decision."),
        "statements": ("cli.notice:statements", "Statements of reasons of a period, without personal data."),
        "counterfactual": ("cli.counterfactual:command", "The smallest change to a milder verdict."),
        "appeal": ("cli.appeal:appeal", "Appeals against verdicts, and what becomes of them."),
        "subject": ("cli.subject:subject", "What is held about one person, for that person."),
        "dispute": ("cli.disputing:dispute", "What a chargeback dispute needs."),
        "backup": ("cli.ledger:backup", "Copy the SQLite ledger while it is in use."),
        "erase": ("cli.erase:erase", "Erase a person."),
        "processing": ("cli.processing:processing", "Records of processing against the law; Arbiter's own."),
        "fairness": ("cli.fairness:fairness", "Do different buyers pay different prices?"),
        "retention": ("cli.retention:retention", "End what is past its term."),
        "keys": ("cli.keys:keys", "The key file, and the keys of callers."),
        "demo": ("cli.demo:demo", "Sample orders judged, then the API on this machine."),
    },
    about="""Arbiter decides, explains and proves: risk and compliance decisions for e-commerce.

    \b
    Start here:
      arbiter demo                      sample orders judged, then the API on this machine
      arbiter check                     are the rules and policies sound, do their tests pass
      arbiter score orders.csv --map orders.map.yaml --out verdicts.csv

    Settings are variables of the environment: ARBITER_DATABASE_URL, ARBITER_KEY_FILE, ARBITER_KEY_SERVICE,
    ARBITER_RULES, ARBITER_POLICIES, ARBITER_REDIS_URL, ARBITER_MODEL_DIR, ARBITER_SNAPSHOT_DIR.
    """,
)
