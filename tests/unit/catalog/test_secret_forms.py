"""The forms of well-known credentials are known, in a long text as by themselves; what only resembles one is not."""

from __future__ import annotations

import base64
import functools
import json
import random
import string
import time
from typing import Any

import pytest

from zt_agents._internal.secret_forms import SECRET_TEXTS, form_of_secret
from zt_agents.catalog.ambient_secrets import in_environment, in_tool

_DRAWN = random.Random(4)
_LETTERS = string.ascii_letters + string.digits


def drawn(length: int, of: str = _LETTERS) -> str:
    """Return a text that was drawn: no credential of anybody."""
    return "".join(_DRAWN.choice(of) for _ in range(length))


def hex_(length: int) -> str:
    return "a" + drawn(length - 1, "0123456789abcdef")


PEM = "-----BEGIN {} PRIVATE KEY-----\n"
FORMS = {
    "Twilio": "SK" + hex_(32),
    "Stripe": "sk_live_" + "abcdefgh" * 3,
    "Stripe, restricted": "rk_live_" + drawn(24),
    "Stripe, webhook": "whsec_" + drawn(32),
    "Slack": "xoxb-" + drawn(12, string.digits) + "-" + drawn(24),
    "Slack, refreshed": "xoxe.xoxp-1-" + drawn(40),
    "Slack, application": "xapp-" + "1-A0123-123-" + drawn(20),
    "Slack, webhook": "https://hooks.slack.com/services/" + "T0000AAAA/B0000AAAA/" + drawn(24),
    "Discord, webhook": "https://discord.com/api/webhooks/" + "123456789012345678/" + drawn(68),
    "GitHub, fine-grained": "github_pat_" + drawn(22) + "_" + drawn(59),
    "GitHub": "ghp_" + drawn(36),
    "GitLab": "glpat-" + drawn(20),
    "GitLab, deployment": "gldt-" + drawn(20),
    "Google, service account": json.dumps({"private_key": PEM.format("").replace("  ", " ") + drawn(64) + "\n"}),
    "Google, OAuth": "ya29." + drawn(60),
    "Google, client": "GOCSPX-" + drawn(28),
    "Google, key": "AIza" + drawn(35),
    "Azure, connection": "AccountName=acme;AccountKey=" + base64.b64encode(_DRAWN.randbytes(64)).decode(),
    "Azure, storage": base64.b64encode(_DRAWN.randbytes(64)).decode(),
    "Azure, client": "abc" + "8Q~" + drawn(34),
    "Azure, signed URL": "https://acme.blob.core.windows.net/c?sv=2022-11-02&sig=" + drawn(43) + "%3D",
    "Amazon, signed URL": "https://acme.s3.amazonaws.com/x?X-Amz-Expires=60&X-Amz-Signature=" + hex_(64),
    "Amazon": "AKIA" + drawn(16, string.ascii_uppercase),
    "npm": "npm_" + drawn(36),
    "PyPI": "pypi-" + drawn(70),
    "JWT": "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "JWE": "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0.." + ".".join(map(drawn, (16, 40, 22))),
    "RSA key": PEM.format("RSA") + drawn(64),
    "RSA key, with headers": PEM.format("RSA") + "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,AB\n\n" + drawn(64),
    "OpenSSH key": PEM.format("OPENSSH") + drawn(64),
    "PGP key": PEM.format("PGP").replace("KEY-", "KEY BLOCK-") + "\n" + drawn(64),
    "age key": "AGE-SECRET-KEY-1" + drawn(58, string.ascii_uppercase),
    "database": "postgresql://app:" + "s3cret@db.acme.example/shop",
    "database, with a slash": "postgresql://app:" + "pa/ss@db.acme.example/shop",
    "cache": "redis://:" + "s3cretpw@cache.acme.example:6379/0",
    "database of Java": "jdbc:postgresql://db/shop?user=app&password=" + "s3cret99",
    "one-time codes": "otpauth://totp/acme?issuer=acme&secret=" + "JBSWY3DPEHPK3PXP",
    "basic authentication": "Basic " + base64.b64encode(b"user:pass123").decode(),
    "OpenAI": "sk-proj-" + drawn(48),
    "Anthropic": "sk-ant-api03-" + drawn(93),
    "Hugging Face": "hf_" + drawn(34, string.ascii_letters),
    "SendGrid": "SG." + drawn(22) + "." + drawn(43),
    "Mailgun": "key-" + hex_(32),
    "Telegram": "123456789:" + "AA" + drawn(33),
    "Shopify": "shpat_" + hex_(32),
    "Databricks": "dapi" + hex_(32),
    "Doppler": "dp.pt." + drawn(43),
    "Terraform": drawn(14) + ".atlasv1." + drawn(64),
    "Vault": "hvs." + drawn(24),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_a_well_known_form_is_known(text: str) -> None:
    assert form_of_secret(text) not in ("", "a random text")
    assert form_of_secret(f"It is '{text}', or so.") not in ("", "a random text")
    assert SECRET_TEXTS.search(f"It is '{text}', or so."), "nor is it kept in a record"
    (found,) = in_environment({"X": text}, declared=())
    assert text not in f"{found.place} {found.why}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("password", "hunter"),
        ("api_key", "abcdefgh"),
        ("client_secret", "correcthorse"),
        ("passcode", "abc123"),
        ("TWILIO_AUTH", hex_(32)),
        ("twilio_auth_token", hex_(32)),
        ("stripe_key", hex_(32)),
        ("github_pat", "abc1" * 6),
        ("encryption_key", "abcdefghijkl"),
        ("vault_token", "s." + drawn(24)),
    ],
)
def test_a_telling_name_is_enough_in_lower_case_too(name: str, value: str) -> None:
    (found,) = in_environment({name: value}, declared=())
    assert found.why == "named like a secret"


@pytest.mark.parametrize("kind", [bytes, bytearray, lambda text: memoryview(bytearray(text))])
def test_bytes_of_every_kind_are_looked_at(kind: Any) -> None:
    held = kind(b"hunter22pw")
    (found,) = in_tool("t", functools.partial(print, password=held))
    assert found.why == "named like a secret"
    (found,) = in_tool("t", functools.partial(print, kind(FORMS["Stripe"].encode())))
    assert found.why == "looks like an API key"

    def body() -> Any:
        return b"rk_live_abcdefghijklmnopqrstuvwx"

    (found,) = in_tool("t", body)
    assert found.why == "looks like an API key"


def test_bytes_that_cannot_be_looked_at_are_passed_over() -> None:
    released = memoryview(b"hunter22pw")
    released.release()
    assert in_tool("t", functools.partial(print, password=released)) == []
    assert in_tool("t", functools.partial(print, password=memoryview(b"h0u1n2t3e4r5")[::2])) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("auth", "enabled"),
        ("auth_method", "private_key_jwt"),
        ("password_policy", "strong"),
        ("password_field", "passwd"),
        ("secret_name", "stripe-key"),
        ("secret_source", "environment"),
        ("secret_arn", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf"),
        ("cookie_name", "session"),
        ("csrf_token_name", "csrftoken"),
        ("credential_type", "service_account"),
        ("token_expiry", "2030-01-01"),
        ("token_url_path", "api/v1/token"),
        ("api_key_header", "X-Api-Key"),
        ("primary_key", "customer_id"),
        ("cache_key", hex_(32)),
        ("ticket_key", "PROJ-1234"),
        ("article", "SK" + drawn(32, string.digits)),
        ("model", "sk-learn-pipeline-v2-2024-production"),
        ("commit", hex_(40)),
        ("image", "sha256:" + hex_(64)),
        ("page", "http://acme.example:8080/of/user@acme.example"),
        ("factory", "ThisIsAVeryLongCamelCaseIdentifierNamedFactory2"),
        ("help", "Basic authentication needs a header"),
        ("picture", "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAE"),
        ("id", "AC" + hex_(32)),
    ],
)
def test_what_only_resembles_a_secret_is_left_alone(name: str, value: str) -> None:
    assert in_environment({name: value}, declared=()) == []


@pytest.mark.parametrize(
    "text",
    [
        "a" * 511 + "+",
        "AB" * 255 + "+",
        "a://:" * 12_000,
        "otpauth://" * 6_000,
        "sk-" * 20_000,
        "eyJ" * 20_000,
        "eyJaaaaaaaa." * 5_000,
        "Basic " * 10_000,
        "1Q~" * 20_000,
        "-----BEGIN PRIVATE KEY-----" * 2_000,
        "password=" * 7_000,
    ],
    ids=lambda text: text[:12],
)
def test_no_text_holds_the_search_up(text: str) -> None:
    began = time.process_time()
    form_of_secret(text)
    SECRET_TEXTS.search(text)
    assert time.process_time() - began < 5
