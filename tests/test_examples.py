"""The example script, as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from grip_core.model import GripModel
from tests.families import QUESTIONS
from tests.test_model import make_scorer
from tests.vlm.test_load import save

SCRIPT = Path(__file__).parents[1] / "examples" / "answer.py"


@pytest.mark.slow
def test_it_answers_at_each_share_and_tells_of_a_missing_image(llava, tmp_path):
    save(llava, tmp_path / "vlm")
    (tmp_path / "vlm" / "prompt_template.txt").write_text(llava.vlm.template)
    model = GripModel(llava.vlm, make_scorer())
    model.save_pretrained(tmp_path / "scorer")
    Image.fromarray(llava.images[0]).save(tmp_path / "image.png")

    def run(image: str) -> subprocess.CompletedProcess[str]:
        given = ["--vlm", str(tmp_path / "vlm"), "--scorer", str(tmp_path / "scorer"), "--keep-ratios", "1.0", "0.1"]
        command = [sys.executable, str(SCRIPT), str(tmp_path / image), QUESTIONS[0], *given]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run("image.png")
    assert done.returncode == 0, done.stderr
    shown = [line.split(maxsplit=1) for line in done.stdout.splitlines() if "%" in line]
    said = [model.generate(llava.images[:1], QUESTIONS[:1], keep_ratio=ratio)[0] for ratio in (1.0, 0.1)]
    assert shown == [["100%", said[0]], ["10%", said[1]]]
    done = run("nothing.png")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "there is no such file" in done.stderr
