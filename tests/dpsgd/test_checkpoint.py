"""Checkpoints: whole at any time, resumed to the last bit, refused when they are not ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import torch

from dpaudit.dpsgd.checkpoint import load_state, save_state
from dpaudit.errors import DpauditError

# Dies in the middle of the second save: when half of the file is written, or just before it is moved.
DYING = """
import os, signal, sys, torch
from dpaudit.dpsgd import checkpoint

path, moment = sys.argv[1:]
checkpoint.save_state({"format": 2, "steps": torch.arange(1000)}, path)
die = lambda *ignored: os.kill(os.getpid(), signal.SIGKILL)
if moment == "writing":
    whole = torch.save
    def half(state, file):
        whole(state, file)
        file.truncate(file.tell() // 2)
        file.flush()
        die()
    torch.save = half
elif moment == "syncing":
    os.fsync = die
else:
    checkpoint.Path.replace = die
checkpoint.save_state({"format": 2, "steps": torch.arange(2000)}, path)
"""


@pytest.mark.parametrize("moment", ["writing", "syncing", "moving"])
@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_a_kill_during_a_save_leaves_the_old_checkpoint(moment, tmp_path) -> None:
    path = tmp_path / "state.pt"
    code = subprocess.run([sys.executable, "-c", DYING, str(path), moment], check=False).returncode
    assert code == -signal.SIGKILL
    assert len(load_state(path)["steps"]) == 1000
    save_state({"format": 2, "steps": 3}, path)
    assert load_state(path)["steps"] == 3
    assert [found.name for found in tmp_path.iterdir()] == ["state.pt"], "no part is left behind"


def test_files_that_are_no_checkpoints_are_refused(tmp_path) -> None:
    path = tmp_path / "state.pt"
    with pytest.raises(DpauditError, match="no such checkpoint"):
        load_state(path)
    path.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(DpauditError, match="damaged"):
        load_state(path)
    save_state({"format": 2, "steps": torch.arange(1000)}, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DpauditError, match="damaged"):
        load_state(path)
    torch.save([1, 2], path)
    with pytest.raises(DpauditError, match="not a checkpoint"):
        load_state(path)
    torch.save({"format": Runs()}, path)
    with pytest.raises(DpauditError, match="damaged, or no checkpoint"):
        load_state(path)


class Runs:
    def __reduce__(self):
        return (os.system, ("true",))


def test_a_place_that_cannot_be_written_is_named(tmp_path) -> None:
    with pytest.raises(DpauditError, match="cannot write the checkpoint"):
        save_state({"format": 2}, tmp_path / "absent" / "state.pt")


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_nobody_else_may_read_a_checkpoint(tmp_path) -> None:
    path, part = tmp_path / "state.pt", tmp_path / ".state.pt.part"
    for old in (path, part):
        old.write_text("left by an earlier save")
        old.chmod(0o644)
    save_state({"format": 2}, path)
    assert path.stat().st_mode & 0o777 == 0o600


FULL = """
import resource, sys, torch
from dpaudit.dpsgd.checkpoint import save_state
from dpaudit.errors import DpauditError

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_state({"format": 2, "steps": torch.zeros(int(sys.argv[2]))}, sys.argv[1])
except DpauditError as error:
    print(error.message)
"""


@pytest.mark.parametrize("size", [40_000, 2_000_000])
@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_a_full_disk_is_named_and_nothing_half_written_is_left(size, tmp_path) -> None:
    path = tmp_path / "state.pt"
    save_state({"format": 2, "steps": 3}, path)
    command = [sys.executable, "-c", FULL, str(path), str(size)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "cannot write the checkpoint" in shown
    assert load_state(path)["steps"] == 3
    assert [found.name for found in tmp_path.iterdir()] == ["state.pt"]
