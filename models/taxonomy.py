"""What each label means: the definitions behind the sentences that the model learned from, and docs/taxonomy.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DEFINITIONS: Final[Mapping[str, str]] = {
    "delivery": "Whether, when and in what state something arrives: couriers, parcels, tracking, pick-up points.",
    "billing": "Charges, payments, invoices and receipts: charged twice, card refused, wrong sum.",
    "refund": "Money back, returns, exchanges, cancellations and what becomes of them.",
    "quality": "The product itself, food included: broken, fake, tasty, lasting, as described or not.",
    "app": "The app or the website: crashes, updates, speed, how easy it is to use.",
    "account": "Signing in and the account: passwords, codes, blocked or hacked accounts, personal details.",
    "service": "People: staff, support, couriers' and waiters' manners, waiting for an answer, being helped.",
    "price": "What it costs: dear or cheap, fees, discounts, promotions, value for money.",
    "availability": "Whether it can be had: in stock, sold out, opening hours, closed branches, free tables and slots.",
    "other": "None of these, or nothing that says which.",
}
