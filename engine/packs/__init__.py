"""YAML packs: files to plain data with positions, and every problem of every file at once.

    for document in read_all(Path("rules")):
        pack = validate(document, RulePack)

`Text` is a string that knows where it stands: declare model fields as `Text`, and a problem in the middle of a
condition is shown at its line and column in the file.
"""

from engine.packs.bilingual import Bilingual
from engine.packs.folder import MAX_BYTES, MAX_FILES, is_suite, yaml_files
from engine.packs.ids import LAW_ID
from engine.packs.moments import Since, Until
from engine.packs.reading import (
    MAX_DEPTH,
    MAX_NODES,
    Document,
    Loc,
    Place,
    parse,
    read,
    read_all,
    read_beside,
    read_through,
)
from engine.packs.shape import FORMAT_MEANS, Fit, fit, validate
from engine.packs.text import Form, Source, Text, text

PackText = Text

__all__ = [
    "FORMAT_MEANS",
    "LAW_ID",
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_FILES",
    "MAX_NODES",
    "Bilingual",
    "Document",
    "Fit",
    "Form",
    "Loc",
    "PackText",
    "Place",
    "Since",
    "Source",
    "Text",
    "Until",
    "fit",
    "is_suite",
    "parse",
    "read",
    "read_all",
    "read_beside",
    "read_through",
    "text",
    "validate",
    "yaml_files",
]
