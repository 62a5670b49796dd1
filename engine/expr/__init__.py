"""The condition language: the only door.

    vocabulary = Vocabulary(fields=schema().fields("payment"), kind=("payment",))
    condition = read("amount > 100 CNY and not buyer.guest", vocabulary, BOOL)
    matcher = compile_rules([condition], [])
    matcher({"amount": Money.of("120", "CNY"), "buyer": {"guest": False}}, [], env).fired   # (0,)

`read` checks names and types; `value_of` gives one expression as a function; `compile_rules` gives many conditions as
one function; `interpret` is the slow walker that both are held against. Unknown is None. The language itself is
described in docs/rules.md.
"""

from engine.expr.check import Vocabulary, atoms_in, expression, read
from engine.expr.functions import zone
from engine.expr.index import Atom, Match, Matcher, compile_rules, truth
from engine.expr.interpret import interpret
from engine.expr.mutants import MUTATIONS, Mutant, mutants
from engine.expr.nodes import (
    BOOL,
    DURATION,
    INSTANT,
    MONEY,
    NUMBER,
    TEXT,
    And,
    Call,
    Env,
    Expression,
    Field,
    Group,
    Links,
    Literal,
    Node,
    Not,
    Or,
    Party,
    Share,
    Step,
    Type,
    Window,
    list_of,
    literal,
    over,
    replaced,
    spell,
    walk,
)
from engine.expr.patterns import pattern
from engine.expr.python import value_of
from engine.expr.syntax import RESERVED, names_in

__all__ = [
    "BOOL",
    "DURATION",
    "INSTANT",
    "MONEY",
    "MUTATIONS",
    "NUMBER",
    "RESERVED",
    "TEXT",
    "And",
    "Atom",
    "Call",
    "Env",
    "Expression",
    "Field",
    "Group",
    "Links",
    "Literal",
    "Match",
    "Matcher",
    "Mutant",
    "Node",
    "Not",
    "Or",
    "Party",
    "Share",
    "Step",
    "Type",
    "Vocabulary",
    "Window",
    "atoms_in",
    "compile_rules",
    "expression",
    "interpret",
    "list_of",
    "literal",
    "mutants",
    "names_in",
    "over",
    "pattern",
    "read",
    "replaced",
    "spell",
    "truth",
    "value_of",
    "walk",
    "zone",
]
