"""Keys and what each has, in two generations: how keys without new events go, at no cost to the others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from engine.stores.columns import NEVER

T = TypeVar("T")


class Generations(ABC, Generic[T]):
    """A line for each key.

    A line that gets an event moves to the new generation. Once the clock has gone further than a question can
    reach, whatever is still in the old one is out of reach as a whole, and the generations turn.
    """

    __slots__ = ("_dying", "_turned", "new", "old", "reach")

    def __init__(self, reach: int) -> None:
        self.reach = reach
        self.new: dict[str, T] = {}
        self.old: dict[str, T] = {}
        self._dying: dict[str, T] = {}
        self._turned = NEVER

    @abstractmethod
    def blank(self) -> T:
        """The line of a key that has no events."""

    def make(self, key: str, clock: int) -> T:
        """The line of a key that gets an event, in the new generation."""
        line = self.new.get(key)
        if line is None:
            if clock - self.reach > self._turned:
                self._turn(clock)
            line = self.new[key] = self.old.pop(key) if key in self.old else self.blank()
            for _ in range(min(2, len(self._dying))):
                self._dying.popitem()  # A million lines freed at once would stall the event that turns.
        return line

    def _turn(self, clock: int) -> None:
        if self._turned != NEVER:
            self._dying, self.old, self.new = self.old, self.new, {}
        self._turned = clock
