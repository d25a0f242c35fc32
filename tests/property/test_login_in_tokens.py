"""What a session's token says of a login is what the login was; what says anything else is no login."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from zt_agents.identity.principals import Login

TEXT = st.text(min_size=1, max_size=8)
LOGINS = st.builds(
    Login,
    issuer=TEXT,
    subject=TEXT,
    expires_at=st.integers(),
    authenticated_at=st.none() | st.integers(),
    acr=st.just("") | TEXT,
    amr=st.lists(TEXT, max_size=3).map(tuple),
    token=TEXT,
    nonce=st.none() | TEXT,
    access=st.booleans(),
)
ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text() | st.integers())
NAMES = st.sampled_from(["iss", "sub", "exp", "auth_time", "acr", "amr", "token", "nonce"])


@given(LOGINS)
def test_a_login_is_what_its_claim_says_and_its_token_stays_behind(login: Login) -> None:
    said = login.to_claim()
    read = Login.from_claim(said)
    assert read == login
    assert (read.token.reveal(), read.nonce.reveal(), read.access) == ("", None, False)
    assert not {"token", "nonce"} & said.keys()


@given(LOGINS, NAMES, ANYTHING)
def test_a_claim_is_read_as_it_stands_or_not_at_all(login: Login, name: str, value: Any) -> None:
    said = {**login.to_claim(), name: value}
    try:
        read = Login.from_claim(said)
    except ValueError:
        return
    assert read.to_claim() == {key: each for key, each in said.items() if each != []}
    assert type(read.expires_at) is int
