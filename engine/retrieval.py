"""What was there when a decision was made, found again: personal values, pseudonyms, lists and models.

    past, lacking = await Retrieval(ledger, vault, models).past(stored, rulebook)

For a replay at level `full` (`engine.replay`). What cannot be had any more is told, in words, and then there is no
past: a replay of half of it would call what was erased a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from engine.anomaly import Model, read_model
from engine.detectors import Models, seated
from engine.errors import ModelUnavailable, VaultError
from engine.jcs import canonical
from engine.ledger import Ledger, Stored
from engine.listed import Listed
from engine.lists import ListEntry, ListSet
from engine.replay import Past
from engine.rulebook import KindBook, Rulebook
from engine.schema import Event, decode
from engine.vault import Vault, commit

NO_FOLDER = "ARBITER_MODEL_DIR does not say in which folder models are"


class Retrieval:
    """Finds the past of stored decisions. `models` is the folder of anomaly models, if there is one."""

    def __init__(self, ledger: Ledger, vault: Vault, models: Path | None) -> None:
        self._ledger = ledger
        self._vault = vault
        self._folder = models
        self._models: dict[str, Model | str] = {}
        self._listed = Listed(ledger, vault.pseudonym)

    async def past(self, stored: Stored, rulebook: Rulebook) -> tuple[Past | None, tuple[str, ...]]:
        """The past of a decision, or None and everything that is lacking for it. `rulebook` is the one it pins."""
        record = orjson.loads(stored.entry.leaf)
        kind = rulebook.kinds[record["event"]["kind"]]
        lacking: list[str] = []
        await self._vault.prepare(stored.entry.sealed)
        private, commitments = self._opened(stored, record, lacking)
        lists = await self._lists(record, rulebook, lacking)
        models = self._looked(record, kind, lacking)
        if lacking:
            return None, tuple(lacking)
        keys = {**dict(stored.entry.keys), **self._keys(record, rulebook, private)}
        return Past(private, commitments, keys, lists, models), ()

    # Personal values

    def _opened(
        self, stored: Stored, record: Mapping[str, Any], lacking: list[str]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        private: dict[str, dict[str, Any]] = {}
        commitments: dict[str, str] = {}
        broken = []
        for cell in stored.entry.sealed:
            if not cell.readable:
                continue
            try:
                text = orjson.loads(self._vault.open(cell))
            except VaultError as error:
                broken.append(f"sealed data cannot be opened: {error}")
                continue
            private[text["role"]] = decode(text["fields"])
            commitments[text["role"]] = commit(bytes.fromhex(text["salt"]), canonical(text["fields"]))
        gone = [each["subject"] for each in record["sealed"] if each["subject"] not in private]
        lacking += broken or [f"the personal data of the {subject} was erased" for subject in gone]
        return private, commitments

    def _keys(
        self, record: Mapping[str, Any], rulebook: Rulebook, private: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, str]:
        """The pseudonyms, made of the values again: the index of them may be gone."""
        event, tenant = record["event"], record["tenant"]
        values = rulebook.schema.join(event["kind"], decode(event["public"]), private)
        about = (event["kind"], tenant, event["id"], event["order"], event["at"], event["received_at"])
        _, _, entities = rulebook.schema.split(Event(*about, values))
        return {path: self._vault.pseudonym(tenant, namespace, value) for path, namespace, value in entities}

    # Lists

    async def _lists(self, record: Mapping[str, Any], rulebook: Rulebook, lacking: list[str]) -> ListSet:
        lists, tenant = rulebook.lists.with_pseudonym(self._vault.pseudonym), record["tenant"]
        entries: list[ListEntry] = []
        for name, pinned in record["pins"]["lists"].items():
            if pinned == "unavailable" or lists.hashes([name], tenant) == {name: pinned}:
                continue
            history = await self._listed.history(tenant, lists.lists[name]) if lists.available(name) else None
            found = history.entries(pinned) if history else None
            if found is None:
                lacking.append(f"what was on the list '{name}' then is not kept")
            else:
                entries += found
        return lists.with_entries(entries)

    # Models

    def _looked(self, record: Mapping[str, Any], kind: KindBook, lacking: list[str]) -> Models:
        champion = record["pins"]["model"]
        if champion is None:
            return Models()
        assert kind.detector is not None, "a model looked, so the kind has a detector"
        seats = []
        for name in (champion, *(each["model"] for each in record["challengers"])):
            try:
                seats.append(seated(self._model(name), kind.detector))
            except ModelUnavailable as error:
                lacking.append(f"the model {name[:12]} cannot be had: {error}")
        if lacking:
            return Models()
        return Models({kind.kind: seats[0]}, {kind.kind: tuple(seats[1:])})

    def _model(self, name: str) -> Model:
        if name not in self._models:
            try:
                self._models[name] = self._read(name)
            except ModelUnavailable as error:
                self._models[name] = str(error)
        found = self._models[name]
        if isinstance(found, str):
            raise ModelUnavailable(found)
        return found

    def _read(self, name: str) -> Model:
        if self._folder is None:
            raise ModelUnavailable(NO_FOLDER)
        return read_model(self._folder, name)
