"""What a rotation makes of a ring, whatever the clocks say."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt_agents.identity import SigningKey, VerificationKey
from zt_agents.identity.signing.key_schedule import KeyEntry, KeySchedule, KeyState

NOW = 1_760_000_000.0
OVERLAP = 3600.0
EVERY = 86_400.0
KEYS = [SigningKey.generate("EdDSA").verification for _ in range(12)]
FIRST = KeySchedule((KeyEntry(KEYS[0], NOW, NOW, None),))


def rotated(schedule: KeySchedule, number: int, now: float, wait: float = OVERLAP) -> KeySchedule:
    return schedule.followed_by(KeyEntry(KEYS[number], now, now + wait, None), now=now, overlap=OVERLAP)


def test_a_key_is_next_then_current_then_previous_then_gone() -> None:
    once = rotated(FIRST, 1, NOW + 100)
    begins = NOW + 100 + OVERLAP
    assert [once.state(once.entries[1], moment) for moment in (NOW + 100, begins - 1, begins, begins + EVERY)] == [
        KeyState.NEXT, KeyState.NEXT, KeyState.CURRENT, KeyState.CURRENT
    ]  # fmt: skip
    twice = rotated(once, 2, begins + EVERY)
    ends = begins + EVERY + OVERLAP
    assert [twice.state(twice.entries[0], moment) for moment in (ends - 1, ends, ends + 3599, ends + 3600)] == [
        KeyState.CURRENT, KeyState.PREVIOUS, KeyState.PREVIOUS, KeyState.GONE
    ]  # fmt: skip


def test_what_is_gone_is_left_out_by_the_next_rotation() -> None:
    later = NOW + 10 * OVERLAP
    schedule = rotated(rotated(FIRST, 1, NOW), 2, later)
    assert [entry.key for entry in schedule.entries] == KEYS[1:3]


def test_withdrawing_leaves_the_new_key_alone() -> None:
    schedule = rotated(FIRST, 1, NOW).followed_by(
        KeyEntry(KEYS[2], NOW, NOW, None), now=NOW, overlap=OVERLAP, withdraw=True
    )
    assert [entry.key for entry in schedule.entries] == [KEYS[2]]


def test_a_rotation_is_due_an_overlap_before_the_period_ends_and_once() -> None:
    def due(schedule: KeySchedule, now: float) -> bool:
        return schedule.due(now, every=EVERY, overlap=OVERLAP)

    assert not due(FIRST, NOW)
    assert not due(FIRST, NOW + EVERY - OVERLAP - 1)
    assert due(FIRST, NOW + EVERY - OVERLAP)
    assert due(FIRST, NOW + 100 * EVERY)
    assert not due(rotated(FIRST, 1, NOW + EVERY), NOW + EVERY)


def test_a_clock_that_was_far_ahead_does_not_put_off_the_next_rotation() -> None:
    ahead = rotated(FIRST, 1, NOW + 3650 * EVERY)
    assert ahead.current(NOW + 60) == ahead.entries[0]
    assert ahead.due(NOW + EVERY, every=EVERY, overlap=OVERLAP)
    assert rotated(ahead, 2, NOW + EVERY).current(NOW + EVERY + OVERLAP).key == KEYS[2]  # type: ignore[union-attr]


def test_a_clock_that_was_far_ahead_does_not_keep_keys_for_as_long() -> None:
    schedule = rotated(FIRST, 1, NOW + 3650 * EVERY)
    for number in range(2, 12):
        now = NOW + number * EVERY
        schedule = rotated(schedule, number, now)
        verifying = [entry for entry in schedule.entries if entry.verifies(now + 3 * OVERLAP)]
        assert [entry.key for entry in verifying] == [KEYS[number], KEYS[1]]  # the one that was made ahead of its time


def test_a_clock_that_is_set_back_does_not_stop_signing() -> None:
    assert FIRST.current(NOW - 1e6) == FIRST.entries[0]


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 1.5 * OVERLAP), st.sampled_from([0.0, 60.0, OVERLAP])), min_size=1, max_size=11
    )
)
def test_a_token_is_verified_for_as_long_as_it_lives(steps: list[tuple[float, float]]) -> None:
    schedule, now = FIRST, NOW
    signed: list[tuple[VerificationKey, float]] = []
    for number, (pause, wait) in enumerate(steps, start=1):
        now += pause
        signer = schedule.current(now)
        assert signer is not None
        signed.append((signer.key, now))
        schedule = rotated(schedule, number, now, wait)
        for key, signed_at in signed:
            if now < signed_at + OVERLAP:
                assert any(entry.key == key and entry.verifies(now) for entry in schedule.entries)
        assert KeySchedule.parse(schedule.to_bytes()) == schedule


def test_there_are_not_more_keys_than_there_is_room_for() -> None:
    full = KeySchedule(FIRST.entries * 1_000)
    with pytest.raises(ValueError, match="too many"):
        rotated(full, 1, NOW)


def wrong_manifests() -> list[bytes]:
    good = orjson.loads(FIRST.to_bytes())
    entry = good["keys"][0]

    def with_(**changes: object) -> bytes:
        return orjson.dumps({"version": 1, "keys": [{**entry, **changes}]})

    return [
        b"",
        b"[]",
        orjson.dumps({"version": 2, "keys": [entry]}),
        orjson.dumps({"version": 1, "keys": []}),
        orjson.dumps({"version": 1, "keys": [entry, entry]}),
        orjson.dumps({**good, "more": 1}),
        with_(kid=KEYS[1].kid),
        with_(kid="../../etc/passwd"),
        with_(jwk=dict(KEYS[1].members)),
        with_(jwk={**entry["jwk"], "d": "AAAA"}),
        with_(algorithm="ES256"),
        with_(algorithm="HS256"),
        with_(signs_from="now"),
        with_(signs_from=-1),
        with_(signs_from=True),
        with_(verifies_until=1e300),
        with_(more=1),
        orjson.dumps({"version": 1, "keys": [{k: v for k, v in entry.items() if k != "signs_from"}]}),
    ]


@pytest.mark.parametrize("text", wrong_manifests(), ids=range(len(wrong_manifests())))
def test_a_manifest_that_contradicts_itself_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        KeySchedule.parse(text)


def test_a_full_ring_is_a_jwk_set_that_verifiers_read() -> None:
    schedule = FIRST
    for _ in range(89):
        key = SigningKey.generate().verification
        schedule = schedule.followed_by(KeyEntry(key, NOW, NOW, None), now=NOW, overlap=OVERLAP)
    published = [entry.key.jwk for entry in schedule.entries] * 2
    assert len(json.dumps({"keys": published}, indent=2)) < 65_536
    assert len(published) <= 256
