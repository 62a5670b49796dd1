"""Checks an export of an Arbiter log, and trusts nobody who made it: one file, Python's own library and `cryptography`.

    python verify.py DIR --key KEY                    KEY: the log's public key, from elsewhere than the export
    python verify.py DIR --against CHECKPOINT         a checkpoint kept from earlier, or from a witness

Exit code 0 only if all of it holds, 1 if anything does not, 2 if it could not be run. What is checked:

* the manifest, and with it every file, is signed by the log's key
* the lines of entries.jsonl are the leaves of the tree (RFC 6962) that the checkpoint signs, in this order, none taken
  out, put in, altered or moved; every other checkpoint in the export is of the same tree
* witnesses that you name with --witness signed it or an earlier one (C2SP tlog-cosignature); what came after that is
  said
* the tree goes on from the checkpoint that you name with --against
* the entries that your receipts (--receipt) promise are among them
* every rulebook that an entry names is there, and its files are those of that name

It imports nothing of Arbiter; whoever does not trust the copy in an export writes it anew from docs/audit.md.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = 1
MAX_LEAF = 65_535
LOG, WITNESS = 1, 4
RULEBOOK = re.compile(rb'"rulebook":"([0-9a-f]{64})","schema":"')


class Wrong(Exception):
    """What does not hold."""


class Unusable(Exception):
    """Why nothing can be checked."""


# ------------------------------------------------------------------------------------- keys and signatures


class Key:
    """A public key as C2SP signed-note writes it: name+id+base64."""

    def __init__(self, text: str) -> None:
        name, _, rest = text.strip().partition("+")
        named, _, encoded = rest.partition("+")
        try:
            data = b64decode(encoded, validate=True)
        except ValueError:
            data = b""
        if not name or len(data) != 33 or data[0] not in (LOG, WITNESS):
            raise Unusable(f"'{text[:60]}' is no key: it is written name+8 hex digits+base64")
        self.name, self.kind, self.text = name, data[0], text.strip()
        self.id = sha256(name.encode() + b"\n" + data).digest()[:4]
        if self.id.hex() != named:
            raise Unusable(f"the key of {name} was cut or altered: its id is not {named}")
        self.public = data[1:]
        self._key = Ed25519PublicKey.from_public_bytes(self.public)

    def verify(self, signature: bytes, signed: bytes) -> bool:
        """Whether this key made the signature."""
        try:
            self._key.verify(signature, signed)
        except InvalidSignature:
            return False
        return True

    def signed(self, note: str) -> str | None:
        """The text of a note that this key signed; None when it did not. Wrong: its signature does not hold."""
        text, empty, lines = note.rpartition("\n\n")
        text += "\n"
        if not empty or not lines.endswith("\n"):
            raise Wrong("it is no signed note")
        found: bytes | None = None
        for line in lines[:-1].split("\n"):
            name, _, encoded = line.removeprefix("\u2014 ").partition(" ")
            try:
                data = b64decode(encoded, validate=True)
            except ValueError:
                data = b""
            if not line.startswith("\u2014 ") or not name or len(data) <= 4:
                raise Wrong("a line below it is no signature")
            if (name, data[:4]) == (self.name, self.id):
                found = data[4:]
        if found is None:
            return None
        signature, signed = found, text.encode()
        if self.kind == WITNESS:
            seconds = int.from_bytes(signature[:8], "big")
            signature, signed = signature[8:], f"cosignature/v1\ntime {seconds}\n{text}".encode()
        if not self.verify(signature, signed):
            raise Wrong(f"the signature of {self.name} does not hold")
        return text


class Checkpoint:
    """So many entries, this root, signed by the log."""

    def __init__(self, note: str, key: Key) -> None:
        text = key.signed(note)
        if text is None:
            raise Wrong(f"{key.name} with the key {key.id.hex()} did not sign it: the log's key is another one")
        lines = text.split("\n")
        if len(lines) != 4 or lines[0] != key.name or not re.fullmatch(r"0|[1-9][0-9]{0,17}", lines[1]):
            raise Wrong("it is no checkpoint of this log")
        self.note, self.size, self.root = note, int(lines[1]), b64decode(lines[2])

    def __str__(self) -> str:
        return f"{self.size} entries, root {b64encode(self.root).decode()}"


# ------------------------------------------------------------------------------------------------ the tree


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962: an inner node."""
    return sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that grows; only the roots of its whole subtrees are kept."""

    def __init__(self) -> None:
        self.size = 0
        self.nodes: list[bytes] = []

    def add(self, level: int, node: bytes) -> None:
        """The next whole subtree of 2 ** level leaves."""
        if self.size & ((1 << level) - 1) or len(node) != 32:
            raise Wrong("tree.json does not describe a tree")
        at, self.size = self.size >> level, self.size + (1 << level)
        while at & 1:
            node, at = node_hash(self.nodes.pop(), node), at >> 1
        self.nodes.append(node)

    def cover(self, end: int, nodes: list[str]) -> None:
        """Go on to `end` leaves by the roots of the whole subtrees between."""
        for node in map(bytes.fromhex, nodes):
            left = end - self.size
            if left <= 0:
                raise Wrong("tree.json does not describe a tree")
            level = left.bit_length() - 1
            if self.size:
                level = min(level, (self.size & -self.size).bit_length() - 1)
            self.add(level, node)
        if self.size != end:
            raise Wrong("tree.json does not describe a tree")

    def root(self) -> bytes:
        """The tree hash now."""
        if not self.nodes:
            return sha256(b"").digest()
        result = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            result = node_hash(node, result)
        return result


def consistent(old: int, new: int, steps: list[bytes], old_root: bytes, new_root: bytes) -> bool:
    """RFC 9162 2.1.4.2: whether the tree of `new` leaves begins with that of `old`."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not steps and old_root == new_root
    steps = steps if old & (old - 1) else [old_root, *steps]
    if not steps:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    before = after = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            before, after = node_hash(step, before), node_hash(step, after)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            after = node_hash(after, step)
        at, last = at >> 1, last >> 1
    return last == 0 and (before, after) == (old_root, new_root)


def included(leaf: bytes, index: int, size: int, steps: list[bytes], root: bytes) -> bool:
    """RFC 9162 2.1.3.2: whether `leaf` is leaf `index` of `size` under `root`."""
    if not 0 <= index < size:
        return False
    at, last = index, size - 1
    for step in steps:
        if last == 0:
            return False
        if at & 1 or at == last:
            leaf = node_hash(step, leaf)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            leaf = node_hash(leaf, step)
        at, last = at >> 1, last >> 1
    return last == 0 and leaf == root


# ---------------------------------------------------------------------------------------------- the export


class Receipt:
    """What the log promised a caller: that this leaf will be in it."""

    def __init__(self, path: Path, key: Key) -> None:
        self.name = path.name
        try:
            told = json.loads(path.read_bytes())
            told = told.get("receipt", told)
            if told["format"] != FORMAT:
                raise Unusable(f"{path} has the format {told['format']}; this verify.py reads {FORMAT}")
            batch = told["batch"]
            self.leaf = bytes.fromhex(told["leaf_hash"])
            self.signed_at = told["signed_at"]
            delay = told["max_merge_delay_s"]
            self.due = when(self.signed_at) + timedelta(seconds=delay)
            lines = (told["log"], str(batch["size"]), batch["root"], self.signed_at, str(delay))
            signed = ("\n".join(("arbiter receipt v1", *lines)) + "\n").encode()
            steps = [bytes.fromhex(step) for step in batch["path"]]
            root, place = bytes.fromhex(batch["root"]), (batch["index"], batch["size"])
            signature = b64decode(told["signature"], validate=True)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise Unusable(f"{path} is no receipt, and no answer with one in it") from None
        if told["log"] != key.name or not key.verify(signature, signed) or not included(self.leaf, *place, steps, root):
            raise Wrong(f"{path} is no receipt of this log's key")


class Export:
    """A folder that `arbiter audit export` wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hashes: dict[str, str] = {}
        """What was found in files that were read whole, by their path."""
        for path in folder.rglob("*"):  # A pipe would be waited for without end.
            if not (path.is_symlink() or path.is_file() or path.is_dir()):
                raise Unusable(f"{path} is no file: this is no export")
        try:
            self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
            self.tree = self.json("tree.json")
            self.first, self.end, self.size = (self.tree[name] for name in ("first", "end", "size"))
            self.files: dict[str, str] = self.manifest["files"]
            ok = self.manifest["format"] == FORMAT and 0 <= self.first <= self.end <= self.size
            ok = ok and isinstance(self.files, dict) and isinstance(self.manifest["by"], dict)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise Unusable(f"{folder} is no export that this verify.py reads: {error}") from None
        if not ok:
            raise Unusable(f"{folder} is no export that this verify.py reads (format {FORMAT})")

    def text(self, name: str) -> str:
        """A file as text, and its hash noted."""
        data = (self.folder / name).read_bytes()
        self.hashes[name] = sha256(data).hexdigest()
        return data.decode()

    def lines(self, name: str) -> Iterator[bytes]:
        """A file line by line, and its hash noted at the end."""
        digest = sha256()
        with (self.folder / name).open("rb") as file:
            for line in file:
                digest.update(line)
                yield line
        self.hashes[name] = digest.hexdigest()

    def json(self, name: str) -> Any:
        """A file as JSON."""
        return json.loads(self.text(name))

    def check_manifest(self, key: Key) -> str:
        """The log's key signed the manifest."""
        text = key.signed(self.text("manifest.note"))
        digest = sha256((self.folder / "manifest.json").read_bytes()).hexdigest()
        if text != f"arbiter export v1\n{key.name}\n{digest}\n":
            raise Wrong("the manifest is not the one that the log's key signed")
        told = self.manifest
        who, period = told["by"]["name"], told.get("period") or {}
        tenant = f", of the tenant {told['tenant']}" if told["tenant"] else ""
        between = f", from {period.get('from') or 'the beginning'} to {period.get('to') or 'the end'}"
        unseen = told.get("unseen") or {}
        refused = "".join(f"; {name} did not see its checkpoint: {why}" for name, why in sorted(unseen.items()))
        return f"exported {told['exported_at']} by {who}{tenant}{between}, in the operator's word{refused}"

    def check_files(self) -> str:
        """Every file is the one that the manifest names, and there is no other."""
        paths = list(self.folder.rglob("*"))
        if linked := [path for path in paths if path.is_symlink()]:
            raise Wrong(f"{linked[0]} is a link, not a file of the export")
        found = {path.relative_to(self.folder).as_posix() for path in paths if not path.is_dir()}
        found -= {"manifest.json", "manifest.note"}
        if odd := sorted(found ^ set(self.files)):
            raise Wrong(f"missing, or not in the manifest: {', '.join(odd[:10])}")
        for name, told in self.files.items():
            if name not in self.hashes:
                with (self.folder / name).open("rb") as file:
                    self.hashes[name] = whole_hash(file)
            if self.hashes[name] != told:
                raise Wrong(f"{name} was altered after the export")
        return f"{len(found)} files"

    def leaves(self) -> Iterator[tuple[int, bytes, bytes | None]]:
        """Position, leaf hash and, where it is given, the entry itself, in the order of the log."""
        digest = sha256()
        with (self.folder / "entries.jsonl").open("rb") as file:
            if self.manifest["tenant"] is None:
                for position in range(self.first, self.end):
                    line = one_line(file, digest)
                    yield position, sha256(b"\x00" + line).digest(), line
            else:
                yield from self._sparse(file, digest)
            if file.read(1):
                raise Wrong("entries.jsonl has more lines than the tree has leaves")
        self.hashes["entries.jsonl"] = digest.hexdigest()

    def _sparse(self, file: BinaryIO, digest: Any) -> Iterator[tuple[int, bytes, bytes | None]]:
        """One tenant's entries among the hashes of all."""
        places = iter(self.text("positions.txt").split())
        place = next(places, None)
        with (self.folder / "leaf-hashes.bin").open("rb") as hashes:
            for position in range(self.first, self.end):
                told = hashes.read(32)
                if place != str(position):
                    yield position, told, None
                    continue
                line = one_line(file, digest)
                if sha256(b"\x00" + line).digest() != told:
                    raise Wrong(f"the entry at position {position} is not the one in the log")
                yield position, told, line
                place = next(places, None)
        if place is not None:
            raise Wrong("positions.txt names places that are not in the export")

    def check_rulebooks(self, named: set[str]) -> str:
        """Each rulebook that an entry names is there, and its files have that name."""
        for name in sorted(named):
            folder = self.folder / "rulebooks" / name
            files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
            rows = [[path, sha256(files[path].read_bytes()).hexdigest()] for path in sorted(files)]
            written = json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()
            if not files:
                raise Wrong(f"the rulebook {name} is missing")
            if sha256(written).hexdigest() != name:
                raise Wrong(f"rulebooks/{name} does not hold the files of that rulebook")
        return f"{len(named)} that entries name"


def one_line(file: BinaryIO, digest: Any) -> bytes:
    """The next leaf; `digest` takes the line in."""
    line = file.readline(MAX_LEAF + 2)
    digest.update(line)
    if not line:
        raise Wrong("entries.jsonl ends before the tree does: entries were taken out")
    if not line.endswith(b"\n") or len(line) < 2:
        raise Wrong("a line of entries.jsonl is no entry")
    return line[:-1]


def whole_hash(file: BinaryIO) -> str:
    """SHA-256 of a file, hex."""
    digest = sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def rulebooks_in(line: bytes) -> Iterator[str]:
    """The rulebooks that an entry names: the one that decided, or those a change went from and to."""
    for found in RULEBOOK.finditer(line):
        yield found[1].decode()
    if b'"type":"change"' in line and b'"what":"rulebook"' in line:
        record = json.loads(line)
        if record.get("type") == "change":
            yield from (each for each in (record["before"], record["after"]) if each)


def when(stamp: str) -> datetime:
    """An instant as Arbiter writes it."""
    return datetime.fromisoformat(stamp)


# ------------------------------------------------------------------------------------------------ the check


def plain(text: str) -> str:
    """`text` on one line: what stands in an export must not look like a line of ours."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


class Check:
    """Runs every check and says how each came out."""

    def __init__(self, export: Export, key: Key, against: Checkpoint | None, witnesses: list[Key]) -> None:
        self.export, self.key, self.against, self.witnesses = export, key, against, witnesses
        self.failed = False
        self.held = 0
        """So many entries are what some checkpoint signs."""
        self.receipts: list[Receipt] = []

    def run(self, receipts: list[Path]) -> bool:
        """Whether all of it holds."""
        export = self.export
        self.say("manifest", lambda: export.check_manifest(self.key))
        self.say("receipts", lambda: self.read_receipts(receipts)) if receipts else None
        self.say("checkpoint", self.check_checkpoint)
        if not self.failed:
            self.say("entries", self.check_entries)
        for witness in [] if self.failed else self.witnesses:
            self.say(f"witness {witness.name}", lambda seen=witness: self.check_witness(seen))
        self.say("files", export.check_files)
        return not self.failed

    def say(self, what: str, check: Any) -> None:
        """One check, one line."""
        try:
            print(f"ok    {what}: {plain(check())}")
        except (Wrong, OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            told = str(error) if isinstance(error, Wrong) else f"cannot be read: {error!r}"
            print(f"WRONG {what}: {plain(told)}")
            self.failed = True

    def read_receipts(self, paths: list[Path]) -> str:
        """The log's key signed each."""
        self.receipts = [Receipt(path, self.key) for path in paths]
        return f"{len(paths)} signed by the log"

    def check_checkpoint(self) -> str:
        """The log's key signed it, of this size, and so did the witnesses that are asked for."""
        self.checkpoint = Checkpoint(self.export.text("checkpoint"), self.key)
        if self.checkpoint.size != self.export.size:
            raise Wrong(f"it is of {self.checkpoint.size} entries, tree.json of {self.export.size}")
        if self.against and self.against.size > self.export.size:
            raise Wrong(
                f"you know a log of {self.against.size} entries, this is one of {self.export.size}: cut off, or old"
            )
        return str(self.checkpoint)

    def check_entries(self) -> str:
        """The leaves are those of the tree that every checkpoint signs; what was promised is among them."""
        export, tree = self.export, Tree()
        named: set[str] = set()
        roots = self.known_roots()
        promised = {receipt.leaf: receipt for receipt in self.receipts}
        tree.cover(export.first, export.tree["left"])
        self.compare(tree, roots)
        count = 0
        for position, leaf, line in export.leaves():
            tree.add(0, leaf)
            if tree.size in roots:
                self.compare(tree, roots)
            if leaf in promised:
                print(plain(f"ok    receipt {promised.pop(leaf).name}: its entry is at position {position}"))
            if line is not None:
                count += 1
                named.update(rulebooks_in(line))
        tree.cover(export.size, export.tree["right"])
        if tree.root() != self.checkpoint.root:
            raise Wrong(
                "these entries are not what the checkpoint signs: altered, moved, taken out or put in at position "
                f"{self.held} or after it"
            )
        if self.against:
            self.check_against()
        self.say("rulebooks", lambda: export.check_rulebooks(named))
        for receipt in promised.values():
            self.say(f"receipt {receipt.name}", lambda told=receipt: self.missing(told))
        if count != self.export.manifest["entries"]:
            raise Wrong(f"{count} entries, where the manifest says {self.export.manifest['entries']}")
        others = "" if export.manifest["tenant"] is None else "; of the others there are only hashes, whosever they are"
        where = f"positions {export.first} to {export.end - 1}" if export.end > export.first else "no positions"
        return f"{count} at {where} are in the log, unaltered and in its order{others}"

    def known_roots(self) -> dict[int, bytes]:
        """Size -> root of every checkpoint in the export, each signed by the log."""
        roots: dict[int, bytes] = {}
        self.notes = {self.checkpoint.size: self.checkpoint.note}
        for line in self.export.lines("checkpoints.jsonl"):
            known = Checkpoint(json.loads(line)["note"], self.key)
            if not (self.export.first <= known.size <= self.export.end or known.size == self.export.size):
                raise Wrong(f"a checkpoint of {known.size} entries cannot be held against these entries")
            if self.witnesses:
                self.notes.setdefault(known.size, known.note)
            if roots.setdefault(known.size, known.root) != known.root:
                raise Wrong(f"two roots were signed for {known.size} entries: there is more than one history")
        if self.against and roots.setdefault(self.against.size, self.against.root) != self.against.root:
            raise Wrong(f"you know another root of {self.against.size} entries: there is more than one history")
        return roots

    def compare(self, tree: Tree, roots: dict[int, bytes]) -> None:
        """The tree as far as it is read is what was signed of it."""
        told = roots.get(tree.size)
        if told is None:
            return
        if told == tree.root():
            self.held = max(self.held, tree.size)
            return
        if self.against and self.against.size == tree.size:
            raise Wrong(
                f"the checkpoint that you know of {tree.size} entries signs others than these: they were altered here, "
                "or there is more than one history"
            )
        raise Wrong(
            f"these entries are not what the checkpoint of {tree.size} entries signs: altered, moved, taken out or put "
            f"in at position {self.held} or after it"
        )

    def check_witness(self, witness: Key) -> str:
        """It signed a checkpoint of this tree, and how much came after that."""
        size = max((size for size, note in self.notes.items() if witness.signed(note) is not None), default=None)
        if size is None:
            raise Wrong("it signed none of the checkpoints")
        after = self.export.size - size
        window = f"the {after} entries after that rest on the log's word alone" if after else "all that is here"
        return f"it signed the checkpoint of {size} entries; {window}"

    def check_against(self) -> None:
        """What you know is the beginning of this log."""
        known, export = self.against, self.export
        assert known is not None
        if known.size == export.size:
            if known.root != self.checkpoint.root:
                raise Wrong("the checkpoint that you know signs other entries: there is more than one history")
        elif not export.first <= known.size <= export.end and known.size:
            if not (export.folder / "consistency.json").is_file():
                raise Wrong(
                    f"nothing here leads from your {known.size} entries to these: ask for an export --against it"
                )
            told = export.json("consistency.json")
            steps = [bytes.fromhex(step) for step in told["path"]]
            if told["old"] != known.size or not consistent(
                known.size, export.size, steps, known.root, self.checkpoint.root
            ):
                raise Wrong(
                    f"the log does not go on from your checkpoint of {known.size} entries: more than one history"
                )
        print(f"ok    against: it goes on from the checkpoint of {known.size} entries that you know")

    def missing(self, receipt: Receipt) -> str:
        """Why a promised entry is not here."""
        export = self.export
        whole = export.first == 0 and export.end == export.size
        if whole and receipt.due < when(export.manifest["exported_at"]):
            raise Wrong(
                f"OMITTED: promised {receipt.signed_at} to be in the log by {receipt.due.isoformat()}; it is not"
            )
        raise Wrong(
            "its entry is not in this export, which " + ("was made too early" if whole else "is not of the whole log")
        )


def read_keys(args: argparse.Namespace, export: Export) -> tuple[Key, Checkpoint | None]:
    """The log's key, and the checkpoint that you know. Without --key the key counts that signed that checkpoint."""
    try:
        told = export.json("keys.json")["log"]
    except OSError:
        raise Wrong("keys.json is missing") from None
    key = Key(args.key or told)
    against = None
    if args.against:
        try:
            against = Checkpoint(args.against.read_text("utf-8"), key)
        except Wrong as error:
            raise Wrong(f"against: {error}") from None
    if key.text != told:
        raise Wrong(f"key: the export says it is signed with {told}, not with the key that you know")
    return key, against


def main(argv: list[str] | None = None) -> int:
    """Check the export that the arguments name."""
    parser = argparse.ArgumentParser(prog="verify.py", description="Check an export of an Arbiter log.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--key", help="the log's public key, as you know it from elsewhere than the export")
    parser.add_argument("--against", type=Path, metavar="CHECKPOINT", help="a checkpoint of this log that you keep")
    parser.add_argument("--witness", action="append", default=[], metavar="KEY", help="must have signed a checkpoint")
    parser.add_argument("--receipt", action="append", default=[], type=Path, metavar="FILE", help="that a caller kept")
    args = parser.parse_args(argv)
    if not args.key and not args.against:
        parser.error(
            "name the log's key (--key) or a checkpoint that you know (--against): an export proves nothing by itself"
        )
    try:
        export = Export(args.folder)
        key, against = read_keys(args, export)
        witnesses = [Key(each) for each in args.witness]
        for each in witnesses:
            if each.kind != WITNESS or each.public == key.public:
                raise Unusable(f"{each.text} is no key of a witness: it is the log's, or of the log's sort")
        holds = Check(export, key, against, witnesses).run(args.receipt)
    except Wrong as error:
        print(f"WRONG {plain(str(error))}")
        holds = False
    except (Unusable, OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        told = str(error) if isinstance(error, Unusable) else f"{args.folder} cannot be read: {error!r}"
        print(plain(told), file=sys.stderr)
        return 2
    print("all of it holds" if holds else "it does NOT hold")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
