"""A baseline without a model: it counts stems of word lists. What every real model must beat."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final

from models import preprocess, reading
from models.classifier import TOPICS, UNKNOWN_LANGUAGE, Prediction


def _words(text: str) -> Sequence[str]:
    return text.split()


# Beginnings of words, in all languages together: a stem that means two things in two languages is left out.
_POSITIVE: Final = _words(
    """
great good excellent amazing love perfect thank awesome fast friendly helpful happy best nice
отлич хорош супер спасиб быстр лучш класс нравит прекрасн доволен довольн вежлив удобн
yaxshi zo'r rahmat ajoyib a'lo qulay tez mamnun yoqdi
яхши зўр раҳмат ажойиб аъло қулай мамнун ёқди
harika güzel mükemmel teşekkür süper hızlı memnun başarılı
gut toll super danke schnell freundlich zufrieden perfekt klasse hervorragend
bueno buena excelente gracias rápid perfecto encanta genial amable contento
bon bonne excellent merci rapide parfait génial aimable content
ottimo ottima buono grazie veloce perfetto gentile bravissim
bom boa ótim excelente obrigad rápid perfeito adorei gentil
"""
)
_NEGATIVE: Final = _words(
    """
bad terrible awful worst horrible slow broken rude never disappoint useless scam crash waste refuse
плох ужас кошмар отврат хам медленн сломан никогда разочаров обман верните позор глючит вылетает невозможн
yomon dahshat sekin buzuq qo'pol ishlamayapti ishlamaydi aldash kechikdi rasvo
ёмон даҳшат секин бузуқ қўпол ишламаяпти ишламайди алдаш кечикди расво
kötü berbat rezalet yavaş bozuk kaba asla maalesef çalışmıyor iğrenç
schlecht schrecklich furchtbar langsam kaputt unfreundlich enttäusch leider katastroph
malo mala pésim horrible lento roto nunca decepcion estafa fatal
mauvais nul lent cassé jamais déçu arnaque catastroph
pessim orribil lento rotto maledu delus truffa purtroppo
péssim horrível lento quebrad nunca decepcion golpe ruim
"""
)
_TOPICS: Final[Mapping[str, Sequence[str]]] = {
    topic: _words(stems)
    for topic, stems in {
        "delivery": """
            deliver courier parcel ship доставк курьер посылк yetkaz kuryer етказ kargo kurye teslim
            liefer paket entrega repartidor envío livraison colis consegna corriere
        """,
        "billing": """
            charge invoice bill payment card спис счет оплат карт to'lov hisob тўлов fatura ödeme
            rechnung zahl cobr factura pago facture paiement fattura addebit pagamento
        """,
        "refund": """
            refund return возврат верн qaytar қайтар iade erstatt rückgabe reembols devol rembours
            rimbors
        """,
        "quality": """
            quality broken defect taste качеств брак вкус sifat сифат kalite bozuk qualität geschmack
            calidad qualité qualità qualidade
        """,
        "app": """
            app website crash bug update прилож сайт обновл вылета ilova sayt илова uygulama güncelle
            webseite absturz aplicación sitio application applicazione aplicativo
        """,
        "account": """
            account login password аккаунт парол вход hisobim parol парол hesab şifre konto passwort
            cuenta contraseña compte mot password senha conta
        """,
        "service": """
            service staff support manager операт сотрудник поддержк персонал xodim operator ходим
            personel destek mitarbeiter servicio atención personnel personale atendimento
        """,
        "price": """
            price expensive cheap cost цен дорог дешев narx qimmat нарх қиммат fiyat pahalı preis teuer
            precio caro prix cher prezzo preço
        """,
        "availability": """
            stock available closed налич закрыт открыт mavjud yopiq мавжуд ёпиқ stok kapalı vorrätig
            geschlossen agotado disponible cerrado rupture fermé esaurito chiuso esgotado fechado
        """,
    }.items()
}
_NEUTRAL: Final = 0.5  # of a word: one that is good or bad decides
_WORD = re.compile(r"[^\W\d_][\w']*")


class LexiconClassifier:
    """See `Classifier`. Languages are not told apart, urgency is not judged."""

    def __init__(self) -> None:
        words = "\n".join([*_POSITIVE, *_NEGATIVE, *(w for stems in _TOPICS.values() for w in stems)])
        self._model = f"lexicon@{hashlib.sha256(words.encode()).hexdigest()[:12]}"
        self._positive, self._negative = _starts(_POSITIVE), _starts(_NEGATIVE)
        self._topics = {topic: _starts(stems) for topic, stems in _TOPICS.items()}

    @property
    def model(self) -> str:
        """`name@hash` of the word lists."""
        return self._model

    def classify(self, texts: Sequence[str], languages: Sequence[str | None] = ()) -> list[Prediction]:
        """See `Classifier.classify`."""
        return [self._one(preprocess.clean(text).lower()) for text in texts]

    def _one(self, text: str) -> Prediction:
        if not preprocess.is_readable(text):
            return reading.unread(TOPICS, self._model, None)
        words = _WORD.findall(text)
        good = sum(1 for word in words if self._positive.match(word))
        bad = sum(1 for word in words if self._negative.match(word))
        total = good + bad + _NEUTRAL
        topics = {topic: 0.0 for topic in TOPICS}
        for topic, stems in self._topics.items():
            hits = sum(1 for word in words if stems.match(word))
            topics[topic] = hits / (hits + 1)
        topics["other"] = 0.4 if max(topics.values()) < 0.5 else 0.0
        return Prediction(
            sentiment=(bad / total, _NEUTRAL / total, good / total),
            topics=topics,
            language=UNKNOWN_LANGUAGE,
            model=self._model,
        )


def _starts(stems: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, stems)))
