"""How what is written in several kinds of files is named."""

from __future__ import annotations

from engine.packs.text import Form

LAW_ID = Form(r"[a-z]{2}(\.[a-z0-9]+)+", "write country, law and article, such as cn.ecl.13")
"""An article of law."""
