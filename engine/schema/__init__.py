"""Events: what a sender may say, in which types, and whose data it is."""

from engine.schema.fields import FieldDef, Form

__all__ = ["FieldDef", "Form"]
