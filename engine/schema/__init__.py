"""Events: what a sender may say, in which types, and whose data it is. The only door to this package."""

from engine.schema.cardnumbers import found as holds_card_number
from engine.schema.cardsecrets import holds as holds_card_secret
from engine.schema.events import MAX_BODY, Event, Schema, schema
from engine.schema.fields import ENTITIES, PRIVACY, SUBJECTS, TYPES, FieldDef, Form
from engine.schema.keys import normal
from engine.schema.kinds import FRAUD
from engine.schema.nesting import at_path
from engine.schema.own import OwnField, SchemaPack
from engine.schema.own import faults as own_faults
from engine.schema.parts import masked_paths
from engine.schema.personal import find as personal_in
from engine.schema.personal import identifying, masked
from engine.schema.refusals import identifying as identifying_problem
from engine.schema.refusals import name as shown_name
from engine.schema.times import FUTURE, misplaced
from engine.schema.values import duration, exact, instant, wrong
from engine.schema.wire import decode, encode, marked

__all__ = [
    "ENTITIES",
    "FRAUD",
    "FUTURE",
    "MAX_BODY",
    "PRIVACY",
    "SUBJECTS",
    "TYPES",
    "Event",
    "FieldDef",
    "Form",
    "OwnField",
    "Schema",
    "SchemaPack",
    "at_path",
    "decode",
    "duration",
    "encode",
    "exact",
    "holds_card_number",
    "holds_card_secret",
    "identifying",
    "identifying_problem",
    "instant",
    "marked",
    "masked",
    "masked_paths",
    "misplaced",
    "normal",
    "own_faults",
    "personal_in",
    "schema",
    "shown_name",
    "wrong",
]
