"""A text that people read in English and in Chinese."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from engine.packs.text import Text


class Bilingual(BaseModel):
    """A text in both languages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    en: Text = Field(min_length=1, max_length=1000, description="in English")
    zh: Text = Field(min_length=1, max_length=1000, description="in Chinese")

    @property
    def plain(self) -> dict[str, str]:
        """Language → text, without its place in the file."""
        return {"en": str(self.en), "zh": str(self.zh)}
