"""A process that appends to a ledger as fast as it can and prints each event id once it has its receipt.

    python -m tests.appender URL KEY_FILE TENANT

Its parent kills it at some moment and then looks for what it printed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from itertools import count
from pathlib import Path

from engine.ledger import Entry, Ledger, new_id
from engine.vault import KeyFile
from tests.vaults import vault_over

CLIENTS = 16


async def append_for_ever(url: str, keys: KeyFile, tenant: str) -> None:
    ledger = await Ledger.open(url, keys)
    vault, numbers = await vault_over(ledger.database, keys, tenant), count()

    async def client() -> None:
        for number in numbers:
            event, record = f"ev-{number}", new_id()
            subject = vault.pseudonym(tenant, "account", f"u-{number % 50}")
            cell = vault.seal(tenant, record, subject, event.encode())
            leaf = f'{{"event":"{event}","padding":"{"x" * 900}"}}'.encode()
            entry = Entry(
                record, tenant, "decision", event, "transaction", 1, 1, leaf, (cell,), (("card.ref", subject),)
            )
            await ledger.append(entry)
            # Straight to the pipe: the parent may kill us right after.
            os.write(1, f"{event}\n".encode())

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


if __name__ == "__main__":
    asyncio.run(append_for_ever(sys.argv[1], KeyFile.read(Path(sys.argv[2])), sys.argv[3]))
