"""The images that shops sent, and the known ones they are compared with: what an event's images are found to show.

An image is looked at once, when it is sent, and compared with the known ones whenever an event names it: so one that
becomes known later is found from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from sqlalchemy import select

from engine import database as db
from engine.bodies import read_body
from engine.errors import BodyRefused, FieldProblem, NotFound
from engine.images import Index, Reader, Seen, Sight, named_in, sight_of
from engine.images.detector import detector_name
from engine.images.fetching import MAX_URL, Bounds, Connect, Resolve, Unfetched, connected, fetch, resolved
from engine.schema import Event

NONE_KNOWN = Index()
QUICK = 50_000
"""Hashes that are compared at once, in about a millisecond; with more a thread does it."""


class ImageAddress(BaseModel):
    """Where an image is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(min_length=1, max_length=MAX_URL, description="An https address that anybody may ask")


_ADDRESS = TypeAdapter(ImageAddress)


class Gallery:
    """What is known of images, by tenant."""

    def __init__(
        self,
        database: db.Database,
        clock: Callable[[], int],
        detector: Path | None = None,
        *,
        fetching: bool = False,
        resolve: Resolve = resolved,
        connect: Connect = connected,
    ) -> None:
        """`detector` is the folder of a model that looks at each image; `fetching` lets images be fetched by their URL.
        Raises ModelUnavailable for a detector that cannot be used."""
        self.indexes: Mapping[str, Index] = {}
        """The known images of each tenant; replaced as a whole."""
        self.detector = detector_name(detector) if detector else ""
        self._reader = Reader(detector)
        self._fetching = fetching
        self._resolve, self._connect = resolve, connect
        self._database = database
        self._rows = db.Rows(database, db.image)
        self._clock = clock

    async def take(self, tenant: str, body: bytes) -> dict[str, Any]:
        """Look at an image and keep what it shows, under its SHA-256; the same bytes are looked at again only where
        that says more. TooMuch where too many wait."""
        seen = await self._reader.look(body)
        before = await self._find(tenant, [seen.sha256])
        # Of an image that was whole before nothing is lost because a reader was slow today.
        if not (seen.sha256 in before and seen.broken and not before[seen.sha256].broken):
            await self.keep(tenant, seen)
        return await self.shown(tenant, seen.sha256)

    async def fetch(self, tenant: str, body: bytes, size: int) -> dict[str, Any]:
        """Take the image of at most `size` bytes at the URL in a JSON body. NotFound where fetching is off; BodyRefused
        where nothing could be fetched, with why in words that say nothing of the network."""
        if not self._fetching:
            raise NotFound("fetching images is off: send their bytes")
        wanted = read_body(_ADDRESS, body)
        try:
            found = await fetch(wanted.url, Bounds(size), resolve=self._resolve, connect=self._connect)
        except Unfetched as error:
            problem = FieldProblem("url", "not_fetched", str(error))
        else:
            return await self.take(tenant, found)
        raise BodyRefused([problem])

    async def keep(self, tenant: str, seen: Seen) -> None:
        """Let this be what an image shows."""
        shown = orjson.dumps(seen.json()).decode()
        row = {"tenant": tenant, "sha256": seen.sha256, "looked": self._clock(), "seen": shown, "hashes": seen.hashes}
        await self._rows.put(**row)

    async def shown(self, tenant: str, sha256: str) -> dict[str, Any]:
        """What is known of one image, and which known ones it looks like now."""
        seen = await self.image(tenant, sha256)
        sight = await self._compared({sha256: seen}, [sha256], tenant, self._clock())
        (shown,) = sight.evidence["seen"]
        return {**shown, "comparable": bool(seen.hashes), "examined": not sight.fields["images_unexamined"]}

    async def image(self, tenant: str, sha256: str) -> Seen:
        """What one image shows. NotFound for one that was never sent."""
        found = await self._find(tenant, [sha256])
        if sha256 not in found:
            raise NotFound("no image with this SHA-256 was sent")
        return found[sha256]

    async def look(self, event: Event) -> Sight | None:
        """What is known of the images that an event names by their SHA-256; None where it names none."""
        named = named_in(event.values)
        if not named:
            return None
        known = await self._find(event.tenant, [name for name in named if name])
        return await self._compared(known, named, event.tenant, event.received_at)

    def known(self, tenant: str) -> Index:
        """The known images of a tenant."""
        return self.indexes.get(tenant, NONE_KNOWN)

    async def close(self) -> None:
        """End the process that looks."""
        await self._reader.close()

    async def _compared(self, known: Mapping[str, Seen], named: Sequence[str | None], tenant: str, at: int) -> Sight:
        index = self.known(tenant)
        asked = known, named, index, at, self.detector
        if index.size * len(known) <= QUICK:
            return sight_of(*asked)
        return await asyncio.to_thread(sight_of, *asked)

    async def _find(self, tenant: str, names: Sequence[str]) -> dict[str, Seen]:
        table = db.image
        query = select(table.c.sha256, table.c.seen, table.c.hashes).where(
            table.c.tenant == tenant, table.c.sha256.in_(sorted(set(names)))
        )
        rows = await self._database.read(lambda c: c.execute(query).all())
        return {row.sha256: Seen.of(orjson.loads(row.seen), row.hashes) for row in rows}
