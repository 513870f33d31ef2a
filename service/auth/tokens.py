"""Tokens: who may use the service, and for what.

A token is a secret of 256 random bits, shown once. Its file keeps a hash of it: whoever reads the
file can't use it. The hash may be a fast one, since nobody can try 2^256 secrets; slow hashes are
for passwords, which people choose.

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

PREFIX = "usr_"  # by which people, and scanners of published code, know a token of ours
SECRET_BYTES = 32
LOOKUP_LENGTH = 8  # hex digits
CHECK_INTERVAL = 1.0  # seconds between two looks at the file
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")  # it goes to logs and metrics
LONG_WORD = re.compile(r"[\w-]{32,}")  # perhaps a hash or a secret in the wrong place

Scope = Literal["read", "write", "operate"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
Name = Annotated[str, msgspec.Meta(pattern=rf"^{NAME.pattern}\Z")]
Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]

log = logging.getLogger("service")


class TokenRefused(Exception):  # noqa: N818  # a refusal is not a fault
    """A token can't be made or revoked; the message is one line for the operator."""


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of a token."""

    name: Name
    hash: Hash
    scopes: tuple[Scope, ...]
    created: Moment
    expires: Moment | None = None

    def expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires is not None and now >= self.expires


class TokenFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    tokens: tuple[Token, ...]


class Version(NamedTuple):
    """By what a file that has changed is known."""

    mtime: int
    size: int
    inode: int


class Tokens:
    """The tokens of a file, read again when it changes.

    Raise SettingsError where it can't be read at first. Later the tokens that were read last stay
    good: a slip of the operator's hand must not lock every client out.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = Path(path)
        self.clock = clock
        self.looked = clock()
        self.version = version_of(self.path)
        self.by_hash = by_hash(read(self.path))

    def find(self, secret: str) -> Token | None:
        """The token that has this secret, expired or not."""
        self.reload()
        digest = hash_of(secret)
        found = None
        # how long a lookup takes tells at most the first digits of a hash, which nobody can
        # choose; those that begin alike are compared whole, in constant time
        for token in self.by_hash.get(digest[:LOOKUP_LENGTH], ()):
            if hmac.compare_digest(token.hash, digest):
                found = token
        return found

    def reload(self) -> None:
        """Read the file again if it has changed; look at most once a second."""
        now = self.clock()
        if now - self.looked < CHECK_INTERVAL:
            return
        self.looked = now
        version = version_of(self.path)
        if version == self.version:
            return
        self.version = version
        try:
            self.by_hash = by_hash(read(self.path))
        except SettingsError as error:
            log.error("the tokens stay as they were: %s", error)  # noqa: TRY400  # says it all, and where is known
        else:
            log.info("the tokens were read again: %s", self.path)


def version_of(path: Path) -> Version | None:
    """What is there now; None where there is nothing to see."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Version(found.st_mtime_ns, found.st_size, found.st_ino)


def by_hash(tokens: Sequence[Token]) -> dict[str, list[Token]]:
    """The tokens by the first digits of their hashes."""
    found: dict[str, list[Token]] = {}
    for token in tokens:
        found.setdefault(token.hash[:LOOKUP_LENGTH], []).append(token)
    return found


def hash_of(secret: str) -> str:
    """The SHA-256 of a secret, in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def read(path: Path) -> tuple[Token, ...]:
    """The tokens of a file; raise SettingsError, in one line and without hashes."""
    try:
        tokens = msgspec.json.decode(path.read_bytes(), type=TokenFile).tokens
    except OSError as error:
        raise SettingsError(f"can't read the token file {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = LONG_WORD.sub("…", str(error))
        raise SettingsError(f"the token file {path} is malformed: {reason}") from None
    names = [token.name for token in tokens]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"the token file {path} has two tokens of the name {twice[0]}")
    return tokens


def create(path: str, name: str, scopes: Sequence[Scope], expires: datetime | None = None) -> str:
    """Add a token to the file, which is made if it is missing; return the secret, kept nowhere.

    Raise TokenRefused for a name that can't be, SettingsError for a file that can't be used.
    """
    if not NAME.fullmatch(name):
        raise TokenRefused("a name has 1 to 64 letters (a to z), digits, and . _ -")
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    token = Token(
        name=name,
        hash=hash_of(secret),
        scopes=tuple(scope for scope in SCOPES if scope in scopes),
        created=datetime.now(UTC).replace(microsecond=0),
        expires=expires,
    )
    with changing(path) as file:
        tokens = read(file) if file.exists() else ()
        if any(other.name == name for other in tokens):
            raise TokenRefused(f"there is a token of the name {name}; revoke it first")
        write(file, (*tokens, token))
    return secret


def revoke(path: str, name: str) -> None:
    """Take a token out of the file; raise TokenRefused where there is none of that name."""
    with changing(path) as file:
        tokens = read(file)
        left = tuple(token for token in tokens if token.name != name)
        if left == tokens:
            raise TokenRefused(f"there is no token of the name {name}")
        write(file, left)


@contextmanager
def changing(path: str) -> Iterator[Path]:
    """The file itself, which nobody else changes meanwhile.

    A symbolic link is followed: a plain file put in its place would cut the link.
    """
    file = Path(path).resolve()
    try:
        # a file beside it, since a lock on the file itself would go with its replacement
        with file.with_name(f"{file.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield file
    except OSError as error:
        raise SettingsError(f"can't change the token file {path}: {error.strerror}") from None


def write(file: Path, tokens: Sequence[Token]) -> None:
    """Replace the file in one go, and for good; its mode and owner stay."""
    content = msgspec.json.format(msgspec.json.encode(TokenFile(tuple(tokens))), indent=2)
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as new:
            if file.exists():
                before = file.stat()
                os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            new.write(content + b"\n")
            new.flush()
            os.fsync(descriptor)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink()
        raise
    sync(file.parent)


def sync(directory: Path) -> None:
    """Make sure that a power cut does not undo a replacement."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_access(settings: Settings) -> None:
    """Raise SettingsError where nobody has said who may use the service, or it can't be read."""
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
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host.lower() == "localhost"
