"""Chinese of finished English texts, by the templates of `zh.yaml` that they were made from (docs/decisions/0022)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from engine.errors import PackError

_CATALOGUE = Path(__file__).with_name("zh.yaml")
_HOLE = re.compile(r"\{(\d+|[nm])([!+]?)\}")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_QUOTES = ("'", '"', "`")
_PLACE = re.compile(r"(?:[\w./\[\]-]+|'.*?'): ")
_BETWEEN_CHINESE = {", ": "、", " or ": "或", " and ": "和"}
_BETWEEN = re.compile(f"({'|'.join(_BETWEEN_CHINESE)})")


@dataclass(frozen=True)
class Template:
    """An English text with holes, and the Chinese one: `{0}`, `{1}` take any text, `{n}` and `{m}` take digits."""

    english: str
    chinese: str

    @cached_property
    def fixed(self) -> tuple[str, ...]:
        """What stands between the holes."""
        return tuple(_HOLE.split(self.english)[::3])

    @cached_property
    def _form(self) -> re.Pattern[str]:
        pieces = _HOLE.split(self.english)
        holes = ("([0-9][0-9,.]*)" if name in "nm" else "([^\n]*?)" for name in pieces[1::3])
        return re.compile("".join(re.escape(text) + hole for text, hole in zip(pieces[::3], [*holes, ""], strict=True)))

    def match(self, text: str) -> Mapping[str, str] | None:
        """What stands in the holes where `text` was made from this template."""
        found = self._form.fullmatch(text) if self._holds(text) else None
        return None if found is None else dict(zip(_HOLE.split(self.english)[1::3], found.groups(), strict=True))

    def _holds(self, text: str) -> bool:
        """Whether the fixed text stands there in its order: asked in one pass, before an expression tries its ways."""
        first, *between = self.fixed
        at = len(first)
        for piece in between:
            at = text.find(piece, at)
            if at < 0:
                return False
            at += len(piece)
        return text.startswith(first) and text.endswith(self.fixed[-1])


class Chinese:
    """The catalogue: messages as the source has them, what is composed of them, and words that stand inside them."""

    def __init__(self, messages: Mapping[str, str], composed: Mapping[str, str], words: Mapping[str, str]) -> None:
        self._whole = dict(messages)
        # What the code puts behind another message with '; ' is a sentence of its own.
        tails = {english[2:]: chinese.lstrip("；") for english, chinese in messages.items() if english.startswith("; ")}
        self._messages = _ordered({**tails, **messages, **composed})
        self._words = _ordered(words)
        self._alone = dict(words)

    def translated(self, text: str) -> str:
        """The Chinese of an English text; the text itself where nothing fits."""
        found = self._found(text, inside=False)
        return text if found is None else found

    def term(self, word: str) -> str:
        """The Chinese of a word that stands alone; the word itself where it is a name."""
        return self._alone.get(word) or self.translated(word)

    def _found(self, text: str, *, inside: bool) -> str | None:
        """`inside`: the text stands inside a Chinese sentence, so a word alone may be meant."""
        if text in self._whole and not _HOLE.search(text):
            return self._whole[text]
        return (
            self._by_lines(text)
            or self._filled(self._messages, text, joined=False)
            or (self._filled(self._words, text) if inside else None)
            or self._by_sentences(text)
            or self._filled(self._messages, text)
            or self._by_place(text)
        )

    def _filled(self, templates: Iterable[Template], text: str, *, joined: bool = True) -> str | None:
        """By the first template that fits; unless `joined`, none of its holes may hold what '; ' joins."""
        for template in templates:
            values = template.match(text)
            if values is not None and (joined or not any("; " in value for value in values.values())):
                return "".join(self._pieces(template.chinese, values))
        return None

    def _pieces(self, chinese: str, values: Mapping[str, str]) -> Iterator[str]:
        """The Chinese text with its holes filled. What stands in quotes is code or a name, and stays as it is."""
        at = 0
        for hole in _HOLE.finditer(chinese):
            yield chinese[at : hole.start()]
            at = hole.end()
            value, before, behind = values[hole[1]], chinese[: hole.start()], chinese[at:]
            if hole[2] == "!" or before.endswith(_QUOTES):
                yield value
            elif hole[2] == "+":
                yield _BETWEEN.sub(lambda found: _BETWEEN_CHINESE[found[1]], value)
            else:
                around = _HOLE.sub("", before)[-1:] + _HOLE.sub("", behind)[:1]
                yield self._value(value, inside=bool(_HAN.search(around)))
        yield chinese[at:]

    def _value(self, value: str, *, inside: bool) -> str:
        """What stands in a hole. 'card.ref is missing' may be a message and a condition: there it is a condition."""
        if value in self._whole:
            return self._whole[value]
        listed = self._by_items(value, self._words) if inside else None
        if listed is not None or _is_condition(value):
            return listed or value
        return self._found(value, inside=inside) or (inside and self._by_items(value, self._messages)) or value

    def _by_lines(self, text: str) -> str | None:
        """Lines that are messages of their own, each with the spaces around it."""
        lines = text.splitlines(keepends=True)
        if len(lines) == 1 and text == text.strip():
            return None
        return "".join(map(self._line, lines))

    def _line(self, line: str) -> str:
        core = line.strip()
        before, _, behind = line.partition(core) if core else (line, "", "")
        return before + (self._found(core, inside=False) or core) + behind

    def _by_sentences(self, text: str) -> str | None:
        """What is joined by '; ', where every part is a message, or is in Chinese already."""
        parts = text.split("; ")
        if len(parts) == 1:
            return None
        found = [self._found(part, inside=False) or (part if _HAN.search(part) else None) for part in parts]
        return None if None in found else "；".join(part for part in found if part is not None)

    def _by_place(self, text: str) -> str | None:
        """A message behind the path of what it is about, or a value in quotes: 'rules.1.at_least: no verdict …'."""
        place = _PLACE.match(text)
        found = self._found(text[place.end() :], inside=False) if place else None
        return found and f"{text[: place.end()]}{found}" if place else None

    def _by_items(self, text: str, templates: tuple[Template, ...]) -> str | None:
        """'text, number or yes/no': a row, every part of which is known."""
        parts = _BETWEEN.split(text)
        found = [self._filled(templates, part) for part in parts[::2]] if len(parts) > 1 else [None]
        if None in found:
            return None
        between = [_BETWEEN_CHINESE[each] for each in parts[1::2]]
        return "".join(each for pair in zip(found, [*between, ""], strict=True) for each in pair if each)


def _is_condition(text: str) -> bool:
    """Whether a text of several words can be read as an expression of the condition language."""
    from engine.expr.syntax import Report, parse

    if " " not in text.strip() or "\n" in text:
        return False
    try:
        parse(text, Report(text))
    except PackError:
        return False
    return True


def _ordered(texts: Mapping[str, str]) -> tuple[Template, ...]:
    """Templates in the order in which they are tried: those that begin with a hole last, for it could swallow the
    beginning of another one; then those with the most fixed text first; of equal ones that with fewer holes."""
    made = (Template(english, chinese) for english, chinese in texts.items())
    return tuple(sorted(made, key=lambda each: (not each.fixed[0], -sum(map(len, each.fixed)), len(each.fixed))))


@cache
def chinese() -> Chinese:
    """The catalogue that is shipped."""
    import yaml  # English loads nothing

    return Chinese(**yaml.load(_CATALOGUE.read_bytes(), Loader=yaml.CSafeLoader))
