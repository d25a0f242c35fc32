"""``zt-agents audit checkpoint``, ``prove`` and ``check-proof``: what a log can show to those who lack it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from zt_agents._internal.display import visible
from zt_agents.audit.checkpoints import Checkpoint, origin, sign_checkpoint
from zt_agents.audit.proofs import InclusionProof, parse_proof, prove_consistency, prove_inclusion
from zt_agents.audit.sink import AuditSource
from zt_agents.audit.verify import VerifyStatus, verify
from zt_agents.cli.audit import (
    BROKEN,
    DEFAULT_LOG,
    NOT_VERIFIED,
    NOTHING_TO_VERIFY,
    LogOption,
    audit_app,
    or_exit,
    print_report,
    verify_progress,
)
from zt_agents.cli.checkpoints import checkpoint_from, pinned_key
from zt_agents.cli.display import say
from zt_agents.cli.sources import SegmentsOption, searchable, whole
from zt_agents.errors import AuditIntegrityError, StoreError
from zt_agents.identity.checkpoint_keys import CheckpointKey
from zt_agents.stores.checkpoint_files import is_url, key_beside, last_beside, post_note, read_note, write_note

_Key = Annotated[
    str | None,
    typer.Option("--key", metavar="VKEY", help="The log's verifier key; otherwise the key beside the log."),
]


@audit_app.command("checkpoint")
def checkpoint_log(
    log: LogOption = DEFAULT_LOG,
    key: Annotated[
        Path | None, typer.Option(help="The signing key; otherwise the one beside the log, made on first use.")
    ] = None,
    to: Annotated[str | None, typer.Option(metavar="FILE|URL", help="Where it goes; otherwise it is printed.")] = None,
    segments: SegmentsOption = None,
) -> None:
    """Verify the log and sign what it is now, for somebody else to keep.

    Every earlier checkpoint at hand must hold: two histories are never signed. Exit codes as for verify.
    """
    with or_exit():
        key_path = key_beside(log) if key is None else key
        if to is not None and Path(to).absolute() == key_path.absolute():
            raise typer.BadParameter("this is where the signing key belongs", param_hint="--to")
        signer = CheckpointKey.from_file(key_path) if key_path.exists() else None
        earlier = _earlier(log, to, signer)
        if not log.exists() or (log.is_file() and not log.stat().st_size):
            if earlier:
                raise AuditIntegrityError(f"A checkpoint was signed for {log}, and the log is gone.")
            _nothing(log)
        with verify_progress() as progress:
            report = verify(whole(log, segments), checkpoints=earlier, progress=progress)
        if report.status in {VerifyStatus.BROKEN, VerifyStatus.NOT_VERIFIED}:
            print_report(report, log, None)
            say("Nothing was signed.", style="bold red")
            raise typer.Exit(BROKEN if report.status is VerifyStatus.BROKEN else NOT_VERIFIED)
        if report.root is None:
            _nothing(log)
        name = origin(bytes.fromhex(report.log_id))
        if signer is None:
            signer = CheckpointKey.generate(name)
            signer.save(key_path)
            say(f"A new signing key is in {key_path}.", stderr=True)
        note = sign_checkpoint(Checkpoint(name, report.records, report.root), signer)
        write_note(last_beside(log), note)  # before it leaves: what was signed must be remembered
        say(f"Verifier key: {signer.verifier}", stderr=True)
        if to is None:
            typer.echo(note, nl=False)
            return
        if is_url(to):
            post_note(to, note)
        else:
            write_note(Path(to), note)
        count = f"{report.records} record{'s' if report.records != 1 else ''}"
        say(f"A checkpoint of {count} went to {to}.", style="green")


@audit_app.command()
def prove(
    record: Annotated[
        str | None, typer.Argument(metavar="SEQ|DECISION_ID", help="A record, or all records of a decision.")
    ] = None,
    log: LogOption = DEFAULT_LOG,
    checkpoint: Annotated[
        Path | None, typer.Option(help="What to prove it for; otherwise the last one that was signed.")
    ] = None,
    since: Annotated[
        Path | None, typer.Option(help="Prove instead that the checkpoint continues this earlier one.")
    ] = None,
    key: _Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="The proofs, for check-proof: one a line.")] = False,
    segments: SegmentsOption = None,
) -> None:
    """Prove to someone who has a checkpoint, and not the log, that a record is in it.

    Exit code 1: the log is damaged.
    """
    if (record is None) == (since is None):
        raise typer.BadParameter("give a record's number, a decision's id, or --since", param_hint="prove")
    with or_exit():
        path = last_beside(log) if checkpoint is None else checkpoint
        if checkpoint is None and not path.exists():
            raise StoreError(f"No checkpoint was signed for {log}.", hint="Run: zt-agents audit checkpoint")
        pinned = pinned_key(log, key)
        shown = checkpoint_from(path, pinned)
        source = whole(log, segments)
        if since is not None:
            old = checkpoint_from(since, pinned)
            try:
                consistency = prove_consistency(source, old, shown)
            except ValueError as error:
                raise typer.BadParameter(str(error), param_hint="--since") from error
            if as_json:
                typer.echo(str(consistency))
            else:
                what = f"The checkpoint of {shown.size} records continues that of {old.size}."
                _say_hashes(what, consistency.hashes)
            return
        with nullcontext(source) if _is_number(record) else searchable(log, segments) as search:
            seqs = _seqs(search, record or "")
        if beyond := [str(seq) for seq in seqs if not 0 < seq <= shown.size]:
            raise typer.BadParameter(
                f"record {', '.join(beyond)} is not covered by the checkpoint, which has {shown.size}",
                param_hint="SEQ|DECISION_ID",
            )
        for proof in prove_inclusion(source, seqs, shown):
            if as_json:
                typer.echo(str(proof))
                continue
            _say_hashes(f"Record {proof.seq} is one of the {proof.size} of {proof.origin}:", proof.hashes)
            say(f"  record  {visible(proof.body.decode())}")


@audit_app.command("check-proof")
def check_proof(
    file: Annotated[Path, typer.Argument(help="Proofs as prove --json writes them.")],
    checkpoint: Annotated[Path, typer.Option(help="The checkpoint they are for.")],
    key: Annotated[str, typer.Option(metavar="VKEY", help="The verifier key of the log.")],
    since: Annotated[Path | None, typer.Option(help="The earlier checkpoint of a consistency proof.")] = None,
) -> None:
    """Check proofs without the log. Exit code 0: proven, 1: not so, 2: cannot be read, 3: there is none."""
    with or_exit():
        pinned = pinned_key(file, key)
        held = checkpoint_from(checkpoint, pinned)
        earlier = checkpoint_from(since, pinned) if since is not None else None
        lines = [line for line in _text(file).splitlines() if line]
        for line in lines:
            proof = parse_proof(line)
            if isinstance(proof, InclusionProof):
                proof.check(held)
                say(f"PROVEN: this is record {proof.seq} of the {held.size} of {held.origin}.", style="green")
                say(f"  {visible(proof.body.decode())}")
            elif earlier is None:
                raise typer.BadParameter("a consistency proof needs the earlier checkpoint", param_hint="--since")
            else:
                proof.check(earlier, held)
                say(f"PROVEN: the {held.size} records begin with the earlier {earlier.size}.", style="green")
        if not lines:
            say(f"NOTHING TO VERIFY: {file} holds no proofs.", style="yellow")
            raise typer.Exit(NOTHING_TO_VERIFY)


def _earlier(log: Path, to: str | None, signer: CheckpointKey | None) -> list[Checkpoint]:
    """Return what was signed before and is at hand: beside the log, and where the new one goes."""
    paths = [last_beside(log), *([] if to is None or is_url(to) else [Path(to)])]
    found = [path for path in paths if path.exists()]
    if found and signer is None:
        raise AuditIntegrityError(f"{found[0]} was signed or written before, and the key of the log is gone.")
    return [checkpoint_from(path, signer.verifier) for path in found] if signer else []


def _nothing(log: Path) -> NoReturn:
    say(f"NOTHING TO VERIFY: {log} holds no records, and nothing was signed.", style="yellow")
    raise typer.Exit(NOTHING_TO_VERIFY)


def _is_number(record: str | None) -> bool:
    return record is not None and record.isascii() and record.isdecimal()


def _seqs(source: AuditSource, record: str) -> list[int]:
    if _is_number(record):
        return [int(record[:19])]
    with source.snapshot() as snapshot:
        seqs = [values["seq"] for values in snapshot.read(decision_id=record)]
    if not seqs:
        raise typer.BadParameter("the log has no record of this decision", param_hint="SEQ|DECISION_ID")
    return seqs


def _say_hashes(what: str, hashes: tuple[bytes, ...]) -> None:
    say(what)
    for part in hashes:
        say(f"  hash    {part.hex()}")


def _text(path: Path) -> str:
    return read_note(path).decode("utf-8", "replace")
