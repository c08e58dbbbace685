"""Personal data out of feedback before its first write to Kafka. Pure, once made.

Found in text: e-mail addresses, phone numbers, payment cards, handles. Phone numbers are judged by
phonenumbers (Google's libphonenumber, 5 MB, in its `lite` edition); a named-entity recogniser such as
presidio with its language models would weigh more than all of Ovoz and knows no Uzbek, so names inside a text
are not looked for. What is unsure is taken out: a number that could be called is a phone number.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, Final

import phonenumbers

from connectors.feedback import Feedback, parse
from pipeline.author import author_hash
from pipeline.settings import Privacy

MAX_CHECKS: Final = 300
"""Numbers that are judged in one text; in a sea of digits every further run of them is taken out unseen."""
MAX_DEPTH: Final = 40
MAX_PASSES: Final = 8
"""What is taken out may uncover what stood right beside it."""

_EMAIL: Final = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,6}\w{2,24}")
_FEDERATED: Final = re.compile(r"(?<![\w@])@\w[\w.-]{0,62}@(?:[\w-]{1,63}\.){1,6}\w{2,24}")
_HANDLE: Final = re.compile(r"(?<![\w@./])@\w(?:[\w.]{0,61}\w)?")
_PROFILE: Final = re.compile(
    r"(?i)(?<![\w.])(?:https?://)?(?:www\.|m\.)?"
    r"(?:t\.me|telegram\.me|instagram\.com|twitter\.com|x\.com|vk\.com|facebook\.com|ok\.ru)/@?\w[\w.-]{1,63}"
    r"|(?<![\w.])/?u/[A-Za-z0-9_-]{3,20}\b"
)
_GAP: Final = "[\\s().\\-/\u2010-\u2015\u2212\u00a0\u2007\u2009\u200b-\u200d\u2060]"
_DIGITS: Final = re.compile(rf"(?<!\d)\+?\(?\d(?:{_GAP}{{0,3}}\d){{6,}}")
_GROUP: Final = re.compile(r"\d+")
_AMOUNT: Final = re.compile(r"(?i)\s{0,2}(?:сум|сўм|so['ʻ’`ʼ]?m\b|uzs|руб|rub\b|₽|\$|€|usd|eur|тенге|kzt|tl\b|lira)")
_CARD: Final = range(13, 20)
_PHONE: Final = range(7, 16)
# Uzcard and Humo cards, of which not all carry a check digit, and the length of theirs.
_LOCAL_CARDS: Final = ("8600", "5614", "9860")
_LOCAL_CARD_DIGITS: Final = 16
_PERSONAL: Final = re.compile(
    r"(?i)(?:^|_)(?:author|name|displayname|fullname|first_?name|last_?name|nick(?:name)?|reviewernickname|user"
    r"(?:name)?|login|handle|acct|from|sender|e?_?mail|phone|mobile|tel|address|customer|person|consumer)\Z"
)


class Redactor:
    """Takes personal data out, as the settings say. `key`: the key of all hashes."""

    def __init__(self, privacy: Privacy, key: bytes) -> None:
        self._privacy = privacy
        self._key = key
        self._callable = lru_cache(20_000)(self._can_be_called)
        self._hashed = lru_cache(10_000)(partial(author_hash, key))

    def author(self, author: object) -> str | None:
        """What is kept of an author: a keyed hash, or nothing."""
        if not isinstance(author, str) or not author.strip() or self._privacy.authors == "drop":
            return None
        return self._hashed(author)

    def customer(self, customer_id: str | None) -> str | None:
        """What is kept of a customer's id; the same id always gives the same."""
        if customer_id is None or self._privacy.customer_ids == "drop":
            return None
        return customer_id if self._privacy.customer_ids == "keep" else self._hashed(customer_id)

    def url(self, url: str | None, author: object = None) -> str | None:
        """An address, unless it names a person (or always, or never)."""
        how = self._privacy.urls
        if url is None or how == "keep" or not url:
            return url
        if how == "drop" or _EMAIL.search(url) or _PROFILE.search(url) or re.search(r"[/=]@\w|%40\w", url):
            return None
        name = author.strip().lstrip("@").partition("@")[0].lower() if isinstance(author, str) else ""
        return None if len(name) > 2 and name in url.lower() else url

    def parse(self, item: object, *, now: datetime) -> Feedback:
        """An untrusted item as feedback, see `connectors.feedback.parse`, without personal data. Raises Faulty."""
        author = item.get("author") if isinstance(item, Mapping) else None
        return self.feedback(parse(item, now=now, author_hash=self.author(author)), author)

    def feedback(self, feedback: Feedback, author: object = None) -> Feedback:
        """The same feedback with what `text`, `customer` and `url` leave of it."""
        return replace(
            feedback,
            text=self.text(feedback.text),
            customer_id=self.customer(feedback.customer_id),
            url=self.url(feedback.url, author),
        )

    def text(self, text: str) -> str:
        """A text without personal data; what stood there is named in brackets, such as `[phone]`."""
        for _ in range(MAX_PASSES):
            clean = self._pass(text)
            if clean == text:
                break
            text = clean
        return text

    def _pass(self, text: str) -> str:
        privacy = self._privacy
        if "@" in text:
            if privacy.handles != "keep":
                text = self._replaced(_FEDERATED, "handle", privacy.handles, text)
            if privacy.emails != "keep":
                text = self._replaced(_EMAIL, "email", privacy.emails, text)
        if privacy.handles != "keep" and ("@" in text or "/" in text):
            text = self._replaced(_HANDLE, "handle", privacy.handles, text)
            text = self._replaced(_PROFILE, "handle", privacy.handles, text)
        if privacy.phones != "keep" or privacy.cards != "keep":
            text = self._without_numbers(text)
        return text

    def payload(self, payload: bytes) -> bytes:
        """Something unreadable, as it may be kept: where it is JSON, what stands under a personal name goes too."""
        # Bytes that are no UTF-8 pass through as they are.
        text = payload.decode("utf-8", "surrogateescape")
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return self.text(text).encode("utf-8", "surrogateescape")
        masked = self._masked(found, 0)
        return payload if masked == found else json.dumps(masked, ensure_ascii=False).encode("utf-8", "replace")

    def _masked(self, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            return "[deep]"
        if isinstance(value, dict):
            return {
                name: "[name]" if isinstance(inner, str) and inner and _PERSONAL.search(name)
                else self._masked(inner, depth + 1)
                for name, inner in value.items()
            }  # fmt: skip
        if isinstance(value, list):
            return [self._masked(inner, depth + 1) for inner in value]
        return self.text(value) if isinstance(value, str) else value

    def _replaced(self, pattern: re.Pattern[str], kind: str, how: str, text: str) -> str:
        return pattern.sub(lambda found: self._mark(kind, how, found.group().lower()), text)

    def _mark(self, kind: str, how: str, found: str) -> str:
        if how == "redact":
            return f"[{kind}]"
        raw = hmac.digest(self._key, f"{kind}:{found}".encode("utf-8", "surrogatepass"), "sha256")[:6].hex()
        # Letters only, so that a mark is never taken for a number again.
        return f"[{kind}:{raw.translate(_LETTERS)}]"

    def _without_numbers(self, text: str) -> str:
        out: list[str] = []
        end, left = 0, MAX_CHECKS
        for run in _DIGITS.finditer(text):
            for start, stop, kind in self._numbers(run, text):
                left -= kind == ""
                if not kind:
                    if left < 0:
                        out += [text[end : run.start()], "[phone]"]
                        end = run.end()
                        break
                    continue
                how = self._privacy.cards if kind == "card" else self._privacy.phones
                digits = "".join(c for c in text[start:stop] if c.isdigit())
                out += [text[end:start], self._mark(kind, how, digits)]
                end = stop
        return text if not out else "".join(out) + text[end:]

    def _numbers(self, run: re.Match[str], text: str) -> Iterator[tuple[int, int, str]]:
        """(start, stop, card or phone) of what is found in a run of digits; kind is empty for each one judged."""
        groups = [(found.start(), found.end()) for found in _GROUP.finditer(text, run.start(), run.end())]
        first = 0
        while first < len(groups):
            start = groups[first][0]
            plus = first == 0 and run.group().startswith("+")
            spans = list(_spans(groups, first, text))
            taken = 0
            if self._privacy.cards != "keep" and not plus:
                taken = next((last for last, digits in spans if len(digits) in _CARD and _is_card(digits)), 0)
                if taken:
                    yield start, groups[taken - 1][1], "card"
            if not taken and self._privacy.phones != "keep":
                for last, digits in spans:
                    if len(digits) not in _PHONE:
                        continue
                    yield 0, 0, ""
                    if self._callable(digits, plus) and not _AMOUNT.match(text, groups[last - 1][1]):
                        taken = last
                        begin = run.start() if first == 0 else start
                        stop = groups[taken - 1][1]
                        yield begin, stop, "phone"
                        break
            first = taken or first + 1

    def _can_be_called(self, digits: str, plus: bool) -> bool:
        if plus:
            return len(digits) >= 8
        for region in ("", *self._privacy.phone_regions):
            try:
                number = phonenumbers.parse(digits if region else f"+{digits}", region or None)
            except phonenumbers.NumberParseException:
                continue
            # Without a plus only a whole number with the code of one of our own countries is taken for one.
            ours = region or phonenumbers.region_code_for_number(number) in self._privacy.phone_regions
            if ours and phonenumbers.is_valid_number(number):
                return True
        return False


_LETTERS: Final = str.maketrans("0123456789abcdef", "abcdefghjkmnpqrs")


def _spans(groups: list[tuple[int, int]], first: int, text: str) -> Iterator[tuple[int, str]]:
    """(index after the last group, digits) of the groups from `first` on, the longest first; at most 19 digits."""
    found, digits = [], ""
    for last in range(first, len(groups)):
        digits += _ascii(text[slice(*groups[last])])
        if len(digits) > _CARD.stop - 1:
            break
        found.append((last + 1, digits))
    return reversed(found)


def _ascii(digits: str) -> str:
    return digits if digits.isascii() else "".join(str(int(one)) for one in digits)


def _is_card(digits: str) -> bool:
    """Whether digits can be the number of a payment card: ISO/IEC 7812 check digit, or a local system's prefix."""
    if len(digits) == _LOCAL_CARD_DIGITS and digits.startswith(_LOCAL_CARDS):
        return True
    total = 0
    for place, one in enumerate(reversed(digits)):
        number = int(one) * (2 if place % 2 else 1)
        total += number - 9 if number > 9 else number
    return total % 10 == 0 and digits[0] in "23456" and len(set(digits)) > 1
