"""One-time codes: the vectors of RFC 6238, and everything that is no code."""

from __future__ import annotations

import base64
import sys
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt_agents.errors import MissingExtraError
from zt_agents.identity.approving.one_time_codes import OneTimeSecret, matching_step, qr_svg, qr_text

SECRET = OneTimeSecret(b"12345678901234567890")
NOW = 1_800_000_000.0
secrets = st.binary(min_size=20, max_size=20).map(OneTimeSecret)


def code(secret: OneTimeSecret, step: int) -> str:
    return pyotp.TOTP(secret.base32).generate_otp(step)


@pytest.mark.parametrize(
    ("time", "eight_digits"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_the_vectors_of_rfc_6238(time: int, eight_digits: str) -> None:
    # Appendix B has eight digits; six of them are the same number's last six.
    assert matching_step(SECRET, eight_digits[-6:], time) == time // 30


@pytest.mark.parametrize(("off", "accepted"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_clock_may_be_one_step_off(off: int, accepted: bool) -> None:
    current = int(NOW) // 30
    assert matching_step(SECRET, code(SECRET, current + off), NOW) == (current + off if accepted else None)


def test_the_same_code_says_the_same_step_for_as_long_as_it_is_good() -> None:
    """A replay shows: whoever has kept the step sees it again, whenever the code is sent again."""
    current = int(NOW) // 30
    given_code = code(SECRET, current)
    steps = {matching_step(SECRET, given_code, NOW + seconds) for seconds in range(-30, 60)}
    assert steps == {current}
    assert matching_step(SECRET, given_code, NOW + 60) is None


def test_of_two_steps_with_one_code_the_later_counts() -> None:
    """Else the code would be good again at the later one, for somebody who looked on."""
    step = 2_231_692
    assert code(SECRET, step) == code(SECRET, step + 1)
    assert matching_step(SECRET, code(SECRET, step), step * 30) == step + 1


def test_there_is_no_step_before_the_epoch() -> None:
    assert matching_step(SECRET, code(SECRET, 0), 0) == 0
    assert matching_step(SECRET, "000000", -1e9) is None


GOOD = code(SECRET, int(NOW) // 30)
TRICKS = {
    "five digits": GOOD[:-1],
    "seven digits": GOOD + "0",
    "a zero before": "0" + GOOD,
    "nothing": "",
    "a space before": " " + GOOD,
    "a space behind": GOOD + " ",
    "a space between": f"{GOOD[:3]} {GOOD[3:]}",
    "a newline behind": GOOD + "\n",
    "a null behind": GOOD + "\0",
    "a sign": "+" + GOOD[1:],
    "an underscore": f"{GOOD[:3]}_{GOOD[3:]}",
    "Arabic digits": GOOD.translate({48 + digit: 0x660 + digit for digit in range(10)}),
    "full-width digits": GOOD.translate({48 + digit: 0xFF10 + digit for digit in range(10)}),
    "mathematical digits": GOOD.translate({48 + digit: 0x1D7CE + digit for digit in range(10)}),
    "one Arabic digit": chr(0x660 + int(GOOD[0])) + GOOD[1:],
    "a zero-width space": GOOD + "\u200b",
    "a lone surrogate": GOOD[:-1] + "\ud800",
    "a megabyte": GOOD * 200_000,
    "bytes": GOOD.encode(),
    "a number": int(GOOD),
    "none": None,
    "a list": [GOOD],
}


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS.keys())
def test_a_code_is_six_ascii_digits_and_nothing_else(trick: object) -> None:
    assert matching_step(SECRET, GOOD, NOW) is not None
    assert matching_step(SECRET, trick, NOW) is None  # type: ignore[arg-type]


@given(secrets, st.floats(0, 10**10))
def test_what_an_app_shows_is_accepted_and_says_when(secret: OneTimeSecret, now: float) -> None:
    shown = pyotp.TOTP(secret.base32).at(int(now))
    step = matching_step(secret, shown, now)
    assert step is not None
    assert abs(step - int(now) // 30) <= 1
    assert code(secret, step) == shown


@given(secrets, st.text() | st.text("0123456789", min_size=6, max_size=6), st.floats(0, 10**10))
def test_nothing_but_a_code_of_the_window_matches(secret: OneTimeSecret, text: str, now: float) -> None:
    current = int(now) // 30
    window = {code(secret, step) for step in range(max(current - 1, 0), current + 2)}
    assert (matching_step(secret, text, now) is not None) == (text in window)


def test_a_secret_has_160_bits_and_is_another_each_time() -> None:
    assert len({OneTimeSecret.generate().reveal() for _ in range(100)}) == 100
    assert {len(OneTimeSecret.generate().reveal()) for _ in range(10)} == {20}
    for length in (0, 10, 19, 21, 32):
        with pytest.raises(ValueError):
            OneTimeSecret(b"x" * length)


def test_a_secret_never_shows_itself() -> None:
    for shown in (repr(SECRET), str(SECRET), f"{SECRET}", f"{[SECRET]}"):
        assert "1234" not in shown
        assert SECRET.base32 not in shown


def test_the_uri_is_what_an_app_reads() -> None:
    uri = urlsplit(SECRET.uri(approver="dana@acme.example", trust_domain="acme.example"))
    assert (uri.scheme, uri.netloc) == ("otpauth", "totp")
    assert unquote(uri.path) == "/acme.example:dana@acme.example"
    query = parse_qs(uri.query, strict_parsing=True)
    assert query == {"secret": [SECRET.base32], "issuer": ["acme.example"]}  # the rest is what apps take by default
    assert base64.b32decode(query["secret"][0]) == SECRET.reveal()


def test_an_approver_s_name_cannot_add_to_the_uri() -> None:
    uri = urlsplit(SECRET.uri(approver="dana?secret=AAAA&issuer=evil#:/..", trust_domain="acme.example&digits=8"))
    assert parse_qs(uri.query, strict_parsing=True) == {
        "secret": [SECRET.base32],
        "issuer": ["acme.example&digits=8"],
    }
    assert not uri.fragment


def test_the_qr_codes_are_of_the_uri() -> None:
    """Both show the same modules, and each other text has others."""
    uri = SECRET.uri(approver="dana@acme.example", trust_domain="acme.example")
    text, svg = qr_text(uri), qr_svg(uri)
    assert set(text) <= set(" ▀▄█\n")
    root = ElementTree.fromstring(svg)
    assert root.tag == "svg"
    assert "style" not in svg
    assert "script" not in svg
    modules = len(text.splitlines()[0])
    assert root.attrib["width"] == root.attrib["height"] == str(4 * modules)
    assert qr_text(uri + "0") != text
    assert qr_svg(uri + "0") != svg


@pytest.mark.parametrize(
    ("module", "use"),
    [("pyotp", lambda: matching_step(SECRET, "123456", NOW)), ("segno", lambda: qr_text("otpauth://totp/"))],
)
def test_without_the_extra_it_says_what_to_install(module: str, use: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"zt-agents\[approvals\]"):
        use()  # type: ignore[operator]
