"""What it costs to take personal data out of a text.

    python -m benchmarks.redact
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from pipeline.redact import Redactor
from pipeline.settings import Privacy

TEXTS: Final = 5_000
PLAIN: Final = (
    "The courier was two hours late and nobody answered at the hotline. I want my money back now!",
    "Курьер опоздал на два часа, на горячей линии никто не ответил. Верните деньги, заказ 12345!",
    "Kuryer ikki soat kechikdi, hech kim javob bermadi. Pulimni qaytaring!",
)


def personal(number: int) -> str:
    """A text with a phone number, an address and a handle, another one each time."""
    return (
        f"Kuryer kelmadi, buyurtma {number}, tel +998 90 {number % 1000:03d} {number // 100 % 100:02d} 67, "
        f"a{number}@mail.uz yoki @mijoz_{number}, rahmat"
    )


def cost_us(texts: Sequence[str]) -> float:
    """Microseconds of processor time a text."""
    redactor = Redactor(Privacy(), b"k" * 32)
    began = time.process_time()
    for text in texts:
        redactor.text(text)
    return (time.process_time() - began) / len(texts) * 1e6


def main() -> int:
    """Measure both sorts, the better of three times each."""
    sorts = {
        "without personal data": [PLAIN[number % len(PLAIN)] for number in range(TEXTS)],
        "with phone number, address and handle": [personal(number) for number in range(TEXTS)],
    }
    for name, texts in sorts.items():
        chars = sum(map(len, texts)) / len(texts)
        best = min(cost_us(texts) for _ in range(3))
        print(f"{best:6.0f} µs a text of {chars:.0f} characters {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
