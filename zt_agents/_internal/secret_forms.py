"""What a secret is called, and what one looks like. Both are guesses: they find what is common."""

from __future__ import annotations

import math
import re
from collections import Counter

_NAMES = re.compile(
    r"passw(or)?d|passphrase|passcode|pwd$|secret|token(?!s|i[sz])|apikey|accesskey|privatekey|signingkey|encryptionkey|masterkey|credential|authorization"
    r"|cookie|bearer|onetime|otp$|^pin$|^cvv$|^cvc$|connectionstring|^auth$"
)
"""Searched in a name without its separators, in lower case. A number of tokens is no secret, nor is a tokenizer."""
_SEPARATORS = re.compile(r"[\s_.\-]+")
SECRET_TEXTS = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY"  # PEM
    r"|(?<![\w-])eyJ[\w-]{8,}\.[\w-]*\."  # JWT, JWE
    r"|\b(?:(?:bearer|basic|token)\s+[\w.~+/-]{12,}=*"  # HTTP
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # Amazon
    r"|gh[pousr]_\w{20,}|github_pat_\w{20,}|gl[a-z]{2,5}-[\w-]{16,}"  # GitHub, GitLab
    r"|xox[a-z]-[\w-]{10,}|xapp-\d-[\w-]{10,}"  # Slack
    r"|[sr]k[-_][\w-]{16,}|gsk_\w{30,}|hf_[a-z]{30,}|lsv2_[a-z]{2}_\w{30,}"  # OpenAI, Anthropic, Stripe and others
    r"|AIza[\w-]{30,}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,}"  # Google
    r"|SK[0-9a-f]{32}\b|SG\.[\w-]{20,}|key-[0-9a-f]{32}|shp[a-z]{2}_[0-9a-f]{32}|lin_api_\w{30,}"  # Twilio, mail, shops
    r"|npm_\w{30,}|pypi-[\w-]{40,}|hv[sbr]\.[\w-]{20,}|dapi[0-9a-f]{32}|dop_v1_\w{40,}|dp\.[a-z]{2,5}\.\w{40,}"
    r"|whsec_[\w+/=]{16,}|age-secret-key-1|otpauth://|accountkey=|sharedaccesskey="
    r"|hooks\.slack\.com/\w+/|api/webhooks/\d+/)"
    r"|[?&](?:sig|x-amz-signature)=|\dQ~[\w.~-]{31}|:AA[\w-]{33}|\.atlasv1\.|[\w+/]{60}=="
    r"|\w://[^\s/:@]{0,300}:(?!\d{1,5}/)[^\s@]{1,300}@"  # a URL with a password
    r"|(?:passw(?:or)?d|passphrase|pwd|secret|api[ _-]?key|access[ _-]?key|(?:auth|access|session)[ _-]?token)"
    r"['\"]?\s*(?:[:=]|is\b)\s*\S",  # in prose, in a query or in a file of settings
    re.IGNORECASE,
)
"""Finds rather too much: it decides what is kept out of a record."""
_FORMS = {
    "a private key": r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[rn])+(?:[\w+/=]{16}|[A-Z][\w-]+: )"
    r"|\bAGE-SECRET-KEY-1[A-Z0-9]{50,}",
    "a JSON Web Token": r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]{4,}"
    r"|(?<![\w-])eyJ[\w-]{8,}(?:\.[\w-]*){2}(?:\.[\w-]{8,}){2}",
    "an access key of Amazon": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a token of GitHub or GitLab": r"\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}"
    r"|\bgl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|oas|imt)-[\w-]{16,}",
    "a token of Slack": r"\bxox[a-z]-[\w-]{10,}|\bxapp-\d-[\w-]{10,}",
    "a token of PyPI": r"\bpypi-[\w-]{40,}",
    "a token of npm": r"\bnpm_[A-Za-z0-9]{36}\b",
    "an API key": r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"
    r"|\b[sr]k[-_](?=[\w-]{0,199}\d)(?=[\w-]{0,99}[A-Za-z0-9]{12})[\w-]{16,}|\bwhsec_[\w+/=]{16,}"
    r"|\bAIza[\w-]{30,}|\bya29\.[\w-]{20,}|\bGOCSPX-[\w-]{20,}|\bSK(?=\d*[a-f])[0-9a-f]{32}\b"
    r"|\bkey-[0-9a-f]{32}\b|\b\d{8,10}:AA[\w-]{33}\b|\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}\b|\bdapi[0-9a-f]{32}\b"
    r"|\bdp\.[a-z]{2,5}\.\w{40,}|\b\w{14}\.atlasv1\.[\w-]{60,}|\bhf_[A-Za-z]{30,}|\bgsk_\w{40,}|\blin_api_\w{30,}"
    r"|(?<![\w.~-])[\w.~-]{3}\dQ~[\w.~-]{31,34}(?![\w.~-])|(?<![\w+/])[\w+/]{86}==(?![\w+/=])"
    r"|\bSG\.[\w-]{20,}\.[\w-]{20,}|\bdop_v1_[0-9a-f]{40,}|\blsv2_[a-z]{2}_\w{30,}",
    "a header of HTTP with a credential": r"\b(?:Bearer|Basic) (?=[\w.~+/-]*\d)[\w.~+/-]{16,}=*"
    r"|\bBasic (?=\w[a-z]*[A-Z])[A-Za-z0-9+/]{12,}={0,2}",
    "a URL that is a credential": r"hooks\.slack\.com/(?:services|workflows|triggers)/[\w/]{20,}"
    r"|discord(?:app)?\.com/api/webhooks/\d+/[\w-]{20,}|[?&]sig=[\w%+/-]{40,}|[?&]X-Amz-Signature=[0-9a-f]{40,}"
    r"|\botpauth://[^\s?]{0,300}\?(?:[^\s#]{0,300}&)?secret=[A-Za-z2-7]{16,}",
    "a connection string with a password": r"(?i:\b(?:password|pwd|accountkey|sharedaccesskey))=[^\s;&'\"{}<>$*%?]{6,}",
    "a token of Vault": r"\bhv[sbr]\.[\w-]{20,}",
    "a URL with a password": r"\w://[^\s/:@{}<$]{0,300}:(?!\d{1,5}/)[^\s@{}<$*]{3,300}@",
}
_KNOWN = {what: re.compile(pattern) for what, pattern in _FORMS.items()}
"""Finds rather too little: it decides what people are warned of."""
_WORDS = re.compile(r"(?:[A-Z]?[a-z]{2,}+|(?:I[fns]|A[nst]|O[fnr]|By|No|To)(?![a-z])|[A-Z]++|\d{1,4}+|[_-])++")
"""Words put together, such as the name of a class. Possessive: it never looks back."""
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
    if not _RANDOM.fullmatch(text) or _WORDS.fullmatch(text):
        return False
    if text.count("/") > 2 or text.count("-") > 4:  # a path, a UUID or a slug
        return False
    kinds = sum(any(map(kind, text)) for kind in (str.isdigit, str.isupper, str.islower))
    counts = Counter(text).values()
    return kinds == 3 and -sum(n / len(text) * math.log2(n / len(text)) for n in counts) >= _BITS
