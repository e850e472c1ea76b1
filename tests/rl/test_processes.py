"""A run in several processes has the numbers of a run in one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rl.test_resume import same_runs

SCRIPT = """
import sys
from pathlib import Path
from grip_core.rl import processes
processes.join()
from tests import families
from tests.rl import conftest as world
from grip_core.rl.train import Task, train
from grip_core.rl.validation import Validation
from grip_core.runs import OnlookersFolder, RunFolder

llava = families.llava()
seen = []
whole = llava.vlm.answer_scores
llava.vlm.answer_scores = lambda *given: seen.append(1) or whole(*given)
store = world.make_store(llava)
config = world.make_grpo(num_iterations=2, loss_type="dapo", prompts_per_step=64, group_size=4)
task = Task(llava.vlm, store, world.make_scorer())
folder = Path(sys.argv[1])
run = processes.by_first(lambda: RunFolder(folder, {"seed": 5}))
if processes.rank():
    run = OnlookersFolder(folder)
ends = int(sys.argv[2])
train(config, world.make_budgets(schedule="adaptive"), 5, task, Validation(llava.vlm, store, [1, 4]), run,
      pause=lambda step: processes.rank() == 0 and step == ends)
(folder / f"forwards-{processes.rank()}").write_text(str(len(seen)))
"""


def run(folder: Path, n_processes: int, ends: int = -1) -> None:
    """A run that is paused at step `ends`, if there is such a step."""
    (folder.parent / "script.py").write_text(SCRIPT)
    launched = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
    before = launched if n_processes > 1 else []
    command = [sys.executable, *before, str(folder.parent / "script.py"), str(folder), str(ends)]
    environment = {**os.environ, "PYTHONPATH": ".", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("ends", [-1, 4])
def test_two_processes_have_the_numbers_of_one_and_half_the_forwards_each(tmp_path, ends):
    run(tmp_path / "one", 1)
    run(tmp_path / "two", 2, ends)
    if ends >= 0:
        assert json.loads((tmp_path / "two" / "status.json").read_text()) == {"state": "running", "step": ends}
        run(tmp_path / "two", 2)
    same_runs(tmp_path / "one", tmp_path / "two")
    if ends < 0:
        alone, *shares = (
            int((tmp_path / name).read_text()) for name in ("one/forwards-0", "two/forwards-0", "two/forwards-1")
        )
        assert sum(shares) == alone
        assert min(shares) > 0.4 * alone
