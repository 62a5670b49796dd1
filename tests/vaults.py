"""A vault over a ledger's tables, as a server has it."""

from __future__ import annotations

from engine.database import Database
from engine.vault import KeyFile, Services, TenantKeys, Vault
from engine.vault.services import FileService


async def vault_over(database: Database, keys: KeyFile, *tenants: str) -> Vault:
    """A vault whose tenant keys lie in `database`, wrapped by the key file; it can seal for `tenants`."""
    vault = Vault(keys, TenantKeys(database, Services(FileService(keys))))
    for tenant in tenants:
        await vault.ready(tenant)
    return vault
