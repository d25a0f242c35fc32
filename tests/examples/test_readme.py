"""What the README and the pages of ``docs/`` show is so: programs run and print that, commands and links exist."""

from __future__ import annotations

import ast
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loopback_provider
import pytest
from pages import PAGES, README, ROOT, Reader, blocks, prose, section
from typer.main import get_command

from zt_agents.cli import app
from zt_agents.policy.models import PolicyFile
from zt_agents.policy.variables import Scope

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
FIRST = "## A first program"
COMMANDS: Any = get_command(app)
_CODE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_LINK = re.compile(r"(!?)\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# -- what is run -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def after_the_first_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of somebody who wrote the README's first program, and ran it."""
    folder = tmp_path_factory.mktemp("first")
    with Reader(folder) as reader:
        reader.read(section(text_of(README), FIRST))
        assert reader.ran >= 2
    return folder


def login_of_alice(provider: loopback_provider.LoopbackProvider) -> str:
    """Return an access token as Keycloak makes them."""
    said = {"aud": "zt-agents", "azp": "zt-agents-login", "typ": "Bearer", "sid": "s", "sub": "alice"}
    return provider.token(**said, groups=["it-helpdesk"], realm_access={"roles": ["staff"]})


@each_page
def test_what_is_shown_happens(page: Path, after_the_first_program: Path, tmp_path: Path) -> None:
    text = text_of(page)
    text = text.replace(section(text, FIRST), "") if page == README else text
    folder = tmp_path / "here"
    shutil.copytree(after_the_first_program, folder)
    with loopback_provider.running() as provider:
        (folder / "alice.token").write_text(login_of_alice(provider), encoding="utf-8")
        with Reader(folder, replace={"https://login.acme.example/realms/acme": provider.issuer}) as reader:
            reader.read(text)


@each_page
def test_a_reader_is_told_what_each_file_is_called(page: Path) -> None:
    """What is behind the language of a block is not shown."""
    text = text_of(page)
    for block in blocks(text):
        if block.name:
            before = text[: text.index(block.text)].rpartition("```")[0].rpartition("```")[2]
            assert f"`{block.name}`" in before or (block.more and "policy" in before), block.name


@each_page
def test_every_python_block_is_a_program(page: Path) -> None:
    for block in blocks(text_of(page)):
        if block.language == "python":
            compile(block.text, f"{named(page)}: {block.name}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


# -- what is named -----------------------------------------------------------------------------------------------------


def lines_of_commands(page: Path) -> Iterator[str]:
    """Yield what a reader of *page* might type: each line of a console, each piece of code within a sentence."""
    text = text_of(page)
    for block in blocks(text):
        if block.language == "console":
            yield from block.text.replace("\\\n", " ").splitlines()
    for code in _CODE.findall(prose(text)):
        yield " ".join(code.split())


def mistakes(line: str) -> Iterator[str]:
    """Yield what *line* names that the command line does not have."""
    before, found, rest = line.partition("zt-agents ")
    words = rest.replace("\\|", "|").split() if found and not before.endswith(("/", "-")) else line.split()
    command: Any = COMMANDS
    if not words or (not found and (words[0] not in command.commands or len(words) < 2)):
        return
    while hasattr(command, "commands") and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        names = [words.pop(0)]
        while words[:1] == ["|"]:
            names.append(words[1])
            del words[:2]
        for name in names:
            if name not in command.commands:
                yield f"{line}: no command {name}"
                return
        command = command.commands[names[-1]]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word in {"&&", "|", ";", ">"}:
            return
        if word.startswith("--") and word.partition("=")[0] not in {*known, "--help"}:
            yield f"{line}: no option {word}"


@each_page
def test_commands_and_options_are_those_that_exist(page: Path) -> None:
    assert [wrong for line in lines_of_commands(page) for wrong in mistakes(line)] == []


def test_every_command_is_on_some_page() -> None:
    whole = " ".join(" ".join(map(text_of, PAGES)).split())
    for name, command in COMMANDS.commands.items():
        assert f"zt-agents {name}" in whole
        for each in getattr(command, "commands", ()):
            assert re.search(rf"\b{name} (?:[^`]* )?{each}\b", whole), f"{name} {each}"


def test_the_page_on_policy_names_every_section_and_every_variable() -> None:
    page = text_of(ROOT / "docs/policy.md")
    for name in (*PolicyFile.model_fields, *Scope(None).variables):
        assert f"`{name}`" in page, name


def test_the_page_on_architecture_names_rooms_and_files_that_exist() -> None:
    for name in re.findall(r"`([a-z_]+(?:/|\.py))`", text_of(ROOT / "docs/architecture.md")):
        assert (ROOT / "zt_agents" / name).exists(), name


def test_mistakes_are_found() -> None:
    assert list(mistakes("zt-agents agents review NAME --accept X && zt-agents x")) == []
    assert list(mistakes("zt-agents approvals list \\| shw")) == ["zt-agents approvals list \\| shw: no command shw"]
    assert list(mistakes("agents revew NAME")) == ["agents revew NAME: no command revew"]
    assert list(mistakes("$ zt-agents revoke --agnt x")) == ["$ zt-agents revoke --agnt x: no option --agnt"]


def anchors(text: str) -> list[str]:
    """Return the names by which links reach the headings of a page."""
    headings = re.findall(r"^#{1,6} (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for _, target in _LINK.findall(prose(text_of(page))):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(text_of(there)), target


def test_every_page_is_found_from_the_readme_and_says_what_it_is_for() -> None:
    linked = {target.partition("#")[0] for _, target in _LINK.findall(text_of(README))}
    for page in PAGES[1:]:
        assert named(page) in linked
        title, _, rest = text_of(page).partition("\n\n")
        assert title.startswith("# ")
        assert anchors(title) == [page.stem]
        assert not rest.startswith(("#", "```", "|", "!"))


# -- where the README is all there is ----------------------------------------------------------------------------------


def test_a_package_index_shows_all_pages_as_one_whose_links_lead_to_each_other() -> None:
    """There is no folder beside it: see ``hatch-fancy-pypi-readme`` in pyproject.toml."""
    wanted = tomllib.loads(text_of(ROOT / "pyproject.toml"))["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    fragments = [text_of(ROOT / each["path"]) if "path" in each else each["text"] for each in wanted["fragments"]]
    assert [each["path"] for each in wanted["fragments"] if "path" in each] == [named(page) for page in PAGES]
    whole = "".join(fragments)
    for each in wanted["substitutions"]:
        whole = re.sub(each["pattern"], each["replacement"], whole)
    names = anchors(whole)
    assert len(names) == len(set(names)), "two headings have the same name"
    for image, target in _LINK.findall(prose(whole)):
        assert not image
        assert target.startswith("https://") or target.removeprefix("#") in names
