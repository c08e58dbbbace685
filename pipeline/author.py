"""Authors as keyed hashes: one key for everything that takes feedback in, so that one person is one hash.

Without the key a hash tells nothing, and nobody can try names against it. Losing the key only means
that the same author gets another hash from then on.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path
from typing import Final

KEY_FILE: Final = "author.key"
KEY_BYTES: Final = 32
MIN_KEY_BYTES: Final = 16


class AuthorKeyError(RuntimeError):
    """The key file cannot be read or made, or is too short; names the file and the remedy."""


def load_key(path: Path | None, data_dir: Path) -> bytes:
    """The key in `path`, or else in `data_dir`/author.key, which is made on first use (mode 0600).

    Two processes that start at once get the same key. Raises AuthorKeyError.
    """
    file = data_dir / KEY_FILE if path is None else path
    try:
        if path is None and not file.exists():
            _make(file)
        key = file.read_bytes().strip()
    except OSError as error:
        raise AuthorKeyError(
            f"the author key {file} cannot be used: {error.strerror or error}; "
            "make it readable, or name another with [ingest] author_key_file"
        ) from error
    if len(key) < MIN_KEY_BYTES:
        raise AuthorKeyError(
            f"the author key {file} has {len(key)} bytes, at least {MIN_KEY_BYTES} are needed: "
            f"make one with `openssl rand -hex {KEY_BYTES} > {file}`"
        )
    return key


def author_hash(key: bytes, author: str) -> str:
    """HMAC-SHA256 of the author's name or id as 64 hex digits; surrounding white space does not count."""
    return hmac.digest(key, author.strip().encode("utf-8", "surrogatepass"), "sha256").hex()


def _make(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(secrets.token_hex(KEY_BYTES) + "\n")
        out.flush()
        os.fsync(out.fileno())
    try:
        # A link, not a rename: whoever comes second must find the first one's key, not replace it.
        os.link(draft, file)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
