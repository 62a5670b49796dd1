"""A mapping file: which columns of a table make which fields of an event, and which rows become outcomes.

    table = read_map(Path("orders.map.yaml"), schema)          PackError: every problem of the file
    table.check(["user_id", "purchase_time", "price"])         PackError: columns that the table does not have
    at, known = table.times(cells, row)                        when it happened, when its outcome becomes known
    event = table.event(cells, row)                            EventRefused: every reason, never a value
    table.beside(cells, row)                                   the merchant's tier, whether the order was refunded

Cells are text, as a CSV file has them, in the order of `table.columns`; None and "" are missing. Nothing is guessed:
a time without a zone, an amount without a currency, or a word that is neither yes nor no is refused.
"""

from engine.mapping.cells import Cells
from engine.mapping.pack import MapPack
from engine.mapping.table import Beside, Table, read_map

__all__ = ["Beside", "Cells", "MapPack", "Table", "read_map"]
