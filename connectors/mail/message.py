"""One e-mail → the customer's own words. Pure.

RFC 5322 and MIME are read by the standard library, which takes almost anything; what it cannot decode is
decoded by a guess at the charset (charset-normalizer). Quoted replies and signatures go: they are somebody
else's words, or were counted before. Auto-replies and lists (RFC 3834, RFC 2919) are not customers.
"""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import parseaddr, parsedate_to_datetime
from typing import Final

from charset_normalizer import from_bytes

from connectors.connector import Item
from connectors.fields import plain

CLOCK_DOUBT: Final = timedelta(days=2)
MAX_TEXT: Final = 20_000
_AUTOMATIC_PRECEDENCE: Final = frozenset({"bulk", "junk", "list", "auto_reply"})

# "On …, X wrote:" in our languages, alone on a line or two, ends what is new.
_WROTE: Final = re.compile(
    r"(wrote|пишет|написал(а|\(а\))?|yozdi|ёзди|yazdı|schrieb|escribió|a écrit|ha scritto|escreveu)"
    r"\s*[^\n]{0,120}:\s*$",
    re.IGNORECASE,
)
_FORWARDED: Final = re.compile(
    r"^\s*[-_]{2,}\s*(original message|forwarded message|исходное сообщение|пересылаемое сообщение|"
    r"ursprüngliche nachricht|mensaje original|message d'origine|messaggio originale|mensagem original|"
    r"özgün ileti|asl xabar)\s*[-_]{2,}\s*$",
    re.IGNORECASE,
)
_HEADER_BLOCK: Final = re.compile(
    r"^\s*\*?(from|от|кому|von|de|da|kimden|kimdan)\*?\s*:\s.+@|^_{20,}\s*$", re.IGNORECASE
)
_SENT_FROM: Final = re.compile(
    r"^\s*(sent from my |отправлено с |von meinem .* gesendet|envoyé de mon |enviado desde mi |inviato da |"
    r"iphone'umdan|.*dan yuborildi)",
    re.IGNORECASE,
)
_REPLY_PREFIX: Final = re.compile(r"^\s*((re|fwd?|aw|wg|sv|res|rif|ynt|отв|на)(\[\d+\])?\s*:\s*)+", re.IGNORECASE)
_QUOTED_HTML: Final = re.compile(
    r"<\s*(blockquote\b|div[^>]+class=[\"'][^\"']*(gmail_quote|yahoo_quoted|moz-cite-prefix)|"
    r"div[^>]+id=[\"'](divRplyFwdMsg|appendonsend)).*",
    re.IGNORECASE | re.DOTALL,
)


class NotFeedback(Exception):
    """An e-mail that no customer wrote; the message says why."""


def item(raw: bytes, *, fallback_id: str, arrived: datetime) -> Item:
    """An item from one message. `arrived`: the server's own time (INTERNALDATE), believed where the sender's
    Date is missing or further than CLOCK_DOUBT from it. Raises NotFeedback.
    """
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)  # noqa: S101 - what this policy makes
    if why := automatic(message):
        raise NotFeedback(why)
    subject = _REPLY_PREFIX.sub("", _header(message, "subject")).strip()
    said = body(message)
    name, address = parseaddr(_header(message, "from"))
    own = _header(message, "message-id").strip() or fallback_id
    return Item(
        external_id=own[:512],
        created_at=_date(message, arrived),
        text=said if not subject or said.startswith(subject) else f"{subject}\n{said}".strip(),
        author=(address or name)[:512] or None,
        conversation_id=_thread(message, own)[:512],
        turn="customer_message",
    )


def automatic(message: EmailMessage) -> str | None:
    """Why a message was written by a machine or to a list, or None."""
    submitted = _header(message, "auto-submitted").lower()
    if submitted and submitted.split(";")[0].strip() != "no":
        return f"automatic: Auto-Submitted {submitted[:40]}"
    for name in ("x-autoreply", "x-autorespond", "x-auto-response-suppress"):
        if _header(message, name) and name != "x-auto-response-suppress":
            return f"automatic: {name}"
    if _header(message, "list-id") or _header(message, "list-unsubscribe"):
        return "a mailing list"
    if _header(message, "precedence").strip().lower() in _AUTOMATIC_PRECEDENCE:
        return "automatic: Precedence"
    if message.get_content_type() in ("multipart/report", "message/delivery-status"):
        return "a delivery report"
    if "<>" in _header(message, "return-path"):
        return "a bounce"
    return None


def body(message: EmailMessage) -> str:
    """The new words of a message, without quotes and signature, at most MAX_TEXT characters."""
    texts: list[str] = []
    pages: list[str] = []
    for part in _parts(message):
        (texts if part.get_content_subtype() == "plain" else pages).append(_text(part))
    if any(text.strip() for text in texts):
        return new_words("\n".join(texts))[:MAX_TEXT]
    joined = "\n".join(pages)
    # What is left is nothing when somebody answers below the quote: then all of it is better than nothing.
    return (new_words(plain(_QUOTED_HTML.sub("", joined))) or new_words(plain(joined)))[:MAX_TEXT]


def new_words(text: str) -> str:
    """A plain text without quoted lines, what they were introduced by, and the signature."""
    kept: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if line.rstrip() == "--" or line == "-- " or _FORWARDED.match(line) or _HEADER_BLOCK.match(line):
            break
        if _SENT_FROM.match(line) or line.lstrip().startswith(">"):
            continue
        if _WROTE.search(line):
            # The introduction may have begun a line before: "On Tuesday, 24 November 2026,\nAziz wrote:".
            if kept and kept[-1].rstrip().endswith(",") and len(kept[-1]) < 120:
                kept.pop()
            continue
        kept.append(line.rstrip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def _parts(message: EmailMessage) -> Iterator[EmailMessage]:
    for part in message.walk():
        if isinstance(part, EmailMessage) and not part.is_multipart():
            readable = part.get_content_type() in ("text/plain", "text/html")
            if readable and part.get_content_disposition() != "attachment" and not part.get_filename():
                yield part


def _text(part: EmailMessage) -> str:
    raw = part.get_payload(decode=True)
    if not isinstance(raw, bytes):
        return str(raw or "")
    declared = part.get_content_charset()
    if declared:
        try:
            return raw.decode(declared)
        except (LookupError, UnicodeDecodeError):
            pass
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        best = from_bytes(raw[:50_000], cp_isolation=["cp1251", "koi8_r", "cp1252", "cp1254", "utf_16"]).best()
        return raw.decode(best.encoding if best else "utf-8", "replace")


def _header(message: EmailMessage, name: str) -> str:
    try:
        return str(message.get(name) or "").replace("\n", " ").replace("\r", " ")
    except (ValueError, LookupError, IndexError, AttributeError, TypeError):
        # The standard library's header parser has failed on hostile headers before.
        return ""


def _date(message: EmailMessage, arrived: datetime) -> datetime:
    try:
        at = parsedate_to_datetime(_header(message, "date"))
        at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return arrived
    return at if abs(arrived - at) <= CLOCK_DOUBT else arrived


def _thread(message: EmailMessage, own: str) -> str:
    """The first message of the thread, by References, then In-Reply-To (RFC 5322, 3.6.4)."""
    for name in ("references", "in-reply-to"):
        ids = re.findall(r"<[^<>\s]+>", _header(message, name))
        if ids:
            return str(ids[0])
    return own
