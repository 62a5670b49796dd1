"""Records of processing: what personal data, of whom, what for, on which basis, and what the law asks of that.

    for finding in findings(rulebook.processing, World(rulebook.schema, rulebook.retention, now)): ...

The first record is Arbiter's own, out of the marks of its schema (`own`).
"""

from engine.processing.catalogue import CHECKS, Check
from engine.processing.checks import Finding, World, findings
from engine.processing.own import Own, own, written
from engine.processing.pack import Processing, ProcessingPack, read_processing

__all__ = [
    "CHECKS",
    "Check",
    "Finding",
    "Own",
    "Processing",
    "ProcessingPack",
    "World",
    "findings",
    "own",
    "read_processing",
    "written",
]
