"""One contract for all key services, over real clients that talk HTTP to strict stand-ins; and what each adds to it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.errors import SettingsError, Unavailable, VaultError
from engine.vault import KeyFile, Services, open_services
from engine.vault.services import FileService, KeyService, Wrapped, aws, check_service, transit
from engine.vault.tenants import context_of
from tests.keyservers import FakeKms, FakeTransit, KeyServer

SECRET = bytes(range(32))
CONTEXT = context_of("shop-a", 1)


@dataclass
class Kept:
    """A key service, and what can happen to it."""

    service: KeyService
    rotate: Callable[[], None]
    """A new key, or version of it, wraps from now on; what the old one wrapped still opens."""
    delete: Callable[[], None]
    """All keys that wrapped so far open nothing any more."""
    server: KeyServer | None = None
    deny: Callable[[], None] = lambda: None
    """Our credentials are not taken any more."""

    @property
    def remote(self) -> KeyServer:
        assert self.server is not None
        return self.server


def file_kept(tmp_path: Path) -> Kept:
    path = tmp_path / "keys.json"
    keys = KeyFile.create(path)

    def change(work: Callable[[dict[str, Any]], None]) -> None:
        text = json.loads(path.read_text())
        work(text)
        path.write_text(json.dumps(text))
        kept.service = FileService(KeyFile.read(path), path)

    def rotate() -> None:
        name = f"kek-{os.urandom(4).hex()}"
        change(lambda text: text.update(kek=name, keks={**text["keks"], name: text["digest_key"]}))

    def delete() -> None:
        name = f"kek-{os.urandom(4).hex()}"
        change(lambda text: text.update(kek=name, keks={name: text["digest_key"]}))

    kept = Kept(FileService(keys, path), rotate, delete)
    return kept


def kms_kept(kms: FakeKms, monkeypatch: pytest.MonkeyPatch) -> Kept:
    for name, value in kms.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(aws, "SECONDS", 0.4)

    def delete() -> None:
        for key in kms.keys.values():
            key.state = "PendingDeletion"

    def deny() -> None:
        kms.secret = "another/secret"

    return Kept(aws.AwsKms("alias/arbiter"), lambda: void(kms.make("alias/arbiter")), delete, kms, deny)


def transit_kept(vault: FakeTransit, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setattr(transit, "SECONDS", 0.4)
    monkeypatch.setattr(transit, "_PAUSE", 0.0)
    key = vault.keys["arbiter"]

    def deny() -> None:
        vault.token = "another"

    def rotate() -> None:
        key.versions[key.latest + 1] = os.urandom(32)

    service = transit.VaultTransit(vault.address, "transit", "arbiter", lambda: vault.environ["VAULT_TOKEN"])
    return Kept(service, rotate, lambda: void(vault.keys.pop("arbiter")), vault, deny)


@contextmanager
def used(kept: Kept) -> Iterator[Kept]:
    """Its connections are given back at the end."""
    try:
        yield kept
    finally:
        kept.service.close()


def void(_: object) -> None:
    """Some calls give what nobody wants."""


def kept_by(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: ExitStack) -> Kept:
    if name == "file":
        return file_kept(tmp_path)
    if name == "aws-kms":
        return kms_kept(stack.enter_context(FakeKms()), monkeypatch)
    return transit_kept(stack.enter_context(FakeTransit()), monkeypatch)


@pytest.fixture(params=["file", "aws-kms", "vault-transit"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """Each of them in turn."""
    with ExitStack() as stack:
        yield stack.enter_context(used(kept_by(request.param, tmp_path, monkeypatch, stack)))


@pytest.fixture(params=["aws-kms", "vault-transit"])
def remote(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """Each that is somewhere else."""
    with ExitStack() as stack:
        yield stack.enter_context(used(kept_by(request.param, tmp_path, monkeypatch, stack)))


# -------------------------------------------------------------------------------------------- the contract


def test_what_is_wrapped_opens_under_its_context(kept: Kept) -> None:
    wrapped = kept.service.wrap(SECRET, CONTEXT)

    assert wrapped.key == kept.service.current()
    assert wrapped.key.startswith(f"{kept.service.name}:")
    assert SECRET not in wrapped.data
    assert kept.service.unwrap(wrapped, dict(reversed(CONTEXT.items()))) == SECRET
    assert kept.service.wrap(SECRET, CONTEXT).data != wrapped.data


@pytest.mark.parametrize(
    "other",
    [
        context_of("shop-b", 1),
        context_of("shop-a", 2),
        {**CONTEXT, "purpose": "something else"},
        {name: value for name, value in CONTEXT.items() if name != "version"},
        {**CONTEXT, "more": ""},
    ],
)
def test_another_context_opens_nothing(kept: Kept, other: dict[str, str]) -> None:
    """A tenant's key moved to another tenant, version or purpose fails closed; it cannot be rewrapped there either."""
    wrapped = kept.service.wrap(SECRET, CONTEXT)
    for call in (kept.service.unwrap, kept.service.rewrap):
        with pytest.raises(VaultError, match="moved or altered"):
            call(wrapped, other)


@pytest.mark.parametrize("how", ["turned", "cut", "empty", "no text"])
def test_an_altered_secret_opens_nothing(kept: Kept, how: str) -> None:
    wrapped = kept.service.wrap(SECRET, CONTEXT)
    data = wrapped.data
    middle = len(data) - 10
    forms = {
        "turned": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "cut": data[:-5],
        "empty": b"",
        "no text": b"\xff\xfe" + data,
    }
    with pytest.raises(VaultError):
        kept.service.unwrap(wrapped._replace(data=forms[how]), CONTEXT)


def test_after_a_rotation_old_secrets_open_and_move_to_the_new_key(kept: Kept) -> None:
    old = kept.service.wrap(SECRET, CONTEXT)
    kept.rotate()
    moved = kept.service.rewrap(old, CONTEXT)

    assert kept.service.unwrap(old, CONTEXT) == SECRET
    assert moved.key == kept.service.current() != old.key
    assert kept.service.unwrap(moved, CONTEXT) == SECRET


def test_what_a_deleted_key_wrapped_is_gone(kept: Kept) -> None:
    """The end of an installation, or of a tenant with a key of its own: deleting the key is erasure."""
    wrapped = kept.service.wrap(SECRET, CONTEXT)
    kept.delete()
    for call in (kept.service.unwrap, kept.service.rewrap):
        with pytest.raises(VaultError, match="deleted, disabled or unknown"):
            call(wrapped, CONTEXT)


def test_no_error_shows_the_secret(kept: Kept) -> None:
    wrapped = kept.service.wrap(SECRET, CONTEXT)
    kept.delete()
    with pytest.raises(VaultError) as caught:
        kept.service.unwrap(wrapped, CONTEXT)
    assert all(form not in str(caught.value) for form in (SECRET.hex(), wrapped.data.decode("latin-1")))


# ---------------------------------------------------------------------------------------- over a network


def check_unavailable(kept: Kept, wrapped: Wrapped, what: str) -> None:
    """Every call fails as one that may be repeated, and says why."""
    calls: list[Callable[[], object]] = [
        kept.service.current,
        lambda: kept.service.wrap(SECRET, CONTEXT),
        lambda: kept.service.unwrap(wrapped, CONTEXT),
        lambda: kept.service.rewrap(wrapped, CONTEXT),
    ]
    for call in calls:
        with pytest.raises(Unavailable, match=what) as caught:
            call()
        assert caught.value.reason == "keys_unavailable"


def test_a_call_that_is_throttled_is_tried_again(remote: Kept) -> None:
    wrapped = remote.service.wrap(SECRET, CONTEXT)
    remote.remote.busy = 2
    assert remote.service.unwrap(wrapped, CONTEXT) == SECRET


def test_a_service_that_keeps_throttling_is_unavailable(remote: Kept) -> None:
    wrapped = remote.service.wrap(SECRET, CONTEXT)
    remote.remote.busy = 1_000
    check_unavailable(remote, wrapped, "too busy")


def test_a_service_that_is_away_is_unavailable(remote: Kept) -> None:
    wrapped = remote.service.wrap(SECRET, CONTEXT)
    remote.remote.stop()
    check_unavailable(remote, wrapped, "does not answer")


def test_a_service_that_is_too_slow_is_unavailable(remote: Kept) -> None:
    wrapped = remote.service.wrap(SECRET, CONTEXT)
    remote.remote.slow = 0.7
    with pytest.raises(Unavailable, match="does not answer"):
        remote.service.unwrap(wrapped, CONTEXT)


def test_a_slow_answer_in_time_is_taken(remote: Kept) -> None:
    wrapped = remote.service.wrap(SECRET, CONTEXT)
    remote.remote.slow = 0.1
    assert remote.service.unwrap(wrapped, CONTEXT) == SECRET


def test_wrong_credentials_are_told_apart(remote: Kept) -> None:
    """They are asked for once: an account is not locked by trying again."""
    wrapped = remote.service.wrap(SECRET, CONTEXT)
    remote.deny()
    before = len(remote.remote.calls)
    check_unavailable(remote, wrapped, "does not take our credentials")
    assert len(remote.remote.calls) == before + 4


# ------------------------------------------------------------------------------------ one service's own ways


def test_a_disabled_key_of_aws_opens_nothing_until_it_is_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeKms() as kms, used(kms_kept(kms, monkeypatch)) as kept:
        wrapped = kept.service.wrap(SECRET, CONTEXT)
        kms.keys["key-1"].state = "Disabled"
        with pytest.raises(VaultError, match="deleted, disabled"):
            kept.service.unwrap(wrapped, CONTEXT)
        kms.keys["key-1"].state = "Enabled"
        assert kept.service.unwrap(wrapped, CONTEXT) == SECRET


def test_a_secret_under_another_key_of_aws_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row names the key, and AWS is asked for that one."""
    with FakeKms() as kms, used(kms_kept(kms, monkeypatch)) as kept:
        wrapped = kept.service.wrap(SECRET, CONTEXT)
        kept.rotate()
        with pytest.raises(VaultError, match="moved or altered"):
            kept.service.unwrap(wrapped._replace(key=kept.service.current()), CONTEXT)


def test_without_credentials_aws_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeKms() as kms:
        for name, value in kms.environ.items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", "/nonexistent")
        with closing(aws.AwsKms("alias/arbiter")) as service, pytest.raises(Unavailable, match="no credentials"):
            service.current()
        assert kms.calls == []


def test_without_a_region_aws_cannot_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(SettingsError, match="boto3 cannot speak to AWS KMS: You must specify a region"):
        aws.AwsKms("alias/arbiter")


def test_a_transit_key_that_is_not_derived_is_refused() -> None:
    """Vault would take no notice of the context: nothing would bind a wrapped key to its tenant."""
    with (
        FakeTransit() as vault,
        closing(transit.VaultTransit(vault.address, "transit", "plain", lambda: vault.token)) as service,
    ):
        for call in (service.current, lambda: service.wrap(SECRET, CONTEXT)):
            with pytest.raises(VaultError, match="not derived"):
                call()
        assert vault.calls == ["keys", "keys"]


def test_a_version_below_the_minimum_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeTransit() as vault, used(transit_kept(vault, monkeypatch)) as kept:
        wrapped = kept.service.wrap(SECRET, CONTEXT)
        kept.rotate()
        vault.keys["arbiter"].minimum = 2
        with pytest.raises(VaultError, match="deleted, disabled"):
            kept.service.unwrap(wrapped, CONTEXT)


def test_a_sealed_vault_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeTransit() as vault, used(transit_kept(vault, monkeypatch)) as kept:
        wrapped = kept.service.wrap(SECRET, CONTEXT)
        vault.sealed = True
        check_unavailable(kept, wrapped, "too busy to answer .status 503.")


def test_a_token_that_was_renewed_is_read_anew(tmp_path: Path, keys: KeyFile) -> None:
    """Vault's agent writes the file `.vault-token` again; VAULT_TOKEN is not set then."""
    with FakeTransit() as vault:
        environ = {"VAULT_ADDR": vault.address, "HOME": str(tmp_path)}
        service = open_services("vault-transit:transit/arbiter", keys, None, environ).used
        with pytest.raises(Unavailable, match="credentials"):
            service.current()
        (tmp_path / ".vault-token").write_text(f"{vault.token}\n")
        wrapped = service.wrap(SECRET, CONTEXT)
        vault.token = "renewed"
        (tmp_path / ".vault-token").write_text("renewed")
        assert service.unwrap(wrapped, CONTEXT) == SECRET
        service.close()


def test_the_key_file_is_read_again_for_a_key_that_came_since(tmp_path: Path) -> None:
    """A running server meets what a rotation beside it wrapped."""
    kept = file_kept(tmp_path)
    running = kept.service
    kept.rotate()
    assert running.unwrap(kept.service.wrap(SECRET, CONTEXT), CONTEXT) == SECRET


def test_another_ledgers_key_file_in_its_place_is_not_taken(tmp_path: Path, keys: KeyFile, key_path: Path) -> None:
    path = tmp_path / "keys.json"
    service = FileService(KeyFile.create(path), path)
    wrapped = FileService(keys).wrap(SECRET, CONTEXT)
    path.write_bytes(key_path.read_bytes())
    with pytest.raises(VaultError, match="deleted, disabled or unknown"):
        service.unwrap(wrapped, CONTEXT)


# ------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("file", ("file", "")),
        ("aws-kms:alias/arbiter", ("aws-kms", "alias/arbiter")),
        ("aws-kms:arn:aws:kms:r:1:key/1", ("aws-kms", "arn:aws:kms:r:1:key/1")),
        ("vault-transit:transit/arbiter", ("vault-transit", "transit/arbiter")),
        ("vault-transit:teams/risk/transit/arbiter", ("vault-transit", "teams/risk/transit/arbiter")),
    ],
)  # fmt: skip
def test_a_setting_names_a_service_and_its_key(said: str, meant: tuple[str, str]) -> None:
    assert check_service(said) == meant


@pytest.mark.parametrize("said", ["", "files", "file:x", "aws-kms", "aws-kms:", "vault-transit:arbiter", "gcp-kms:x"])
def test_a_setting_that_names_none_is_refused(said: str) -> None:
    with pytest.raises(SettingsError, match=r"ARBITER_KEY_SERVICE has the value .* write file, aws-kms:KEY"):
        check_service(said)


def test_transit_needs_an_address(keys: KeyFile) -> None:
    with pytest.raises(SettingsError, match="needs VAULT_ADDR"):
        open_services("vault-transit:transit/arbiter", keys, None, {})


def test_a_service_takes_over_from_the_key_file(tmp_path: Path, keys: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the key file wrapped opens as before, and moves to the service that is set now; never back by itself."""
    file = FileService(keys)
    before = file.wrap(SECRET, CONTEXT)
    with ExitStack() as stack:
        vault = stack.enter_context(FakeTransit())
        services = stack.enter_context(closing(Services(file, transit_kept(vault, monkeypatch).service)))
        assert services.unwrap(before, CONTEXT) == SECRET
        moved = services.move(before, CONTEXT)
        assert moved.key == "vault-transit:transit/arbiter/v1"
        assert services.unwrap(moved, CONTEXT) == SECRET
        back = Services(file, before=services.used)
        assert file.unwrap(back.move(moved, CONTEXT), CONTEXT) == SECRET
    with pytest.raises(VaultError, match="'vault-transit', and ARBITER_KEY_SERVICE names another one"):
        Services(file).unwrap(moved, CONTEXT)
