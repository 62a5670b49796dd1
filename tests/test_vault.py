"""The vault: what it seals opens only where it was sealed, and its key file is refused when anything is odd."""

from __future__ import annotations

import hmac
import json
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.errors import SettingsError, VaultError
from engine.jcs import canonical
from engine.vault import Erased, KeyFile, Sealed, SubjectKey, Vault, commit, derive, sealing

PERSON = '{"buyer.name":"张三","buyer.email":"san@example.com"}'.encode()
SUBJECT, OTHER = "11" * 16, "22" * 16


@pytest.fixture
def vault(keys: KeyFile) -> Vault:
    return Vault.unkept(keys)


def test_what_is_sealed_opens_again(vault: Vault) -> None:
    """A cell opens to the bytes that went in, and shows none of them."""
    cell = vault.seal("shop", "record", SUBJECT, PERSON)

    assert vault.open(cell) == PERSON
    assert b"example" not in cell.ciphertext
    assert cell.ciphertext[:2] == b"\x02\x01"
    assert cell.ciphertext[2:18] == cell.key_id
    assert len(cell.ciphertext) == 2 + 16 + 12 + len(PERSON) + 16


def test_two_seals_of_the_same_differ(vault: Vault) -> None:
    """A fresh nonce each time: equal data does not look equal."""
    one, two = (vault.seal("shop", "record", SUBJECT, PERSON) for _ in range(2))

    assert one.key_id == two.key_id
    assert one.ciphertext != two.ciphertext


MOVES: dict[str, Callable[[Sealed, Sealed], Sealed]] = {
    "another tenant": lambda cell, _: replace(cell, tenant="mall"),
    "another table": lambda cell, _: replace(cell, table="dispute"),
    "another record": lambda cell, _: replace(cell, record="record2"),
    "another subject": lambda cell, _: replace(cell, subject=OTHER),
    "another key's id": lambda cell, other: replace(cell, key_id=other.key_id),
    "another key": lambda cell, other: replace(cell, key=other.key, key_id=other.key_id),
    "another cell's ciphertext": lambda cell, other: replace(cell, ciphertext=other.ciphertext),
    "one bit turned": lambda cell, _: replace(cell, ciphertext=cell.ciphertext[:-1] + bytes([cell.ciphertext[-1] ^ 1])),
    "another nonce": lambda cell, _: replace(cell, ciphertext=cell.ciphertext[:18] + bytes(12) + cell.ciphertext[30:]),
    "a format of the future": lambda cell, _: replace(cell, ciphertext=b"\x03" + cell.ciphertext[1:]),
    "an older format": lambda cell, _: replace(cell, ciphertext=b"\x01" + cell.ciphertext[1:]),
    "another algorithm": lambda cell, _: replace(cell, ciphertext=b"\x02\x02" + cell.ciphertext[2:]),
    "cut short": lambda cell, _: replace(cell, ciphertext=cell.ciphertext[:20]),
    "nothing": lambda cell, _: replace(cell, ciphertext=b""),
}


@pytest.mark.parametrize("move", MOVES)
def test_a_moved_or_altered_cell_does_not_open(vault: Vault, move: str) -> None:
    """A ciphertext is bound to tenant, table, record, subject and key; anything else fails closed."""
    cell, other = vault.seal("shop", "record", SUBJECT, PERSON), vault.seal("shop", "record", OTHER, PERSON)

    with pytest.raises(VaultError) as caught:
        vault.open(MOVES[move](cell, other))
    assert not isinstance(caught.value, Erased)
    assert "example" not in str(caught.value)


def test_fields_do_not_run_into_each_other(vault: Vault) -> None:
    """Lengths stand before the parts: 'ab' + 'c' is not 'a' + 'bc'."""
    cell = vault.seal("ab", "c", SUBJECT, PERSON)

    with pytest.raises(VaultError):
        vault.open(replace(cell, tenant="a", record="bc"))


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "mall"},
        {"subject": OTHER},
        {"wrapped": b""},
        {"wrapped": b"\x02\x01" + bytes(60)},
        {"kek": "kek-unknown"},
        {"kek": "tenant/2"},
        {"under": None},
    ],
)
def test_a_moved_or_altered_key_row_does_not_unwrap(keys: KeyFile, vault: Vault, change: dict[str, Any]) -> None:
    """A wrapped key is bound to its tenant, subject, id and key-encryption key."""
    cell = vault.seal("shop", "record", SUBJECT, PERSON)
    assert cell.key is not None

    with pytest.raises(VaultError):
        Vault.unkept(keys).open(replace(cell, key=replace(cell.key, **change)))


def test_an_erased_key_is_told_apart(vault: Vault) -> None:
    """Without its key row a cell is Erased, also for a process that still holds the key."""
    cell = vault.seal("shop", "record", SUBJECT, PERSON)

    with pytest.raises(Erased):
        vault.open(replace(cell, key=None))


def test_another_process_opens_with_the_stored_key(keys: KeyFile, vault: Vault) -> None:
    """All that is needed beside the key file is the row that travels with the cell."""
    cell = vault.seal("shop", "record", SUBJECT, PERSON)

    assert Vault.unkept(keys).open(cell) == PERSON


def test_each_subject_has_keys_of_its_own(vault: Vault) -> None:
    """One person's key opens nothing of another's, and is used again for the same person."""
    one, again, other = (vault.seal("shop", "r", subject, PERSON) for subject in (SUBJECT, SUBJECT, OTHER))

    assert one.key is again.key
    assert one.key_id != other.key_id


def test_a_forgotten_subject_gets_a_new_key(vault: Vault) -> None:
    """After `forget` nothing is sealed under the key that may be erased."""
    before = vault.seal("shop", "r", SUBJECT, PERSON)
    vault.forget("shop", SUBJECT)

    assert vault.seal("shop", "r", SUBJECT, PERSON).key_id != before.key_id


def test_keys_are_held_in_bounds(keys: KeyFile) -> None:
    """A vault holds at most `capacity` keys each way; a subject that fell out gets one more key, and all cells open."""
    vault = Vault.unkept(keys, capacity=2)
    cells = [vault.seal("shop", "r", f"{number:032x}", PERSON) for number in (1, 2, 3, 1)]

    assert cells[0].key_id != cells[3].key_id
    assert [vault.open(cell) for cell in cells] == [PERSON] * 4


def test_a_key_seals_for_a_limited_time_and_number(keys: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """After SEALS_PER_KEY uses or KEY_SECONDS a subject gets a new key."""
    vault = Vault.unkept(keys)
    monkeypatch.setattr(sealing, "SEALS_PER_KEY", 2)
    ids = [vault.seal("shop", "r", SUBJECT, PERSON).key_id for _ in range(3)]
    assert ids[0] == ids[1] != ids[2]

    monkeypatch.setattr(sealing, "KEY_SECONDS", -1)
    assert len({vault.seal("shop", "r", OTHER, PERSON).key_id for _ in range(2)}) == 2


def test_a_pseudonym_names_one_value_in_one_place(vault: Vault) -> None:
    """The same value in the same namespace and tenant gives the same 32 hex digits; nothing else does."""
    names = [
        vault.pseudonym("shop", "account", "u-1"),
        vault.pseudonym("mall", "account", "u-1"),
        vault.pseudonym("shop", "card", "u-1"),
        vault.pseudonym("shop", "account", "u-2"),
        vault.pseudonym("shop", "account", ""),
        vault.pseudonym("shop", "account", "张三"),
    ]

    assert len(set(names)) == len(names)
    assert all(len(bytes.fromhex(name)) == 16 for name in names)
    assert names[0] == vault.pseudonym("shop", "account", "u-1")


def test_a_pseudonym_is_the_documented_hmac(keys: KeyFile, vault: Vault) -> None:
    """The fast form with padded keys hashed beforehand equals HMAC-SHA-256 of 'namespace|value'."""
    key = derive.derive(keys.pseudonym_key, "pseudonym", "shop")

    expected = hmac.digest(key, b"phone|13800138000", "sha256")[:16].hex()
    assert vault.pseudonym("shop", "phone", "13800138000") == expected


def test_pseudonyms_depend_on_the_key_file(vault: Vault, tmp_path: Path) -> None:
    """Another installation's pseudonyms cannot be matched with ours."""
    other = Vault.unkept(KeyFile.create(tmp_path / "keys"))

    assert other.pseudonym("shop", "account", "u-1") != vault.pseudonym("shop", "account", "u-1")


def test_a_digest_tells_bodies_apart(vault: Vault) -> None:
    """The digest of a body is the same for a retry and differs by tenant, id and body."""
    given = [("shop", "e1", b"body"), ("mall", "e1", b"body"), ("shop", "e2", b"body"), ("shop", "e1", b"other")]
    digests = {vault.digest(*one) for one in given}

    assert len(digests) == 4
    assert vault.digest(*given[0]) in digests
    assert vault.digest("shop", "e", b"1body") != vault.digest("shop", "e1", b"body")


def test_a_commitment_opens_with_its_salt_only() -> None:
    """HMAC-SHA-256 under the salt over the JCS bytes: order does not matter, salt and values do."""
    salt, fields = bytes(range(32)), canonical({"b": "2", "a": "1"})

    assert commit(salt, fields) == hmac.digest(salt, b'{"a":"1","b":"2"}', "sha256").hex()
    assert commit(salt, fields) != commit(bytes(32), fields)
    assert commit(salt, fields) != commit(salt, canonical({"a": "1", "b": "3"}))


# -------------------------------------------------------------------------------------------- key file


def test_a_new_key_file_is_private_and_reads_back(tmp_path: Path) -> None:
    """Created with mode 0600 whatever the umask; its text shows no key in `repr`."""
    before = os.umask(0)
    try:
        made = KeyFile.create(tmp_path / "keys", "audit.example.com/decisions")
    finally:
        os.umask(before)

    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o600
    assert KeyFile.read(tmp_path / "keys") == made
    assert repr(made) == f"KeyFile(log='audit.example.com/decisions', kek={made.kek!r})"
    assert made.signer.key_id.startswith("audit.example.com/decisions+")


def test_an_existing_key_file_is_never_overwritten(tmp_path: Path) -> None:
    """Losing keys is losing data."""
    KeyFile.create(tmp_path / "keys")
    with pytest.raises(SettingsError, match="never overwritten"):
        KeyFile.create(tmp_path / "keys")


def test_a_key_file_in_no_folder_is_refused(tmp_path: Path) -> None:
    """The reason names the file."""
    with pytest.raises(SettingsError, match="cannot write the key file"):
        KeyFile.create(tmp_path / "nowhere" / "keys")


def test_a_missing_key_file_is_refused(tmp_path: Path) -> None:
    """The reason says what to do."""
    with pytest.raises(SettingsError, match="does not exist; restore it"):
        KeyFile.read(tmp_path / "keys")
    with pytest.raises(SettingsError, match="cannot read"):
        KeyFile.read(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_key_file_others_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    """The reason holds the command that mends it."""
    KeyFile.create(tmp_path / "keys")
    (tmp_path / "keys").chmod(mode)
    with pytest.raises(SettingsError, match=r"run: chmod 600 .*keys"):
        KeyFile.read(tmp_path / "keys")


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a list": (lambda _: [], "not a JSON object"),
    "a format of the future": (lambda text: {**text, "format": 2}, "format is not 1"),
    "an unknown part": (lambda text: {**text, "spare": ""}, "missing or unknown: spare"),
    "no signing seed": (
        lambda text: text | {} if text.pop("signing_seed") else None,
        "missing or unknown: signing_seed",
    ),
    "no keks": (lambda text: {**text, "keks": {}}, "at least one key"),
    "an unknown kek": (lambda text: {**text, "kek": "kek-9"}, "'kek' names a key that 'keks' does not hold"),
    "a short key": (lambda text: {**text, "digest_key": "AAAA"}, "'digest_key' must be 32 bytes"),
    "a key that is no base64": (lambda text: {**text, "pseudonym_key": "§" * 44}, "'pseudonym_key' must be 32 bytes"),
    "a key that is a number": (lambda text: {**text, "digest_key": 7}, "'digest_key' must be 32 bytes"),
    "a short kek": (lambda text: {**text, "keks": {text["kek"]: "AAAA"}}, "must be 32 bytes"),
    "a log with a space": (lambda text: {**text, "log": "my log"}, "must be a name"),
    "a log with a plus": (lambda text: {**text, "log": "a+b"}, "must be a name"),
    "a log that is a number": (lambda text: {**text, "log": 1}, "must be a name"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_key_file_is_refused_without_showing_keys(tmp_path: Path, what: str) -> None:
    """Each reason names what is wrong and what to do, and repeats no secret."""
    path = tmp_path / "keys"
    KeyFile.create(path)
    change, reason = WRONG[what]
    text = json.loads(path.read_text())
    secret = text["pseudonym_key"]
    path.write_text(json.dumps(change(text)))

    with pytest.raises(SettingsError, match=reason) as caught:
        KeyFile.read(path)
    assert "restore the file from its backup" in str(caught.value)
    assert secret not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b'{"format": 1}' + b" " * 1_000_001])
def test_a_file_that_is_no_key_file_is_refused(tmp_path: Path, data: bytes) -> None:
    """Broken, empty and endless files too."""
    path = tmp_path / "keys"
    KeyFile.create(path)
    path.write_bytes(data)
    with pytest.raises(SettingsError):
        KeyFile.read(path)


def test_an_old_kek_still_opens(tmp_path: Path) -> None:
    """After a new key-encryption key is made current, data under the old one opens and new keys use the new one."""
    path = tmp_path / "keys"
    old = Vault.unkept(KeyFile.create(path)).seal("shop", "r", SUBJECT, PERSON)
    text = json.loads(path.read_text())
    text["keks"]["kek-new"], text["kek"] = text["digest_key"], "kek-new"
    path.write_text(json.dumps(text))
    rotated = Vault.unkept(KeyFile.read(path))

    assert rotated.open(old) == PERSON
    new = rotated.seal("shop", "r", SUBJECT, PERSON)
    assert new.key is not None
    assert new.key.under is not None
    assert new.key.under.service == "file:kek-new"


# ------------------------------------------------------------------------------------- what was written before


def in_format_1(keys: KeyFile, tenant: str, record: str, subject: str, text: bytes, table: str = "sealed") -> Sealed:
    """A cell as the Arbiter before tenant keys wrote it, made here from its description in docs/record.md alone."""

    def framed(*parts: bytes) -> bytes:
        return b"".join(struct.pack(">I", len(part)) + part for part in parts)

    head, data_key, key_id, nonce, other = b"\x01\x01", bytes(range(32)), bytes(range(16)), b"n" * 12, b"o" * 12
    wrap_bound = framed(head, b"subject_key", tenant.encode(), subject.encode(), key_id, keys.kek.encode())
    wrapped = head + nonce + AESGCM(keys.keks[keys.kek]).encrypt(nonce, data_key, wrap_bound)
    bound = framed(head, tenant.encode(), table.encode(), record.encode(), subject.encode(), key_id)
    ciphertext = head + key_id + other + AESGCM(data_key).encrypt(other, text, bound)
    return Sealed(
        tenant, record, subject, key_id, ciphertext, SubjectKey(tenant, subject, key_id, keys.kek, wrapped, 1), table
    )


def test_what_format_1_sealed_still_opens(keys: KeyFile, vault: Vault) -> None:
    """Ledgers from before tenant keys go on: a data key under the key file, and a cell under that key itself."""
    assert vault.open(in_format_1(keys, "shop", "record", SUBJECT, PERSON)) == PERSON


@pytest.mark.parametrize("move", [name for name in MOVES if name not in ("an older format", "another key")])
def test_format_1_does_not_open_elsewhere_either(keys: KeyFile, vault: Vault, move: str) -> None:
    """Nor passed off as format 2."""
    cell, other = (in_format_1(keys, "shop", "record", subject, PERSON) for subject in (SUBJECT, OTHER))
    other = replace(other, key_id=b"x" * 16)
    with pytest.raises(VaultError):
        vault.open(MOVES[move](cell, other))
    with pytest.raises(VaultError):
        vault.open(replace(cell, ciphertext=b"\x02" + cell.ciphertext[1:]))


def test_each_use_has_a_key_of_its_own(keys: KeyFile) -> None:
    """A data key seals nothing itself: for each use HKDF (RFC 5869) gives another key, here by its definition."""
    secret, info = bytes(range(32)), b"\0\0\0\x0barbiter/use\0\0\0\x06sealed"

    assert derive.derive_use(secret, "sealed") == hmac.digest(secret, info + b"\x01", "sha256")
    assert len({secret, *(derive.derive_use(secret, use) for use in ("sealed", "restricted"))}) == 3
