"""Images of listings: what their bytes show, and which known images they look like. The only door to this package.

    reader = Reader()                                       a process of its own decodes what strangers send
    seen = await reader.look(body)                          SHA-256, size, hashes, detections, or what is broken
    index = Index([Reference("r1", "counterfeit", "acme-bag", seen.sha256, seen.hashes)])
    sight = sight_of({seen.sha256: seen}, [seen.sha256], index, at)       fields for conditions, and the evidence

The bytes themselves are never kept.
"""

from engine.images.hashing import BITS, HASH_BYTES, LIMIT, VIEWS, fingerprints
from engine.images.index import KINDS, Index, Match, Reference
from engine.images.reader import Reader
from engine.images.seen import BROKEN, Detection, Seen
from engine.images.sight import Sight, named_in, sight_of

__all__ = [
    "BITS",
    "BROKEN",
    "HASH_BYTES",
    "KINDS",
    "LIMIT",
    "VIEWS",
    "Detection",
    "Index",
    "Match",
    "Reader",
    "Reference",
    "Seen",
    "Sight",
    "fingerprints",
    "named_in",
    "sight_of",
]
