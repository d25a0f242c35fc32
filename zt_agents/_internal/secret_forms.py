"""What a secret is called, and what one looks like. Both are guesses: they find what is common."""

from __future__ import annotations

import math
import re
from collections import Counter

_NAMES = re.compile(
    r"passw(or)?d|passphrase|pwd$|secret|token(?!s|i[sz])|apikey|accesskey|privatekey|signingkey|credential|authorization"
    r"|cookie|bearer|onetime|otp$|^pin$|^cvv$|^cvc$|connectionstring|^auth$"
)
"""Searched in a name without its separators, in lower case. A number of tokens is no secret, nor is a tokenizer."""
_SEPARATORS = re.compile(r"[\s_.\-]+")
SECRET_TEXTS = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY"  # PEM
    r"|(?<![\w-])eyJ[\w-]{8,}\.[\w-]{4,}\."  # JWT, JWE
    r"|\b(?:bearer|basic|token)\s+[\w.~+/-]{12,}=*"  # HTTP
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # Amazon
    r"|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"  # GitHub, GitLab
    r"|\bxox[a-z]-[\w-]{10,}"  # Slack
    r"|\b[sr]k[-_][\w-]{16,}"  # OpenAI, Anthropic, Stripe
    r"|\bAIza[\w-]{30,}"  # Google
    r"|\w://[^\s/:@]*:[^\s/@]+@"  # a URL with a password
    r"|(?:passw(?:or)?d|passphrase|pwd|secret|api[ _-]?key|access[ _-]?key|(?:auth|access|session)[ _-]?token)"
    r"['\"]?\s*(?:[:=]|is\b)\s*\S",  # in prose, in a query or in a file of settings
    re.IGNORECASE,
)
"""Finds rather too much: it decides what is kept out of a record."""
_FORMS = {
    "a private key": r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?:\s|\\[rn])+[\w+/=]{16}",
    "a JSON Web Token": r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]{4,}",
    "an access key of Amazon": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a token of GitHub or GitLab": r"\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}",
    "a token of Slack": r"\bxox[a-z]-[\w-]{10,}|\bxapp-\d-[\w-]{10,}",
    "a token of PyPI": r"\bpypi-[\w-]{40,}",
    "an API key": r"\b(?:sk|rk)[-_](?=[\w-]{0,99}\d)[\w-]{16,}|\bAIza[\w-]{30,}|\bwhsec_[\w+/=]{16,}"
    r"|\bSG\.[\w-]{20,}\.[\w-]{20,}|\bdop_v1_[0-9a-f]{40,}|\blsv2_[a-z]{2}_\w{30,}",
    "a header of HTTP with a credential": r"\b(?:Bearer|Basic) (?=[\w.~+/-]*\d)[\w.~+/-]{16,}=*",
    "a connection string with a password": r"(?i:\b(?:password|pwd|accountkey|sharedaccesskey))=[^\s;&'\"{}<>$*%?]{6,}",
    "a token of Vault": r"\bhv[sbr]\.[\w-]{20,}",
    "a URL with a password": r"\w://[^\s/:@{}<$]*:[^\s/@{}<$*]{3,}@",
}
_KNOWN = {what: re.compile(pattern) for what, pattern in _FORMS.items()}
"""Finds rather too little: it decides what people are warned of."""
_RANDOM = re.compile(r"[A-Za-z0-9+/_=-]{32,512}")
_BITS = 4.2
"""Shannon entropy of a character from which on a long word looks drawn at random; words and hex digits stay below."""


def is_secret_name(name: str) -> bool:
    """Return whether what goes by *name* is likely a secret."""
    return _NAMES.search(_SEPARATORS.sub("", name).lower()) is not None


def form_of_secret(text: str) -> str:
    """Return what *text* looks like, such as ``a private key``; an empty text where it looks like no secret."""
    for what, pattern in _KNOWN.items():
        if pattern.search(text):
            return what
    return "a random text" if _is_random(text) else ""


def _is_random(text: str) -> bool:
    if not _RANDOM.fullmatch(text) or text.count("/") > 2 or text.count("-") > 4:  # a path, a UUID or a slug
        return False
    kinds = sum(any(map(kind, text)) for kind in (str.isdigit, str.isupper, str.islower))
    counts = Counter(text).values()
    return kinds == 3 and -sum(n / len(text) * math.log2(n / len(text)) for n in counts) >= _BITS
