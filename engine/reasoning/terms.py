"""What a part of a condition is to the solver: whether it is known, and its value, as z3 terms.

A value is read only where it is known. `exact` says that for an event of constants the term has the value that the
interpreter gives, and no other; where it is false the term may have more values than that, never fewer. So what the
solver finds impossible is impossible, and what it finds possible has to be played before anybody hears of it.

Money is its minor units and the number of its currency. Text is a number too: texts that conditions write have their
own (`engine.reasoning.texts`), any other number is some other text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import Any, NamedTuple, TypeAlias

import z3

from engine.expr import Type
from engine.expr.functions import LIMIT
from engine.money import CURRENCIES

Term: TypeAlias = Any
"""A z3 expression; the package has no types."""

YES, NO = z3.BoolVal(True), z3.BoolVal(False)
PLACES = 6
"""Decimal places of a computed number; more are rounded away."""
_ROUNDING = z3.Q(1, 2 * 10**PLACES)

CURRENCY: dict[str, int] = {code: number for number, code in enumerate(CURRENCIES)}
CODES: tuple[str, ...] = tuple(CURRENCIES)


class Amount(NamedTuple):
    """Money: minor units, and the number of the currency."""

    minor: Term
    currency: Term


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of an event: whether a value is among it, whether an element is missing, and how many there are."""

    has: Callable[[Term], Term]
    gap: Term
    size: Term


@dataclass(frozen=True, slots=True)
class Value:
    """One part of a condition. `places` is how many decimal places a number may have."""

    known: Term
    value: Any
    exact: bool = True
    places: int = 0

    @property
    def true(self) -> Term:
        """Whether it is known to be true."""
        return both(self.known, self.value)

    @property
    def false(self) -> Term:
        """Whether it is known to be false."""
        return both(self.known, opposite(self.value))


def opposite(term: Term) -> Term:
    """The opposite."""
    if term is YES or term is NO:
        return NO if term is YES else YES
    return z3.BoolRef(z3.Z3_mk_not(_CONTEXT.ref(), term.ast), _CONTEXT)


def both(*terms: Term) -> Term:
    """`and` over terms; the constants `YES` and `NO` are left out."""
    rest = [term for term in terms if term is not YES]
    if any(term is NO for term in rest):
        return NO
    return YES if not rest else rest[0] if len(rest) == 1 else _joined(z3.Z3_mk_and, rest)


def either(*terms: Term) -> Term:
    """`or` over terms; the constants `YES` and `NO` are left out."""
    rest = [term for term in terms if term is not NO]
    if any(term is YES for term in rest):
        return YES
    return NO if not rest else rest[0] if len(rest) == 1 else _joined(z3.Z3_mk_or, rest)


_CONTEXT = z3.main_ctx()


def _joined(make: Callable[..., Any], terms: list[Term]) -> Term:
    """`z3.And` and `z3.Or` without their looks at the type of everything: half of all time went there."""
    return z3.BoolRef(make(_CONTEXT.ref(), len(terms), (z3.Ast * len(terms))(*(t.ast for t in terms))), _CONTEXT)


def chosen(test: Term, one: Any, other: Any) -> Any:
    """`one` where the test holds, else `other`; amounts part by part."""
    if isinstance(one, Amount):
        return Amount(chosen(test, one.minor, other.minor), chosen(test, one.currency, other.currency))
    if test is YES or test is NO:
        return one if test is YES else other
    if z3.is_arith(one) and one.sort() != other.sort():
        one, other = real(one), real(other)
    return z3.If(test, one, other)


def real(term: Term) -> Term:
    """The number as a real one."""
    return z3.ToReal(term) if z3.is_int(term) else term


def number(value: int | Decimal) -> Term:
    """A number as a constant."""
    return z3.IntVal(value) if value == int(value) else z3.RealVal(format(Decimal(value), "f"))


def places_of(value: int | Decimal) -> int:
    """How many decimal places a constant has."""
    if value == int(value):
        return 0
    return max(0, -int(Decimal(value).normalize().as_tuple().exponent))


def bounded(term: Term) -> Term:
    """Whether a computed number is one that the language knows."""
    return z3.And(term > -LIMIT, term < LIMIT)


class Fresh:
    """New variables, with what is always so of them."""

    def __init__(self) -> None:
        self.facts: list[Term] = []
        self._count = count()

    def of(self, type_: Type, name: str = "") -> Any:
        """A variable for a value of this type. Lists have none."""
        name = f"{name}#{next(self._count)}"
        if type_.name == "money":
            currency = z3.Int(f"{name}.currency")
            self.facts.append(z3.And(currency >= 0, currency < len(CODES)))
            return Amount(z3.Real(f"{name}.minor"), currency)
        if type_.name == "bool":
            return z3.Bool(name)
        return z3.Real(name) if type_.name == "number" else z3.Int(name)

    def truth(self, name: str = "") -> Term:
        """A yes/no variable."""
        return z3.Bool(f"{name}#{next(self._count)}")

    def near(self, term: Term, within: Term = _ROUNDING) -> Term:
        """A number that is `term` but for a rounding."""
        found = z3.Real(f"near#{next(self._count)}")
        self.facts.append(z3.And(found - term <= within, term - found <= within))
        return found

    def whole_near(self, term: Term) -> Term:
        """A whole number that is `term` but for a rounding."""
        found = z3.Int(f"whole#{next(self._count)}")
        slack = z3.Q(1, 2) + _ROUNDING
        self.facts.append(z3.And(z3.ToReal(found) - term <= slack, term - z3.ToReal(found) <= slack))
        return found


def all_known(values: Sequence[Value]) -> Term:
    """Whether all of the values are known."""
    return both(*(value.known for value in values))
