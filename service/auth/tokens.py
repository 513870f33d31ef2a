"""Tokens: who may use the service, and for what.

A token is a secret of 256 random bits, shown once. The token file stores a hash of it, so that
reading the file does not let anybody in. A fast hash is enough, since nobody can try 2^256
secrets; slow hashes are for passwords, which people choose.

    {"tokens": [{"name": "shop", "hash": "<sha256 in hex>", "scopes": ["read", "write"],
                 "created": "2026-11-23T12:00:00Z", "expires": null}]}
"""

import fcntl
import hashlib
import hmac
import ipaddress
import logging
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec

from service.settings import Settings, SettingsError

PREFIX = "usr_"  # people, and scanners for leaked secrets, recognise our tokens by it
SECRET_BYTES = 32
LOOKUP_LENGTH = 8  # hex digits of the hash, the key of the dictionary of tokens
CHECK_INTERVAL = 1.0  # seconds between two checks whether the file has changed
TOKEN_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")  # safe in logs and metrics
LONG_WORD = re.compile(r"[\w-]{32,}")  # may be a hash or a secret, which an error must not show

Scope = Literal["read", "write", "operate"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
Name = Annotated[str, msgspec.Meta(pattern=rf"^{TOKEN_NAME.pattern}\Z")]
Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]

log = logging.getLogger("service")


class TokenRefused(Exception):  # noqa: N818  # a refusal is not a fault
    """A token can't be made or revoked; the message is one line for the operator."""


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of the token file: a token without its secret."""

    name: Name
    hash: Hash
    scopes: tuple[Scope, ...]
    created: Timestamp
    expires: Timestamp | None = None

    def expired(self, now: datetime) -> bool:
        """Return whether the token has expired at `now`."""
        return self.expires is not None and now >= self.expires


class TokenFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of the token file."""

    tokens: tuple[Token, ...]


class FileVersion(NamedTuple):
    """File metadata that differs after the file was written or replaced."""

    mtime: int
    size: int
    inode: int


class Tokens:
    """The tokens of a file, which is read again when it changes.

    The constructor raises SettingsError if the file can't be read. After that, a file that can't
    be read is logged and the tokens stay as they were: a typing error in it must not lock every
    client out.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = Path(path)
        self.clock = clock
        self.checked_at = clock()
        self.version = version_of(self.path)
        self.by_prefix = by_hash_prefix(read(self.path))

    def find(self, secret: str) -> Token | None:
        """Return the token with this secret, expired or not; None if there is none."""
        self.reload()
        digest = hash_of(secret)
        match = None
        # The time of the dictionary lookup reveals at most the first digits of a hash, and nobody
        # can find a secret for a hash. Whole hashes are compared in constant time.
        for token in self.by_prefix.get(digest[:LOOKUP_LENGTH], ()):
            if hmac.compare_digest(token.hash, digest):
                match = token
        return match

    def reload(self) -> None:
        """Read the file again if it has changed; check at most every CHECK_INTERVAL seconds."""
        now = self.clock()
        if now - self.checked_at < CHECK_INTERVAL:
            return
        self.checked_at = now
        version = version_of(self.path)
        if version == self.version:
            return
        self.version = version
        try:
            self.by_prefix = by_hash_prefix(read(self.path))
        except SettingsError as error:
            log.error("the tokens stay as they were: %s", error)  # noqa: TRY400  # a traceback adds nothing to the message
        else:
            log.info("the tokens were read again: %s", self.path)


def version_of(path: Path) -> FileVersion | None:
    """Return the version of the file now; None if the file can't be accessed."""
    try:
        status = path.stat()
    except OSError:
        return None
    return FileVersion(status.st_mtime_ns, status.st_size, status.st_ino)


def by_hash_prefix(tokens: Sequence[Token]) -> dict[str, list[Token]]:
    """Return the tokens by the first LOOKUP_LENGTH digits of their hashes."""
    by_prefix: dict[str, list[Token]] = {}
    for token in tokens:
        by_prefix.setdefault(token.hash[:LOOKUP_LENGTH], []).append(token)
    return by_prefix


def hash_of(secret: str) -> str:
    """Return the SHA-256 of a secret, in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def read(path: Path) -> tuple[Token, ...]:
    """Return the tokens of a file; raise SettingsError, whose one line shows no hashes."""
    try:
        tokens = msgspec.json.decode(path.read_bytes(), type=TokenFile).tokens
    except OSError as error:
        raise SettingsError(f"can't read the token file {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = LONG_WORD.sub("…", str(error))
        raise SettingsError(f"the token file {path} is malformed: {reason}") from None
    names = [token.name for token in tokens]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"the token file {path} has two tokens of the name {duplicates[0]}")
    return tokens


def create(path: str, name: str, scopes: Sequence[Scope], expires: datetime | None = None) -> str:
    """Add a token to the file, create the file if it is missing; return the secret, stored nowhere.

    Raise TokenRefused for a name that is invalid or taken, SettingsError for a file that can't be
    read or written.
    """
    if not TOKEN_NAME.fullmatch(name):
        raise TokenRefused("a name has 1 to 64 letters (a to z), digits, and . _ -")
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    token = Token(
        name=name,
        hash=hash_of(secret),
        scopes=tuple(scope for scope in SCOPES if scope in scopes),
        created=datetime.now(UTC).replace(microsecond=0),
        expires=expires,
    )
    with locked(path) as file:
        tokens = read(file) if file.exists() else ()
        if any(other.name == name for other in tokens):
            raise TokenRefused(f"there is a token of the name {name}; revoke it first")
        write(file, (*tokens, token))
    return secret


def revoke(path: str, name: str) -> None:
    """Remove a token from the file; raise TokenRefused if no token has that name."""
    with locked(path) as file:
        tokens = read(file)
        remaining = tuple(token for token in tokens if token.name != name)
        if remaining == tokens:
            raise TokenRefused(f"there is no token of the name {name}")
        write(file, remaining)


@contextmanager
def locked(path: str) -> Iterator[Path]:
    """Yield the token file's path, locked against other processes that would change the file.

    Symbolic links are resolved: `write` would otherwise replace the link by a plain file.
    Raise SettingsError for an OSError in the block.
    """
    file = Path(path).resolve()
    try:
        # lock a file of its own: `write` replaces the token file, and a lock on the old file
        # would not stop a process that opens the new one
        with file.with_name(f"{file.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield file
    except OSError as error:
        raise SettingsError(f"can't change the token file {path}: {error.strerror}") from None


def write(file: Path, tokens: Sequence[Token]) -> None:
    """Replace the file atomically and durably; keep its mode and owner."""
    content = msgspec.json.format(msgspec.json.encode(TokenFile(tuple(tokens))), indent=2)
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as replacement:
            if file.exists():
                status = file.stat()
                os.fchown(descriptor, status.st_uid, status.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
            replacement.write(content + b"\n")
            replacement.flush()
            os.fsync(descriptor)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink()
        raise
    sync(file.parent)


def sync(directory: Path) -> None:
    """Write the directory to disk, so that a power failure does not undo a replacement in it."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_access(settings: Settings) -> None:
    """Raise SettingsError if nothing says who may use the service, or the token file is invalid."""
    if settings.tokens_file and settings.allow_anonymous:
        raise SettingsError("TOKENS_FILE and ALLOW_ANONYMOUS are both set; keep one")
    if settings.tokens_file:
        read(Path(settings.tokens_file))
    elif not settings.allow_anonymous and not is_loopback(settings.host):
        raise SettingsError(
            f"HOST={settings.host} can be reached from elsewhere, and anybody could use the "
            "service: set TOKENS_FILE, or say ALLOW_ANONYMOUS=1"
        )


def is_loopback(host: str) -> bool:
    """Return whether the host is a loopback address, which only this machine can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a host name
        return host.lower() == "localhost"
