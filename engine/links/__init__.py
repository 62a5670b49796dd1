"""Links: which accounts share a device, a card, an address …, and so form groups.

A file with the key `links` declares the groups (`LinksReader`); conditions go by their names, as in
`count(last 30d by buyer_group, merchant.id)` and `linked(buyer_group, seller_group)`; `plan` says what one kind of
event adds to the links and asks of them.
"""

from engine.links.pack import LinksPack, LinksReader
from engine.links.plan import Asked, Linkage, LinkPlan, linkages

__all__ = ["Asked", "LinkPlan", "Linkage", "LinksPack", "LinksReader", "linkages"]
