"""The rulebook: all packs of one moment, cross-checked, compiled, frozen, and named by their hash.

    rulebook = load(Path("rules"), Path("policies"))      # PackError: every problem of every file
    rulebook.kinds["transaction"].matcher(...)

A decision runs against one rulebook from start to end, and its record pins the hash.

book     what a rulebook is, once it is read
loading  from the files of two folders to a rulebook
"""

from engine.rulebook.book import DEGRADED, LANGUAGE, NONE_ROLLED, OWN_SIGNALS, Basis, KindBook, Rulebook
from engine.rulebook.loading import FILE_KINDS, load

__all__ = [
    "DEGRADED",
    "FILE_KINDS",
    "LANGUAGE",
    "NONE_ROLLED",
    "OWN_SIGNALS",
    "Basis",
    "KindBook",
    "Rulebook",
    "load",
]
