"""Files that are not policies: each gives one clear error, where it stands, and never a crash."""

# ruff: noqa: E501 - a table reads best with one row on a line
from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from policy_example import PARAMETERS, POLICY, load

from zt_agents.errors import PolicyFileError
from zt_agents.policy import document, load_policy
from zt_agents.policy.document import MAX_BYTES, read_text

BAD = {
    "empty": (b"", (1, 1), "the policy is empty"),
    "only a comment": (b"# nothing\n", (1, 1), "the policy is empty"),
    "a list": (b"- version: 1", (1, 1), "the policy is not a mapping"),
    "a word": (b"version", (1, 1), "the policy is not a mapping"),
    "open bracket": (b"a: [1", (1, 4), "this is not YAML: the '[' that opens here is never closed"),
    "open brace": (b"a: {b: 1\nc: 2", (1, 4), "the '{' that opens here is never closed"),
    "open quote": (b"a: 'x", (1, 4), "the quote that opens here is never closed"),
    "open quote, more follows": (b'a: "x # y\nb: "z"\nc: 1', (2, 5), "a quote is missing before this"),
    "quotes inside quotes": (b'when: "a == "b""', (1, 14), "a text with quotes in it needs quotes around all of it"),
    "begins with a quote": (b'when: "hr" in user.groups', (1, 12), "a text with quotes in it needs quotes around"),
    "begins with not": (b'when: !args.to.endsWith("x")', (1, 7), "begins with '!' needs quotes around all of it"),
    "begins with not, plainly": (b"when: !args.urgent", (1, 7), "begins with '!' needs quotes around all of it"),
    "begins with a star": (b"tools: [*]", (1, 9), "begins with '*' needs quotes"),
    "begins with an at sign": (b"a: @b", (1, 4), "begins with this character needs quotes"),
    "backslash": (b'a: "\\d"', (1, 5), "write a backslash twice, or the text in single quotes"),
    "no colon": (b"a:\n  b: 1\n  c 2\n  d: 3", (3, 3), "there is no ':' after this key"),
    "item out of line": (b"a:\n  - b: 1\n   c: 2", (3, 4), "indented differently from the list"),
    "key out of line": (b" a: 1\nb: 2", (2, 1), "indented differently from those before it"),
    "key too far in": (b"a: 1\n  b: 2", (2, 4), "an entry lines up with the one before it"),
    "two colons": (b"a: b: c", (1, 5), "a text with ': ' in it needs quotes around all of it"),
    "tab": (b"a:\n\tb: 1", (2, 1), "indent with spaces"),
    "not UTF-8": ("a: é\nb: ".encode() + b"\xff", (2, 4), "the file is not UTF-8: byte 0xff"),
    "UTF-16": ("a: 1".encode("utf-16"), (1, 1), "the file is not UTF-8"),
    "NUL": (b"a: \x00", (1, 4), "U+0000"),
    "escaped NUL": (b'a: "\\0"', (1, 4), "U+0000"),
    "escape character": (b"a: 1\nb: \x1b[2J", (2, 4), "U+001B"),
    "lone carriage return": (b"a: 1\rb: 2", (1, 5), "U+000D"),
    "right-to-left override": ("a: x # \u202e".encode(), (1, 8), "U+202E RIGHT-TO-LEFT OVERRIDE"),
    "escaped override": (b'a: "\\u202e"', (1, 4), "U+202E RIGHT-TO-LEFT OVERRIDE"),
    "zero-width space": ("a: 1\nfin\u200bance: 2".encode(), (2, 4), "U+200B ZERO WIDTH SPACE"),
    "soft hyphen": ("a: x\u00ady".encode(), (1, 5), "U+00AD SOFT HYPHEN"),
    "joiner": ("a: x\u200dy".encode(), (1, 5), "U+200D ZERO WIDTH JOINER"),
    "variation selector": ("a: x\U000e0100".encode(), (1, 5), "U+E0100 VARIATION SELECTOR-17"),
    "filler": ("a: 1 # \u3164".encode(), (1, 8), "U+3164 HANGUL FILLER"),
    "line separator": ("a: x\u2028b: 2".encode(), (1, 5), "U+2028 LINE SEPARATOR"),
    "escaped surrogate": (b'a: "\\ud800"', (1, 7), "this is not YAML"),
    "anchor": (b"a: 1\nb: &x [1]", (2, 4), "anchors are not allowed: remove &x."),
    "anchored key": (b"&x a: 1", (1, 1), "anchors are not allowed"),
    "recursive anchor": (b"a: &x\n  b: *x", (1, 4), "anchors are not allowed"),
    "alias": (b"a: *x", (1, 4), "aliases are not allowed"),
    "merge key": (b"a:\n  <<: {b: 1}", (2, 3), "merge keys are not allowed"),
    "tag": (b"a: !!python/object:os.system x", (1, 4), "tags are not allowed"),
    "own tag": (b"a: !include x", (1, 4), "tags are not allowed"),
    "binary": (b"a: !!binary aGk=", (1, 4), "tags are not allowed"),
    "list as key": (b"? [a]\n: b", (1, 3), "a key must be text."),
    "mapping as key": (b"{{a: 1}: b}", (1, 2), "a key must be text."),
    "key twice": (b"a: 1\nb: 2\na: 3", (3, 1), "the key 'a' appears twice."),
    "quoted key twice": (b"{a: 1, 'a': 3}", (1, 8), "the key 'a' appears twice."),
    "two documents": (b"a: 1\n---\nb: 2", (2, 1), "a policy file holds one document"),
    "deep list": (b"a: " + b"[" * 100_000, (1, 15), "nested more than 12 levels deep"),
    "deep mapping": (b"{a: " * 100_000, (1, 49), "nested more than 12 levels deep"),
    "deep blocks": (b"- " * 50_000 + b"1", (1, 25), "nested more than 12 levels deep"),
    "50 MB": (b"# padding\n" * 5_000_000, (0, 0), "the file is larger than 32 MB."),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gives_one_error(case: str) -> None:
    content, position, message = BAD[case]
    with pytest.raises(PolicyFileError) as caught:
        read_text(content, "p.yaml")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == position
    assert message in problem.message
    assert problem.file == "p.yaml"


def test_a_billion_values_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_VALUES", 1000)
    with pytest.raises(PolicyFileError, match="more than 1,000 values"):
        read_text("a: [" + "1," * 1001 + "]", "p.yaml")
    assert len(read_text("a: [" + "1," * 998 + "]", "p.yaml").data["a"]) == 998


def test_the_limit_on_size_is_exact() -> None:
    padded = POLICY.encode() + b"#" * (MAX_BYTES - len(POLICY.encode()))
    assert read_text(padded, "p").data["version"] == 1
    with pytest.raises(PolicyFileError, match="larger than"):
        read_text(padded + b"#", "p")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"), ("12:30", "12:30"), ("1:30:00", "1:30:00"),
        ("1_000", "1_000"), ("2026-01-31", "2026-01-31"), ("0b11", "0b11"), ("=", "="), ("'null'", "null"), ('"1"', "1"),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None), ("010", 10), ("0o10", 8),
        ("0x1F", 31), ("-3", -3), ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5), ("9" * 5000, "9" * 5000), (".inf", ".inf"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(written: str, value: object) -> None:
    found = read_text(f"a: {written}", "p").data["a"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_always_text() -> None:
    assert read_text("{no: 1, 1: 2, null: 3, 1.0: 4}", "p").data == {"no": 1, "1": 2, "null": 3, "1.0": 4}


def test_a_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    assert load("\ufeff" + POLICY.replace("\n", "\r\n")).version == load().version


def test_positions_in_windows_files_are_those_of_an_editor() -> None:
    with pytest.raises(PolicyFileError) as caught:
        load(POLICY.replace("    tier: low", "    teir: low", 1).replace("\n", "\r\n"))
    assert [(p.line, p.column) for p in caught.value.problems] == [(26, 5)]


def test_the_slow_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = read_text(POLICY, "p")
    trails = [("rules", 1, "when"), ("tools", "pay", "destinations", 0), ("agents",)]
    positions = fast.locate(trails)
    monkeypatch.setattr(document, "_LOADER", yaml.SafeLoader)
    assert read_text(POLICY, "p") == fast
    assert [vars_of(span) for span in fast.locate(trails).values()] == [
        vars_of(s) for s in positions.values()
    ]


def vars_of(span: document.Span) -> tuple[int, ...]:
    return span.key_line, span.key_column, span.line, span.column


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, message in [
        (tmp_path / "missing.yaml", "there is no such file."),
        (tmp_path, "this is not a regular file."),
        (Path("/dev/null"), "this is not a regular file."),
        (tmp_path / "a\0b", "there is no such file."),
        (tmp_path / ("x" * 5000), "File name too long"),
    ]:
        with pytest.raises(PolicyFileError, match=message):
            load_policy(path, parameters={})


def test_a_file_loads_and_knows_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "zt-agents.yaml"
    path.write_text(POLICY, encoding="utf-8")
    policy = load_policy(path, parameters=PARAMETERS)
    assert policy.id == "zt-agents.yaml"
    assert policy.audit_path == tmp_path / "zt-agents-audit.db"
    assert policy.version == load().version
