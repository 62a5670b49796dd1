"""What protects a card, beside its number: track data, security codes, PINs (PCI DSS 4.0.1, 3.3.1).

    track(";4111111111111111=25121011000012300000?")  ->  True, whatever the Luhn digit, in identifiers too
    code("安全码：123")                                ->  True
    name("full_card_number"), name("cid", "card")     ->  True

Track data has a shape that nothing else has (ISO/IEC 7813), so it is looked for everywhere. A code is three to six
digits like any others: it is known by the word before it, which is why `code` is asked of free text alone.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import re2

from engine.schema.cardnumbers import is_card_number, plain_digits

# -- Track data ------------------------------------------------------------------------------------------------

# Number, separator, then the expiry (YYMM) and the service code; or, where the card has none, a second separator.
# A reader may take off the sentinels; without them all parts must be there.
_TRACK = re.compile(
    r"%[A-Z] ?[0-9](?: ?[0-9]){11,18} ?\^"
    r"|(?<![0-9])[0-9](?: ?[0-9]){11,18} ?\^[^^]{2,26}\^(?:[0-9]{4}|\^)"
    r"|;[0-9]{12,19}=(?:[0-9]{4}|=)"
    r"|(?<![0-9])[0-9]{12,19}=[0-9]{2}(?:0[1-9]|1[0-2])[1-9][0-9]{2}"
)
# Track 2 as messages between banks carry it (ISO 8583, field 35): a letter parts, so the number must be a card's.
_TRACK_D = re.compile(r"(?<![0-9])([0-9]{13,19})D[0-9]{2}(?:0[1-9]|1[0-2])[1-9][0-9]{2}")
_SIGNS = str.maketrans("％＾；＝", "%^;=")


def track(text: str) -> bool:
    """Whether track 1 or track 2 of a card stands anywhere in `text`, with its sentinels or without."""
    plain = plain_digits(text).translate(_SIGNS)
    return _TRACK.search(plain) is not None or any(is_card_number(each[1]) for each in _TRACK_D.finditer(plain))


# -- Codes in text ---------------------------------------------------------------------------------------------

_GAP = r"[^0-9a-z\u4e00-\u9fff]{0,4}"
_FILL = rf"(?:(?:is|was|code|number|no|value|it|my|the|of|是|为|號|号|码|碼|[后後]?三位){_GAP}){{0,4}}"
_SIGN = rf"{_GAP}{_FILL}"
_TOLD = r"(?: ?(?:code|number|no\.?))? ?(?:[:=]|is\b|was\b|是|为) ?"
_ALONE = r"(?![0-9a-z]|[.,:/-][0-9])"
_OF_CARD = r"(?:card|\batm|bank|debit|credit|visa|amex|卡|银联|银行)[^0-9.;。；\n]{0,16}"

_CODE = re.compile(
    # Words that mean nothing else.
    rf"(?:cvv2?|cvc2?|cvn2?|cav2|cv2|card verification|security code|安全码|安全碼){_SIGN}"
    rf"[0-9](?: ?[0-9]){{2,5}}{_ALONE}"
    # Words that mean other things too: where a sign ties the digits to them, or the text is about a card.
    rf"|(?<![a-z0-9])(?:cid|csc|校验码|校驗碼) ?(?::|is\b|是|为) ?[0-9]{{3,4}}{_ALONE}"
    rf"|{_OF_CARD}\b(?:cid|csc)\b{_SIGN}[0-9]{{3,4}}{_ALONE}"
    # A PIN of 4 or 5 digits. Six are the postcode of an address in India, unless a card is named.
    rf"|(?<![a-z0-9])(?<![0-9][ -])pin{_TOLD}[0-9]{{4,5}}{_ALONE}"
    rf"|(?<![a-z0-9])(?:my|your|his|her|their) pin{_SIGN}[0-9]{{4,5}}{_ALONE}"
    rf"|(?<![a-z0-9])pin ?(?:code|number){_SIGN}[0-9]{{4,5}}{_ALONE}"
    rf"|{_OF_CARD}\bpin\b{_SIGN}[0-9]{{4,6}}{_ALONE}"
    rf"|(?:卡|银行|支付|取款|交易|付款|\batm)[^0-9。；;!！?？\n]{{0,8}}密码{_SIGN}[0-9]{{4,6}}{_ALONE}"
)


def code(text: str) -> bool:
    """Whether a security code or PIN stands in free text: three to six digits behind a word that announces one."""
    plain = plain_digits(text)
    if not plain.isascii():
        plain = unicodedata.normalize("NFKC", plain)
    return _CODE.search(" ".join(plain.lower().split())) is not None


def _labels() -> Any:
    """What an announced code begins with, in UTF-8 bytes. RE2 looks for all of it in one pass, three times as fast."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # bytes as they are
    options.case_sensitive = False
    options.log_errors = False
    latin = [r"cv[cvn2]", r"pin[^a-z]", r"cid[^a-z]", r"csc[^a-z]", "cav2", "verification", "security"]
    chinese = ["安全码", "安全碼", "校验码", "校驗碼", "密码"]
    full_width = [r"\xef\xbc[\x9d\xa1-\xba\xbe]", r"\xef\xbd[\x81-\x9a]"]
    return re2.compile("|".join([*latin, *full_width]).encode() + b"|" + "|".join(chinese).encode(), options)


_LABELS = _labels()


def in_json(text: bytes) -> bool:
    """Whether a closer look at the strings of the JSON is worth while: a quick look that misses nothing."""
    if (b"=" in text or b"^" in text) and track(text.decode()):
        return True
    return _LABELS.search(text) is not None


def holds(text: str) -> bool:
    """Whether track data, a security code or a PIN stands in free text."""
    return track(text) or code(text)


# -- Names of fields -------------------------------------------------------------------------------------------

_BEFORE = (
    "card|credit|debit|bank|atm|full|raw|plain|clear|my|the|new|old"
    "|user|buyer|payer|customer|holder|account|payment|pay"
)
_AFTER = "code|number|num|no|value|val|digits|data|text"
_CORE = (
    r"cvv2?|cvc2?|cvn2?|csc|cav2?|cv2|securitycode|cardverification(?:value|code|number|no)2?|verificationvalue2?|cardcid|pin|pinblock"
    r"|pan|fullpan|primaryaccountnumber|cardnumber|cardnum|cardno|creditcard|password|passwd"
    r"|magstripe|magneticstripe|track[123](?:data)?|trackdata"
)
_WHOLE = re.compile(
    rf"(?:{_BEFORE})*(?:{_CORE})(?:{_AFTER})*|track|cardtrack|(?:银行|信用|借记)?卡?(?:卡号|安全码|密码)|(?:交易|支付|取款)密码"
)
_ALWAYS = frozenset("cvv cvv2 cvc cvc2 cvn cvn2 cav2 cv2 pinblock track1 track2 track3 trackdata magstripe".split())
_ABOUT = frozenset(
    "result results match matched matches mismatch check checks checked present provided given sent entered status "
    "response length attempt attempts count tries error errors fail failed fails failure failures ok valid verified "
    "required missing flag indicator reason".split()
)
_PART = re.compile(r"[A-Z]+[0-9]*(?![a-z])|[A-Z]?[a-z]+[0-9]*|[0-9]+|[^\W\d_A-Za-z]+")


def name(key: str, around: str = "") -> bool:
    """Whether a field called `key`, in the object `around`, announces a card number, a security code, a PIN or tracks.

    A name that says something about a secret (`cvv_result`, `pin_tries`) does not announce one.
    """
    parts = [part.lower() for part in _PART.findall(unicodedata.normalize("NFKC", key))]
    if not _ALWAYS.isdisjoint(parts) and _ABOUT.isdisjoint(parts):
        return True
    return any(_WHOLE.fullmatch(_joined(each)) for each in ((key,), (around, key)) if each[0])


def path(dotted: str) -> bool:
    """Whether a field at this path announces a secret: by its own name, or by that and the one around it."""
    around, _, key = dotted.rpartition(".")
    return name(key, around.rpartition(".")[2])


def _joined(names: tuple[str, ...]) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", "".join(names)).lower()))
