"""The file that declares links: `rules/links/*.yaml`.

links: people
about: Accounts that one person or one household may stand behind.
owner: marketplace-integrity
within: 90d                                          # how long a link lasts after the last event that shows it
groups:
  buyer_group:
    account: buyer.account
    shares:
      - {of: [transaction, payment], by: [device.id, card.ref, shipping.address]}
      - {of: payout, by: buyer.payout_account}       # the device of a payout is the seller's
  seller_group:
    account: merchant.id
    shares: [{of: [merchant, listing, payout], by: [device.id, merchant.payout_account]}]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from engine.errors import Problem, did_you_mean, with_article
from engine.expr import RESERVED, Group, Links, Party, Share
from engine.packs import Document, Form, Loc, Text, fit
from engine.packs.durations import Duration
from engine.schema import FieldDef

_NAME = Form("[a-z][a-z0-9_]*", "write small letters, digits and '_', beginning with a letter, such as buyer_group")
Texts = Text | Annotated[list[Text], Field(min_length=1, max_length=32)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShareText(_Model):
    """Kinds of event, and the identifiers in them that are the account's own."""

    of: Texts = Field(description="a kind of event, or several")
    by: Texts = Field(description="the fields that identify: a device, a card, an address, a phone …")


class PartyText(_Model):
    """One sort of accounts."""

    account: Text = Field(description="the field that names an account, such as buyer.account")
    shares: list[ShareText] = Field(
        min_length=1, max_length=32, description="where the identifiers of an account stand"
    )


class LinksPack(_Model):
    """A file of links. Accounts of all its groups are linked with each other."""

    links: Annotated[Text, _NAME] = Field(max_length=64, description="its name")
    about: Text = Field(min_length=1, max_length=2000, description="who may stand behind several accounts")
    owner: Text = Field(min_length=1, max_length=120, description="who answers for it")
    within: Duration = Field(description="how long a link lasts after the last event that shows it")
    hub: int = Field(default=20, strict=True, ge=2, le=100, description="an identifier of more accounts joins none")
    accounts: int = Field(default=200, strict=True, ge=2, le=1000, description="a group of more accounts is unknown")
    steps: int | None = Field(default=None, strict=True, ge=1, le=20, description="how many identifiers far it reaches")
    groups: dict[Annotated[Text, _NAME], PartyText] = Field(
        min_length=1, max_length=8, description="the name that conditions use → one sort of accounts"
    )


@dataclass
class LinksReader:
    """Reads the files of links against the fields of each kind; problems pile up.

    `lost` are names of groups that could not be read: nobody says that they are not there.
    """

    kinds: Mapping[str, Mapping[str, FieldDef]]
    problems: list[Problem]
    lost: frozenset[str] = field(default=frozenset())

    def groups(self, documents: Iterable[Document]) -> dict[str, Group]:
        """The groups of all files by name."""
        found: dict[str, Group] = {}
        files: dict[str, Document] = {}
        for document in documents:
            fits = fit(document, LinksPack)
            before = len(self.problems)
            self.problems.extend(fits.problems)
            if fits.pack is not None:
                self.problems.extend(fits.beyond(self._problems(fits.document, fits.pack, found)))
                name = str(fits.pack.links)
                if name in files:
                    what = f"there are links named '{name}' already"
                    self.problems.append(document.problem(("links",), what, f"in {files[name].file}"))
                files[name] = document
            if fits.pack is None or len(self.problems) > before:
                written = document.data.get("groups") if isinstance(document.data, dict) else None
                self.lost |= frozenset(map(str, written)) if isinstance(written, dict) else frozenset()
                continue
            found |= self._groups(fits.pack)
        return found

    def _groups(self, pack: LinksPack) -> dict[str, Group]:
        spaces = {name: self._space(party) for name, party in pack.groups.items()}
        parties = tuple(
            Party(str(party.account), spaces[name], tuple(_share(share) for share in party.shares))
            for name, party in pack.groups.items()
        )
        links = Links(parties, pack.within, pack.hub, pack.accounts, pack.steps or 0)
        return {
            str(name): Group(str(name), str(party.account), spaces[name], links) for name, party in pack.groups.items()
        }

    def _space(self, party: PartyText) -> str:
        """The namespace that accounts of this path are of; a public path is one of its own."""
        account = str(party.account)
        definition = self.kinds[_listed(party.shares[0].of)[0]][account]
        return definition.entity or account

    def _problems(self, document: Document, pack: LinksPack, found: Mapping[str, Group]) -> list[Problem]:
        fields = {path: each for kind in self.kinds.values() for path, each in kind.items()}
        problems: list[Problem] = []
        accounts: dict[str, str] = {}
        for name, party in pack.groups.items():
            loc: Loc = ("groups", str(name))
            taken = "a field of events" if name in fields else "a word of the language" if name in RESERVED else ""
            taken = "a group of another file" if name in found else taken
            if taken:
                problems.append(document.problem(loc, f"'{name}' is already {taken}", "choose another name", key=True))
            known = self._account(document, (*loc, "account"), party.account, fields, problems)
            if known and accounts.setdefault(str(party.account), str(name)) != name:
                what = f"{party.account} is the account of {accounts[str(party.account)]} already"
                problems.append(document.problem((*loc, "account"), what, "add its shares there"))
                known = False
            for at, share in enumerate(party.shares):
                self._share(document, (*loc, "shares", at), share, party.account if known else None, problems)
        return problems

    def _account(
        self, document: Document, loc: Loc, account: Text, fields: Mapping[str, FieldDef], problems: list[Problem]
    ) -> bool:
        definition = fields.get(account)
        if definition is None:
            problems.append(document.problem(loc, f"unknown field '{account}'", did_you_mean(account, fields)))
        elif definition.type != "text" or (definition.privacy != "public" and not definition.entity):
            hint = "such as buyer.account or merchant.id"
            problems.append(document.problem(loc, f"{account} does not name an account", hint))
        else:
            return True
        return False

    def _share(
        self, document: Document, loc: Loc, share: ShareText, account: Text | None, problems: list[Problem]
    ) -> None:
        kinds = []
        for place, kind in _placed((*loc, "of"), share.of):
            if kind not in self.kinds:
                hint = did_you_mean(kind, self.kinds) or "one of: " + ", ".join(self.kinds)
                problems.append(document.problem(place, f"there is no kind of event '{kind}'", hint))
            elif account is not None and account not in self.kinds[kind]:
                what = f"{with_article(kind)} has no {account}, so it shows nothing that is its own"
                problems.append(document.problem(place, what, "take it out"))
            else:
                kinds.append(str(kind))
        # Where a kind is wrong nobody knows which fields were meant: then those of any kind will do.
        whole = len(kinds) == len(_listed(share.of))
        known = {path: each for kind in (kinds if whole else self.kinds) for path, each in self.kinds[kind].items()}
        for place, path in _placed((*loc, "by"), share.by):
            if path not in known:
                what = f"no {' or '.join(kinds)} has a field '{path}'"
                problems.append(document.problem(place, what, did_you_mean(path, known)))
            elif not known[path].entity:
                hint = "link by what docs/events.md says is linked by a namespace, such as device.id"
                problems.append(document.problem(place, f"{path} identifies nobody, so it cannot link accounts", hint))


def _share(share: ShareText) -> Share:
    return Share(tuple(sorted(set(_listed(share.of)))), tuple(sorted(set(_listed(share.by)))))


def _listed(texts: Texts) -> list[str]:
    return [str(texts)] if isinstance(texts, str) else list(map(str, texts))


def _placed(loc: Loc, texts: Texts) -> list[tuple[Loc, Text]]:
    """Each text with its place."""
    if isinstance(texts, Text):
        return [(loc, texts)]
    return [((*loc, at), each) for at, each in enumerate(texts)]
