"""The journal: whole lines or a clear error, and the way out of it."""

from __future__ import annotations

import errno
import os
from contextlib import nullcontext
from pathlib import Path

import optuna
import pytest
from sqlalchemy.exc import OperationalError

from grip_core.errors import UserError
from studies.storage import (
    StorageAway,
    _mount,
    check_locking,
    damage,
    load_study,
    open_storage,
    recover_journal,
    ride_out,
)


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "journal.log"
    study = optuna.create_study(study_name="s", storage=open_storage(str(path)))
    for value in range(3):
        study.tell(study.ask(), float(value))
    return path


def test_a_journal_cut_in_mid_line_is_told_and_recovered(journal):
    text = journal.read_bytes()
    lines = text.count(b"\n")
    journal.write_bytes(text[:-7])
    with pytest.raises(UserError, match=rf"damaged at line {lines} .*python -m studies recover") as error:
        load_study("s", str(journal))
    assert str(journal) in str(error.value)
    aside = recover_journal(journal)
    assert aside.read_bytes() == text[:-7]
    assert [trial.state.name for trial in load_study("s", str(journal)).trials] == ["COMPLETE", "COMPLETE", "RUNNING"]
    assert recover_journal(journal) is None


def test_damage_in_the_middle_is_found_too(journal):
    text = bytearray(journal.read_bytes())
    second = text.index(b"\n") + 1
    text[second : second + 2] = b"xx"
    journal.write_bytes(text)
    assert damage(journal) == (2, second)


def test_nothing_is_appended_to_half_a_line(journal):
    study = load_study("s", str(journal))
    with open(journal, "ab") as file:
        file.write(b'{"op_code": 4')
    before = journal.read_bytes()
    with pytest.raises(UserError, match="damaged"):
        study.ask()
    assert journal.read_bytes() == before


def test_a_full_disk_leaves_the_journal_as_it_was(journal, monkeypatch):
    study = load_study("s", str(journal))
    before = journal.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        study.ask()
    monkeypatch.undo()
    assert journal.read_bytes() == before
    study.tell(study.ask(), 1.0)
    assert len(load_study("s", str(journal)).trials) == 4


def test_a_failed_append_cuts_nobody_elses_lines(journal, monkeypatch):
    """The lock of a writer that stalls is broken after a while, and another writes."""
    study = load_study("s", str(journal))
    other = b'{"op_code":-1}\n'

    def stall(descriptor: int) -> None:
        with open(journal, "ab") as file:
            file.write(other)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", stall)
    with pytest.raises(OSError, match="Input/output"):
        study.ask()
    assert journal.read_bytes().endswith(other)
    assert damage(journal) is None


@pytest.mark.parametrize("option", ["nolock", "local_lock=all"])
def test_a_mount_whose_locks_hold_on_one_node_alone_is_refused(tmp_path, monkeypatch, option):
    monkeypatch.setattr("studies.storage._mount", lambda folder: ("nfs4", {"rw", option}))
    with pytest.raises(UserError, match=f"with {option}"):
        check_locking(tmp_path)


def test_the_mount_of_a_folder_is_found():
    assert _mount(Path("/proc/self"))[0] == "proc"


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("journal.log", "absolute path"),
        ("postgresql+psycopg://me:secret@127.0.0.1:1/none", "cannot be reached"),
        ("nonsense://x", "cannot be read|must be a path"),
    ],
)
def test_a_storage_that_cannot_be_used_is_told_in_one_line_without_its_password(storage, message):
    with pytest.raises(UserError, match=message) as error:
        open_storage(storage)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_an_unknown_study_is_told(journal):
    with pytest.raises(UserError, match="holds no study other"):
        load_study("other", str(journal))


def test_locks_exclude(tmp_path):
    check_locking(tmp_path)
    assert not list(tmp_path.iterdir())


def test_locks_that_exclude_nobody_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("studies.storage.FileLock", lambda path, timeout=-1: nullcontext())
    with pytest.raises(UserError, match="exclude nobody"):
        check_locking(tmp_path)


def full_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_storage_that_comes_back_is_waited_for(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    tries = []

    def action() -> str:
        tries.append(1)
        if len(tries) < 4:
            raise OperationalError("", {}, Exception("server closed the connection"))
        return "done"

    assert ride_out("asking", action) == "done"
    with pytest.raises(UserError, match="asking: the journal must be writable, but: No space left on device"):
        ride_out("asking", full_disk)
    with pytest.raises(StorageAway, match="server closed"):
        ride_out("asking", lambda: tries.clear() or action(), patience=0.0)
