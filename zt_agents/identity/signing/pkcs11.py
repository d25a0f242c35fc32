"""Signing keys in a PKCS#11 token: made there, used there, and never seen outside of it.

::

    pkcs11:token=zt-agents?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/zt-agents/pin

Rules:

1. A token is named by a URI (RFC 7512) that says which token, which module, and where its PIN is: in a file that only
   its owner can read, or in ``ZT_AGENTS_PKCS11_PIN``. A PIN in the URI is refused, as is whatever is not understood.
2. Keys are made in the token, for signing, sensitive and not extractable; one that is extractable is not used.
3. Nothing is derived from such a key: each kind of token has a key of its own, made together with it.
4. A process that was forked has to open the token itself.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

from zt_agents._internal.optional import require
from zt_agents.errors import ConfigurationError, StoreError
from zt_agents.identity.signing.keys import SigningKey, read_private_file
from zt_agents.identity.signing.public_keys import EDDSA, ES256

PIN_VARIABLE = "ZT_AGENTS_PKCS11_PIN"
_ED25519 = "1.3.101.112"
_NEVER = "A key in a token does not leave it."


_opened: dict[tuple[str, str], Pkcs11Token] = {}
"""By module and name: a process is logged into a token as a whole, once."""
_opening = threading.Lock()


def open_token(uri: str) -> Pkcs11Token:
    """Return the token that *uri* names, logged into.

    Raises:
        ConfigurationError: the URI is none, or the token cannot be opened with its PIN.
        MissingExtraError: python-pkcs11 is not installed.
    """
    name, module, pin = _parsed(uri)
    with _opening:
        known = _opened.get((module, name))
        if known is None or known.pid != os.getpid():
            known = _opened[module, name] = Pkcs11Token(name, module, pin, anew=known is not None)
        return known


class Pkcs11Token:
    """One token, logged into; made by :func:`open_token`. Safe to share between threads."""

    def __init__(self, name: str, module: str, pin: str, *, anew: bool) -> None:
        self._pkcs11 = require("pkcs11", extra="pkcs11", purpose="Keys in a PKCS#11 token")
        self._ec = require("pkcs11.util.ec", extra="pkcs11", purpose="Keys in a PKCS#11 token")
        self.name = name
        try:
            library = self._pkcs11.lib(module)
            if anew:  # a fork has copied a module that knows of sessions that are not this process's
                library.reinitialize()
            self._session = library.get_token(token_label=name).open(user_pin=pin, rw=True)
        except (self._pkcs11.PKCS11Error, RuntimeError, OSError) as error:
            text = f"The token {name!r} could not be opened: {type(error).__name__}."
            raise ConfigurationError(text, hint="See its URI: token, module-path and pin-source.") from error
        self.pid = os.getpid()
        self._lock = threading.RLock()

    def generate(self, algorithm: str, kinds: Sequence[str] = ()) -> tuple[str, SigningKey]:
        """Make a key, and another for each of *kinds*. Returns the label by which :meth:`key` finds it, and the key.

        Raises:
            StoreError: the token cannot make it.
            ValueError: *algorithm* is neither ``ES256`` nor ``EdDSA``.
        """
        if algorithm not in (ES256, EDDSA):
            raise ValueError(f"keys are for {ES256} or {EDDSA}")
        label = f"zt-agents-{secrets.token_hex(8)}"
        p = self._pkcs11
        curve, key_type, mechanism = (
            ("secp256r1", p.KeyType.EC, p.Mechanism.EC_KEY_PAIR_GEN)
            if algorithm == ES256
            else (_ED25519, p.KeyType.EC_EDWARDS, p.Mechanism.EC_EDWARDS_KEY_PAIR_GEN)
        )
        hidden = {p.Attribute.SENSITIVE: True, p.Attribute.EXTRACTABLE: False}
        with self._used():
            parameters = {p.Attribute.EC_PARAMS: self._ec.encode_named_curve_parameters(curve)}
            domain = self._session.create_domain_parameters(key_type, parameters, local=True)
            for name in (label, *(f"{label}/{kind}" for kind in kinds)):
                domain.generate_keypair(
                    mechanism=mechanism,
                    store=True,
                    label=name,
                    capabilities=p.MechanismFlag.SIGN | p.MechanismFlag.VERIFY,
                    private_template=hidden,
                )
        return label, self.key(label)

    def key(self, label: str) -> SigningKey:
        """Return the key called *label*.

        Raises:
            StoreError: there is none, or the token cannot be used.
            ConfigurationError: it can be taken out of the token.
        """
        p = self._pkcs11
        with self._used():
            private = self._session.get_key(object_class=p.ObjectClass.PRIVATE_KEY, label=label)
            public = self._session.get_key(object_class=p.ObjectClass.PUBLIC_KEY, label=label)
            if private[p.Attribute.EXTRACTABLE] or not private[p.Attribute.SENSITIVE]:
                raise ConfigurationError(f"The key {label!r} can be taken out of the token {self.name!r}.")
            if private.key_type == p.KeyType.EC:
                known = serialization.load_der_public_key(self._ec.encode_ec_public_key(public))
                assert isinstance(known, ec.EllipticCurvePublicKey)
                return _TokenKey(self, label, _EcKey(self, private, known))
            point = public[p.Attribute.EC_POINT]
            edwards = ed25519.Ed25519PublicKey.from_public_bytes(bytes(point[-32:]))
            return _TokenKey(self, label, _EdKey(self, private, edwards))

    def remove(self, label: str, kinds: Sequence[str] = ()) -> None:
        """Destroy the key called *label*, and those for *kinds*.

        Raises:
            StoreError: the token cannot be used.
        """
        with self._used():
            for name in (label, *(f"{label}/{kind}" for kind in kinds)):
                for each in list(self._session.get_objects({self._pkcs11.Attribute.LABEL: name})):
                    each.destroy()

    def sign(self, private: Any, data: bytes, mechanism: str) -> bytes:
        """Return what the key *private* makes of *data*."""
        with self._used():
            return bytes(private.sign(data, mechanism=self._pkcs11.Mechanism[mechanism]))

    def _used(self) -> _Use:
        return _Use(self._lock, self._pkcs11.PKCS11Error, self.name, self.pid)


class _Use:
    """One thread at a time, in the process that opened the token; what goes wrong is a StoreError."""

    def __init__(self, lock: threading.RLock, wrong: type[Exception], name: str, pid: int) -> None:
        self._lock, self._wrong, self._name, self._pid = lock, wrong, name, pid

    def __enter__(self) -> None:
        if os.getpid() != self._pid:
            raise StoreError(f"The token {self._name!r} was opened by another process.", hint="Open it after the fork.")
        self._lock.acquire()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._lock.release()
        if isinstance(error, self._wrong):
            text = f"The token {self._name!r} could not be used: {type(error).__name__}."
            raise StoreError(text) from error


class _TokenKey(SigningKey):
    """A key in a token, and its siblings for other kinds."""

    def __init__(self, token: Pkcs11Token, label: str, private: _EcKey | _EdKey) -> None:
        super().__init__(private)
        self._token = token
        self._label = label

    @property
    def pem(self) -> bytes:
        raise ConfigurationError(_NEVER)

    def derived(self, purpose: str) -> SigningKey:
        try:
            return self._token.key(f"{self._label}/{purpose}")
        except StoreError as error:
            text = f"Nothing is derived from a key in a token, and it has none for {purpose!r}."
            raise ConfigurationError(text) from error

    def secret(self, info: str, length: int) -> bytes:
        raise ConfigurationError(_NEVER)


def _refuse(*_: object) -> NoReturn:
    raise ConfigurationError(_NEVER)


class _EcKey(ec.EllipticCurvePrivateKey):
    """What PyJWT asks of a P-256 key, answered by the token."""

    def __init__(self, token: Pkcs11Token, private: Any, public: ec.EllipticCurvePublicKey) -> None:
        self._token, self._private, self._public = token, private, public

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        raw = self._token.sign(self._private, hashlib.sha256(data).digest(), "ECDSA")
        r, s = (int.from_bytes(half, "big") for half in (raw[:32], raw[32:]))
        return utils.encode_dss_signature(r, s)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    exchange = private_numbers = private_bytes = __copy__ = __deepcopy__ = _refuse  # type: ignore[assignment]


class _EdKey(ed25519.Ed25519PrivateKey):
    """What PyJWT asks of an Ed25519 key, answered by the token."""

    def __init__(self, token: Pkcs11Token, private: Any, public: ed25519.Ed25519PublicKey) -> None:
        self._token, self._private, self._public = token, private, public

    def sign(self, data: Any) -> bytes:
        return self._token.sign(self._private, bytes(data), "EDDSA")

    def public_key(self) -> ed25519.Ed25519PublicKey:
        return self._public

    private_bytes = private_bytes_raw = __copy__ = __deepcopy__ = _refuse  # type: ignore[assignment]


def _parsed(uri: str) -> tuple[str, str, str]:
    """Return name of the token, path of the module, and PIN."""
    scheme, _, rest = uri.partition(":")
    path, _, query = rest.partition("?")
    said: dict[str, str] = {}
    for part in [*path.split(";"), *(query.split("&") if query else ())]:
        name, separator, value = part.partition("=")
        if not separator or name in said:
            raise ConfigurationError("The URI of a token says NAME=VALUE, and nothing twice (RFC 7512).")
        said[name] = unquote(value)
    source = said.pop("pin-source", "")
    if scheme != "pkcs11" or set(said) != {"token", "module-path"} or not all(said.values()):
        raise ConfigurationError(
            "The URI of a token names its token and module-path, may name a pin-source, and nothing else.",
            hint="pkcs11:token=NAME?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/zt-agents/pin",
        )
    return said["token"], said["module-path"], _pin(source)


def _pin(source: str) -> str:
    if not source:
        pin = os.environ.get(PIN_VARIABLE, "")
    elif source.startswith("file:/"):
        pin = read_private_file(Path(source.removeprefix("file:"))).decode(errors="replace").strip()
    else:
        raise ConfigurationError("The PIN of a token is in a file: pin-source=file:/PATH.")
    if not pin:
        hint = f"Give pin-source=file:/PATH in its URI, or {PIN_VARIABLE}."
        raise ConfigurationError("The token has a PIN, and it is nowhere.", hint=hint)
    return pin
