"""The card of a detector: a folder with `card.yaml` and the ONNX file that it names by its SHA-256.

    detector: weapons
    about: Guns and knives on photographs of goods. Toys and kitchen knives look alike.
    owner: content-safety
    source: trained by us on 12,000 photographs, June 2026
    licence: own work
    model: {file: model.onnx, sha256: 4be0…}
    form: yolo8
    input: 640
    overlap: 45%
    classes:
      gun: {at: 60%}
      knife: {at: 75%}

The folder is named by the SHA-256 of its card: so who names the folder names every byte that looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.errors import ModelUnavailable, PackError, Problem
from engine.packs import Form, Text, fit, read
from engine.packs.shares import Share

CARD = "card.yaml"
MAX_CLASSES = 1000
MAX_MODEL_BYTES = 512 << 20

_NAME = Form("[a-z][a-z0-9-]*", "write small letters, digits and '-', beginning with a letter")
_CLASS = Form(
    "[A-Za-z0-9_.:/+-]{1,64}", "write letters, digits and _ . : / + -, at most 64, as conditions will name it"
)
_FILE = Form(r"[A-Za-z0-9_-]+\.onnx", "name a file beside the card, such as model.onnx")
_HASH = Form("[0-9a-f]{64}", "write the 64 digits that sha256sum prints")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelFile(_Part):
    """The file with the weights."""

    file: Annotated[Text, _FILE] = Field(description="the ONNX file, beside the card")
    sha256: Annotated[Text, _HASH] = Field(description="its SHA-256, hexadecimal")


class ClassCard(_Part):
    """One class that the model tells apart."""

    at: Share = Field(description="the score from which on it counts as seen")


class DetectorCard(_Part):
    """A detector as its card describes it."""

    name: Annotated[Text, _NAME] = Field(alias="detector", max_length=64, description="its name")
    about: Text = Field(min_length=1, max_length=2000, description="what it finds, and what looks alike")
    owner: Text = Field(min_length=1, max_length=120, description="who answers for it")
    source: Text = Field(min_length=1, max_length=400, description="where the weights come from, trained on what")
    licence: Text = Field(min_length=1, max_length=200, description="under which terms they may be used")
    model: ModelFile = Field(description="the file with the weights")
    form: Literal["yolo8", "yolo5"] = Field(
        description="yolo8: [1, 4 + classes, boxes]; yolo5: [1, boxes, 5 + classes], with objectness"
    )
    input: int = Field(
        strict=True, ge=32, le=2048, multiple_of=32, description="sides of the square it looks at, pixels"
    )
    overlap: Share = Field(
        default="45%",
        validate_default=True,
        description="of two boxes of one class that overlap more, the better counts",
    )
    classes: dict[Annotated[Text, _CLASS], ClassCard] = Field(
        min_length=1, max_length=MAX_CLASSES, description="the classes in the order of the model's outputs"
    )


@dataclass(frozen=True, slots=True)
class Read:
    """A card and its name, which is the SHA-256 of its bytes."""

    card: DetectorCard
    name: str


def read_card(folder: Path) -> Read:
    """The card of a folder. Raises PackError with every problem, its place and how to mend it."""
    document = read(folder / CARD, root=folder, name=f"{folder.name}/{CARD}")
    found = fit(document, DetectorCard)
    problems = list[Problem](found.problems)
    if found.pack is None or problems:
        raise PackError(problems)
    model = folder / str(found.pack.model.file)
    if not model.is_file():
        problems.append(document.problem(("model", "file"), "there is no such file beside the card"))
    elif model.stat().st_size > MAX_MODEL_BYTES:
        problems.append(document.problem(("model", "file"), f"the file is larger than {MAX_MODEL_BYTES >> 20} MiB"))
    elif (digits := sha256(model.read_bytes()).hexdigest()) != found.pack.model.sha256:
        what = "the file has another SHA-256: it was changed, or the card is that of another one"
        problems.append(document.problem(("model", "sha256"), what, f"if the file is the right one, write {digits}"))
    if problems:
        raise PackError(problems)
    return Read(found.pack, document.hash)


def named_card(folder: Path) -> Read:
    """The same of a folder that is to be used. ModelUnavailable where it does not have the name of its card."""
    try:
        read = read_card(folder)
    except PackError as error:
        raise ModelUnavailable(str(error)) from None
    if folder.name != read.name:
        raise ModelUnavailable(
            f"the folder of a detector is named by the SHA-256 of its card: rename {folder} to {read.name}"
        )
    return read
