"""How a text is read that was written so that machines do not: one plain form, with a way back to what was written.

    reading = read("全网 蕞·佳")
    reading.text                     # "全网最佳"
    reading.span(2, 4)               # (3, 6): where that stands in what was written
    plain("全网 蕞·佳")              # "全网 最佳": with the blanks

Characters go through one pinned table (`characters`): width, case, traditional Han, lookalikes, emoji that are read,
and what is nothing. What stands between characters is left out (`reading`), and `pinyin` says how a phrase is spelt
in Latin letters. Which phrases a list finds in a reading is said in `engine.lists.phrases`.
"""

from engine.disguise.pinyin import is_pinyin, spellings
from engine.disguise.reading import Reading, joined, plain, read

DISGUISES = "disguises-1"
"""The number of this way to read: another table or rule is another number, and so another hash of lists that use it."""

__all__ = ["DISGUISES", "Reading", "is_pinyin", "joined", "plain", "read", "spellings"]
