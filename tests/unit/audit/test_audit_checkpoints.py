"""Keys and notes: what is signed, what opens, and what does not."""

from __future__ import annotations

import base64
import os
import pickle

import pytest

from zt_agents.audit.checkpoints import Checkpoint, open_checkpoint, origin, sign_checkpoint
from zt_agents.audit.proofs import ConsistencyProof, InclusionProof, parse_proof
from zt_agents.audit.tree import leaf_hash, node_hash
from zt_agents.errors import AuditIntegrityError, ConfigurationError
from zt_agents.identity.checkpoint_keys import CheckpointKey, VerifierKey

NAME = origin(bytes(16))
KEY = CheckpointKey.generate(NAME)
CHECKPOINT = Checkpoint(NAME, 26, bytes(range(32)))
NOTE = sign_checkpoint(CHECKPOINT, KEY)


def resigned(text: str, *, name: str = NAME) -> str:
    """Sign any text with the log's own key."""
    signature = base64.b64encode(KEY.verifier.id + KEY.sign(text.encode())).decode()
    return f"{text}\n— {name} {signature}\n"


def test_a_signed_checkpoint_opens_with_the_public_key_alone() -> None:
    pinned = VerifierKey.parse(f" {KEY.verifier}\n")
    assert open_checkpoint(NOTE.encode(), [pinned]) == CHECKPOINT
    assert NOTE.startswith(f"{NAME}\n26\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\n— {NAME} ")


def test_another_key_of_the_same_name_is_another_key() -> None:
    other = CheckpointKey.generate(NAME)
    with pytest.raises(AuditIntegrityError, match="not signed by"):
        open_checkpoint(NOTE.encode(), [other.verifier])
    with pytest.raises(AuditIntegrityError, match="no key was given"):
        open_checkpoint(NOTE.encode(), [])


def test_signatures_of_witnesses_are_ignored_and_forged_ones_are_not() -> None:
    witness = f"— witness.example/w1 {base64.b64encode(bytes(76)).decode()}\n"
    assert open_checkpoint((NOTE + witness).encode(), [KEY.verifier]) == CHECKPOINT
    forged = f"— {NAME} {base64.b64encode(KEY.verifier.id + bytes(64)).decode()}\n"
    for note in (NOTE + forged, NOTE.split("—")[0] + forged):
        with pytest.raises(AuditIntegrityError, match="forged"):
            open_checkpoint(note.encode(), [KEY.verifier])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n26\n", "\n27\n"),
        ("\n26\n", "\n026\n"),
        ("AAEC", "AAED"),
        ("audit/0", "audit/1"),
        ("\n26\n", "\r\n26\r\n"),
    ],
)
def test_a_checkpoint_that_was_edited_does_not_open(old, new) -> None:
    with pytest.raises(AuditIntegrityError):
        open_checkpoint(NOTE.replace(old, new, 1).encode(), [KEY.verifier])


ROOT = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"{NAME}\n026\n{ROOT}\n",
        f"{NAME}\n0\n{ROOT}\n",
        f"{NAME}\n-1\n{ROOT}\n",
        f"{NAME}\n+1\n{ROOT}\n",
        f"{NAME}\n٣\n{ROOT}\n",
        f"{NAME}\n\n{ROOT}\n",
        f"{NAME}\n{'9' * 20}\n{ROOT}\n",
        f"{NAME}\n26\n{ROOT[:-1]}\n",
        f"{NAME}\n26\n{ROOT[:-2]}B=\n",
        f"{NAME}\n26\n{ROOT} \n",
        f"{NAME}\n26\n{base64.b64encode(bytes(31)).decode()}\n",
        f"{NAME}\n26\n{ROOT}\nextension\n",
        f"{NAME}\n26\n",
        f"zt-agents/audit/another\n26\n{ROOT}\n",
    ],
)
def test_even_the_logs_own_signature_does_not_make_a_checkpoint_of_anything(text) -> None:
    with pytest.raises(AuditIntegrityError):
        open_checkpoint(resigned(text).encode(), [KEY.verifier])


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n\n",
        NOTE.rstrip("\n"),
        NOTE.replace("— ", "- "),
        NOTE.replace("\n\n", "\n"),
        NOTE + "\n",
        NOTE.replace("— ", "—  "),
        NOTE.split("—")[0],
        NOTE.split("—")[0] + f"— {NAME} AAAA\n",
        NOTE.replace("26", "26\x00"),
        NOTE + NOTE.rsplit("\n\n", 1)[1] * 100,
        resigned(str(CHECKPOINT), name="a+b"),
        "x" * 2_000_000,
    ],
)
def test_what_is_no_signed_note_is_refused(note) -> None:
    with pytest.raises(AuditIntegrityError):
        open_checkpoint(note.encode(), [KEY.verifier])


def test_control_characters_are_refused_wherever_they_stand() -> None:
    witness = f"— witness.example/\x07 {base64.b64encode(bytes(76)).decode()}\n"
    with pytest.raises(AuditIntegrityError):
        open_checkpoint((NOTE + witness).encode(), [KEY.verifier])


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(AuditIntegrityError):
        open_checkpoint(NOTE.encode() + b"\xff", [KEY.verifier])


def test_a_key_signs_for_one_log_only() -> None:
    with pytest.raises(AuditIntegrityError, match="another log has taken its place"):
        sign_checkpoint(Checkpoint(origin(b"x" * 16), 1, bytes(32)), KEY)


# Keys


def test_a_key_is_saved_for_its_owner_alone_and_never_overwritten(tmp_path) -> None:
    path = tmp_path / "key"
    KEY.save(path)
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
    assert CheckpointKey.from_file(path).verifier == KEY.verifier
    with pytest.raises(ConfigurationError, match="exists"):
        KEY.save(path)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX file modes")
def test_a_key_that_others_can_read_is_refused(tmp_path) -> None:
    path = tmp_path / "key"
    KEY.save(path)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="read by other users"):
        CheckpointKey.from_file(path)


def test_a_private_key_does_not_show_itself(tmp_path) -> None:
    KEY.save(tmp_path / "key")
    secret = (tmp_path / "key").read_text().strip().split("+", 4)[4]
    for shown in (repr(KEY), str(KEY), repr(vars(KEY)), NOTE, str(KEY.verifier)):
        assert secret not in shown
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: "",
        lambda text: text.replace("PRIVATE", "PUBLIC"),
        lambda text: text.replace("audit", "audi"),
        lambda text: text[:-4] + "\n",
        lambda text: text.rsplit("+", 1)[0] + "+" + base64.b64encode(b"\x02" + bytes(32)).decode(),
        lambda text: text + text,
        lambda text: "\xff",
    ],
)
def test_a_damaged_key_is_refused(tmp_path, edit) -> None:
    path = tmp_path / "key"
    KEY.save(path)
    path.write_text(edit(path.read_text()), encoding="latin-1")
    with pytest.raises(ConfigurationError):
        CheckpointKey.from_file(path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: "",
        lambda text: text.replace("audit", "tidua"),
        lambda text: text[:-2],
        lambda text: text.split("+", 1)[1],
        lambda text: "a b" + text,
        lambda text: text.replace("+", "+0", 1),
        lambda text: text + "=",
    ],
)
def test_a_damaged_verifier_key_is_refused(edit) -> None:
    with pytest.raises(ValueError, match="verifier key"):
        VerifierKey.parse(edit(str(KEY.verifier)))


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "ä"])
def test_a_key_has_a_name_that_fits_on_a_line(name) -> None:
    with pytest.raises(ConfigurationError):
        CheckpointKey.generate(name)


# Proofs as they are written down

BODIES = (b'{"a":1}', '{"b":"é"}'.encode())
PAIR = Checkpoint(NAME, 2, node_hash(*map(leaf_hash, BODIES)))
INCLUSION = InclusionProof(NAME, 2, 2, BODIES[1], (leaf_hash(BODIES[0]),))
CONSISTENCY = ConsistencyProof(NAME, 1, 2, (leaf_hash(BODIES[1]),))


def test_proofs_survive_being_written_down() -> None:
    for proof in (INCLUSION, CONSISTENCY):
        assert str(proof).isascii()
        assert parse_proof(str(proof)) == proof
    INCLUSION.check(PAIR)
    CONSISTENCY.check(Checkpoint(NAME, 1, leaf_hash(BODIES[0])), PAIR)


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": 1},
        {"seq": 3},
        {"seq": 0},
        {"body": b'{"b":"e"}'},
        {"hashes": ()},
        {"hashes": (bytes(32),)},
        {"size": 3},
        {"origin": origin(b"x" * 16)},
    ],
)
def test_a_proof_of_something_else_fails(changes) -> None:
    fields = {name: getattr(INCLUSION, name) for name in InclusionProof.__slots__}
    with pytest.raises(AuditIntegrityError):
        InclusionProof(**fields | changes).check(PAIR)


def test_a_proof_that_is_wrong_about_the_size_alone_fails() -> None:
    """The first of three records and the first of four have paths of the same shape."""
    leaves = [leaf_hash(b"%d" % number) for number in range(4)]
    right = node_hash(*leaves[2:])
    four = Checkpoint(NAME, 4, node_hash(node_hash(*leaves[:2]), right))
    InclusionProof(NAME, 1, 4, b"0", (leaves[1], right)).check(four)
    with pytest.raises(AuditIntegrityError, match="checkpoint of 3 records, and this one has 4"):
        InclusionProof(NAME, 1, 3, b"0", (leaves[1], right)).check(four)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("inclusion v1", "inclusion v2"),
        ('"seq":2', '"seq":"2"'),
        ('"seq":2', '"seq":2,"seq":2'),
        ('"seq":2', '"seq":2,"more":1'),
        ('"seq":2,', ""),
        ('"seq":2', '"seq":2.0'),
        ('"hashes":["', '"hashes":["*'),
        ('"hashes":[', '"hashes":[1,'),
        ("\\u00e9", "\\ud800"),
        ("{", "["),
        ("}", ""),
    ],
)
def test_what_is_no_proof_is_refused(old, new) -> None:
    text = str(INCLUSION)
    assert old in text
    with pytest.raises(AuditIntegrityError):
        parse_proof(text.replace(old, new, 1) if old != "}" else text[:-1])
    with pytest.raises(AuditIntegrityError):
        parse_proof("[" * 100_000)
