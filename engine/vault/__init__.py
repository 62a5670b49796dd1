"""The vault: personal data as ciphertext, identities as pseudonyms, and the keys behind both.

    key service     one key that never leaves it (`services`: the key file, AWS KMS, or Vault's transit engine)
      tenant key    wrapped by the key service, in the table tenant_key (`tenants`)
        data key    one or several of each subject, wrapped by the tenant's key, in the table subject_key (`sealing`)
          use key   HKDF of the data key for one use, the table it seals for; stored nowhere (`derive`, `cells`)

Destroy the wrapped data keys of a subject and what they sealed is gone, in backups of the ciphertexts too. The secrets
behind pseudonyms, digests and signatures are another matter: they lie in the key file (`keyfile`, `names`).
"""

from engine.vault.cells import (
    DISPUTE,
    RESTRICTED,
    SEALED,
    Erased,
    Restricted,
    Sealed,
    SubjectKey,
    TenantKey,
    tenant_key_name,
)
from engine.vault.keyfile import SETTING, KeyFile
from engine.vault.names import PSEUDONYM_BYTES, Names, commit, subject_of
from engine.vault.sealing import KEY_SECONDS, Vault
from engine.vault.services import Services, check_service, open_services
from engine.vault.tenants import TenantKeys

__all__ = [
    "DISPUTE",
    "KEY_SECONDS",
    "PSEUDONYM_BYTES",
    "RESTRICTED",
    "SEALED",
    "SETTING",
    "Erased",
    "KeyFile",
    "Names",
    "Restricted",
    "Sealed",
    "Services",
    "SubjectKey",
    "TenantKey",
    "TenantKeys",
    "Vault",
    "check_service",
    "commit",
    "open_services",
    "subject_of",
    "tenant_key_name",
]
