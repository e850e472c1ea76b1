"""One VLM for several runs: the numbers are those of a VLM of one's own, and nobody's end is another's."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from grip_core.errors import ServerLost, UserError
from grip_core.rl.train import Task, train
from grip_core.rl.validation import Validation
from grip_core.runs import RunFolder
from grip_core.vlm import server
from grip_core.vlm.context import Context, Selection, top_k
from grip_core.vlm.frozen import VisualFeatures
from grip_core.vlm.load import TEMPLATE_FILE
from grip_core.vlm.remote import RemoteError, RemoteVLM
from grip_core.vlm.server import POLL, listening, serve
from grip_core.vlm.wire import Message, send, tensors_of
from tests.families import ANSWERS, QUESTIONS
from tests.rl.conftest import BUDGETS, make_grpo, make_scorer, make_store

ONE = Selection(torch.tensor([[0]]), torch.ones(1, 1, dtype=torch.bool), torch.tensor([0]))


@pytest.fixture(autouse=True)
def _alike(monkeypatch):
    """Servers that end soon, and have as many threads as this process: with more of them sums round otherwise."""
    monkeypatch.setattr(server, "POLL", 0.05)
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))


@pytest.fixture
def path() -> Iterator[Path]:
    """Where a socket may lie: a private folder whose name is short enough."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "vlm"


@contextmanager
def serving(vlm, path: Path) -> Iterator[None]:
    """A server in a thread of this process."""
    ended = threading.Event()
    with listening(path) as listener:
        thread = threading.Thread(target=serve, args=(vlm, listener, lambda clients: not ended.is_set()))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@pytest.fixture
def served(family, path) -> Iterator[Path]:
    with serving(family.vlm, path):
        yield path


def features(family) -> VisualFeatures:
    return family.vlm.visual_features(family.images, QUESTIONS)


def some_rows(context: Context, seed: int = 0) -> Selection:
    """Three selections a prompt, of one to five tokens."""
    scores_BN = torch.rand(context.visual_mask_BN.shape, generator=torch.Generator().manual_seed(seed))
    prompt_R = torch.arange(context.batch_size).repeat_interleave(3)
    chosen = top_k(scores_BN.masked_fill(~context.visual_mask_BN, -torch.inf)[prompt_R], torch.arange(9) % 5 + 1)
    return replace(chosen, prompt_R=prompt_R)


def same(one, other) -> None:
    """Equal in every bit."""
    first, second = tensors_of(one), tensors_of(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.dtype == second[name].dtype, name
        assert torch.equal(value, second[name]), name


def at_once(function: Callable[[int], None], count: int) -> None:
    """Call a function with 0, 1, ... in as many threads."""
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(function, range(count)))


# Numbers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_kl", [False, True])
def test_prompts_and_scores_are_those_of_the_vlm_itself(family, served, with_kl):
    remote, own = RemoteVLM(served), family.vlm.context(features(family), QUESTIONS, ANSWERS)
    assert remote.setup == family.vlm.setup
    context = remote.context(features(family), QUESTIONS, ANSWERS)
    same(context, own)
    for selection in (some_rows(own), Selection.none(own), None):
        scores = remote.answer_scores(context, selection, with_kl)
        assert (scores.kl_R is not None) == with_kl
        same(scores, family.vlm.answer_scores(own, selection, with_kl))
    assert scores.log_prob_R.std() > 0.1  # a model that says the same everywhere would pass any comparison


def test_features_in_half_precision_make_the_same_prompts(family, served):
    half = replace(features(family), visual_BND=features(family).visual_BND.bfloat16())
    context = RemoteVLM(served).context(half, QUESTIONS, ANSWERS)
    same(context, family.vlm.context(half, QUESTIONS, ANSWERS))
    same(RemoteVLM(served).answer_scores(context), family.vlm.answer_scores(context))


def test_merged_tokens_are_sent_along(family, served):
    context = family.vlm.context(features(family), QUESTIONS, ANSWERS)
    merged = replace(ONE, merged_RKD=context.visual_BND[:1, 1:2])
    scores = RemoteVLM(served).answer_scores(context, merged)
    same(scores, family.vlm.answer_scores(context, merged))
    assert not torch.equal(scores.log_prob_R, family.vlm.answer_scores(context, ONE).log_prob_R)


def test_a_part_or_a_changed_copy_of_a_context_is_another_context(family, served):
    remote = RemoteVLM(served)
    context = remote.context(features(family), QUESTIONS, ANSWERS)
    whole = remote.answer_scores(context)
    part = context.rows(torch.tensor([2, 0]))
    same(remote.answer_scores(part), family.vlm.answer_scores(part))
    other = replace(context, answer_ids_BA=(context.answer_ids_BA + 1) % 7)
    same(remote.answer_scores(other), family.vlm.answer_scores(other))
    assert not torch.equal(remote.answer_scores(other).log_prob_R, whole.log_prob_R)


def test_several_at_once_each_get_their_own_answers(family, served):
    own = family.vlm.context(features(family), QUESTIONS, ANSWERS)
    visual, selections = features(family), [some_rows(own, seed) for seed in range(4)]
    found = {}

    def client(number: int) -> None:
        remote = RemoteVLM(served)
        for turn in range(5):
            context = remote.context(visual, QUESTIONS, ANSWERS)
            found[number, turn] = remote.answer_scores(context, selections[number], with_kl=True)

    at_once(client, 4)
    assert len(found) == 20
    for (number, _), scores in found.items():
        same(scores, family.vlm.answer_scores(own, selections[number], with_kl=True))


class Stub:
    """Stands for a VLM: calls a function, and says always the same."""

    device = torch.device("cpu")
    setup: ClassVar[dict[str, str]] = {}

    def __init__(self, llava, function: Callable[[Context], None]) -> None:
        self.function, self.scores = function, llava.vlm.answer_scores(llava.context([0]))

    def answer_scores(self, context, selection, with_kl):
        self.function(context)
        return self.scores


def test_clients_take_turns(llava, path):
    asked: list[int] = []
    stub = Stub(llava, lambda context: (asked.append(int(context.answer_ids_BA[0, 0])), time.sleep(0.05)))

    contexts = [replace(llava.context([0]), answer_ids_BA=torch.tensor([[number]])) for number in range(3)]

    def client(number: int) -> None:
        remote = RemoteVLM(path)
        for _ in range(6):
            remote.answer_scores(contexts[number])

    with serving(stub, path):
        at_once(client, 3)
    assert len(asked) == 18
    # From where all three have begun to where the first has ended, any three answers in a row are one each.
    begun = max(asked.index(number) for number in range(3))
    ended = min(len(asked) - asked[::-1].index(number) for number in range(3))
    assert ended - begun >= 6
    for first in range(begun, ended - 3):
        assert sorted(asked[first : first + 3]) == [0, 1, 2]


def test_what_a_client_has_dropped_the_server_forgets(llava, path, monkeypatch):
    held, answer = [], server.answer

    def counted(vlm, contexts, request):
        reply = answer(vlm, contexts, request)
        held.append(len(contexts))
        return reply

    monkeypatch.setattr(server, "answer", counted)
    with serving(llava.vlm, path):
        remote = RemoteVLM(path)
        kept = remote.context(features(llava), QUESTIONS, ANSWERS)
        for _ in range(5):
            rollout = remote.context(features(llava), QUESTIONS, ANSWERS)
            remote.answer_scores(rollout, ONE)
            remote.answer_scores(kept, ONE)
    assert max(held) == 3  # the kept one, this rollout's, and the last one's until the request after it
    assert held[-1] == 2


# Faults ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"kept_RK": torch.tensor([[10_000]])},
        {"prompt_R": torch.tensor([7])},
        {"mask_RK": torch.ones(1, 3, dtype=torch.bool)},
    ],
)
def test_a_wrong_request_is_an_error_of_its_sender_alone(llava, path, wrong):
    with serving(llava.vlm, path):
        remote, other = RemoteVLM(path), RemoteVLM(path)
        context = remote.context(features(llava), QUESTIONS, ANSWERS)
        with pytest.raises(RemoteError, match="could not answer"):
            remote.answer_scores(context, replace(ONE, **wrong))
        with pytest.raises(RemoteError, match="could not answer"):
            remote.context(features(llava), QUESTIONS[:2], ANSWERS)
        for client in (remote, other):
            same(client.answer_scores(context, ONE), llava.vlm.answer_scores(context, ONE))


def test_too_little_memory_there_is_too_little_memory_here(llava, path):
    def fail(context: Context) -> None:
        raise torch.OutOfMemoryError("tried to allocate 9 GiB")

    with serving(Stub(llava, fail), path), pytest.raises(MemoryError, match="9 GiB"):
        RemoteVLM(path).answer_scores(llava.context())


def test_a_lost_device_ends_the_server(llava, path):
    """Its context on the GPU is gone, so it could answer nobody any more."""

    def fail(context: Context) -> None:
        raise torch.AcceleratorError("an illegal memory access was encountered")

    with listening(path) as listener, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lambda: RemoteVLM(path, patience=1.0).answer_scores(llava.context()))
        with pytest.raises(torch.AcceleratorError):
            serve(Stub(llava, fail), listener, lambda clients: True)
        with pytest.raises(ServerLost):
            asked.result()


def test_a_server_that_hangs_is_not_waited_for_for_ever(llava, path):
    hung = threading.Event()
    with serving(Stub(llava, lambda context: hung.wait(20)), path):
        remote = RemoteVLM(path, patience=0.3)
        for _ in range(2):  # its late answer is not taken for that to the second request
            with pytest.raises(ServerLost, match="see its log"):
                remote.answer_scores(llava.context())
        hung.set()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_client_that_is_killed_in_the_middle_of_a_request_is_dropped(llava, path, share, tmp_path):
    """Before its request, after half of it, and before it has read the answer."""
    context = llava.vlm.context(features(llava), QUESTIONS, ANSWERS)
    whole = sent(Message({"kind": "keep", "number": 0, "drop": []}, tensors_of(context)))
    (tmp_path / "part").write_bytes(whole[: int(share * len(whole))])
    script = "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
    script += "s.sendall(open(sys.argv[2], 'rb').read()); print(flush=True); time.sleep(60)"
    with serving(llava.vlm, path):
        remote = RemoteVLM(path)
        command = [sys.executable, "-c", script, str(path), str(tmp_path / "part")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
            client.stdout.readline()
            client.kill()
        same(remote.answer_scores(context), llava.vlm.answer_scores(context))


def sent(message: Message) -> bytes:
    """What a message is sent as."""
    parts: list[bytes] = []

    class Connection:
        def sendall(self, part) -> None:
            parts.append(bytes(part))

    send(Connection(), message)
    return b"".join(parts)


def test_what_is_no_message_ends_its_own_connection_alone(llava, path):
    with serving(llava.vlm, path):
        remote, foreign = RemoteVLM(path), RemoteVLM(path)
        foreign._connection.sendall(b"\x04\x00\x00\x00GET ")
        with pytest.raises(ServerLost):
            foreign.answer_scores(llava.context())
        remote.answer_scores(llava.context())


def test_a_socket_is_for_its_user_alone(tmp_path, path):
    tmp_path.chmod(0o755)
    with pytest.raises(UserError, match="mode 700"), listening(tmp_path / "vlm"):
        pass
    with listening(path), pytest.raises(UserError, match="already in use"), listening(path):
        pass
    with pytest.raises(UserError, match="too long"), listening(path.parent / ("x" * 200)):
        pass
    assert not path.exists()


def test_a_client_waits_for_a_server_that_starts_but_not_for_one_that_has_ended(llava, tmp_path):
    path = tmp_path / "private" / "vlm"
    path.parent.mkdir(0o700)
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(RemoteVLM, path)
        time.sleep(0.2)
        with serving(llava.vlm, path):
            early.result(5)
        late = pool.submit(RemoteVLM, path)
        time.sleep(0.2)
        assert not late.done()
        path.parent.rmdir()
        with pytest.raises(ServerLost, match="no VLM's server"):
            late.result(5)


# Processes ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(llava, tmp_path_factory) -> Path:
    """The tiny model as a folder."""
    folder = tmp_path_factory.mktemp("model")
    llava.vlm.model.save_pretrained(folder)
    llava.vlm.processor.tokenizer.save_pretrained(folder)
    llava.vlm.processor.image_processor.save_pretrained(folder)
    (folder / TEMPLATE_FILE).write_text(llava.vlm.template)
    return folder


def command(model: Path, path: Path) -> list[str]:
    return [sys.executable, "-m", "grip_core.vlm.server", "--vlm", str(model), "--socket", str(path)]


def train_to(folder: Path, vlm, store) -> None:
    run = RunFolder(folder, {})
    train(make_grpo(), BUDGETS, 3, Task(vlm, store, make_scorer()), Validation(vlm, store, [1, 4]), run)


@pytest.mark.slow
def test_a_run_that_shares_a_vlm_has_the_numbers_of_one_alone(llava, model, path, tmp_path):
    """While another keeps the server busy, which is killed in the end."""
    store = make_store(llava)
    with subprocess.Popen(command(model, path)) as process:
        try:
            remote, busy = RemoteVLM(path), RemoteVLM(path)
            context = llava.context()
            others: list[object] = []
            thread = threading.Thread(target=keep_asking, args=(busy, context, others))
            thread.start()
            train_to(tmp_path / "remote", remote, store)
        finally:
            process.kill()
        began = time.monotonic()
        with pytest.raises(ServerLost, match="has gone"):
            remote.answer_scores(context)
        assert time.monotonic() - began < 5
        thread.join(5)
        assert isinstance(others.pop(), ServerLost)
    train_to(tmp_path / "own", llava.vlm, store)
    for name in ("metrics.jsonl", "scorer/model.safetensors"):
        assert (tmp_path / "remote" / name).read_bytes() == (tmp_path / "own" / name).read_bytes()
    alone = llava.vlm.answer_scores(context)
    assert len(others) > 20
    for scores in others:
        same(scores, alone)


def keep_asking(remote: RemoteVLM, context: Context, found: list[object]) -> None:
    """Ask until the server has gone; all answers, and the error."""
    try:
        while True:
            found.append(remote.answer_scores(context))
    except ServerLost as error:
        found.append(error)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["told", "orphaned"])
def test_a_server_ends_and_leaves_no_socket(llava, model, path, how):
    """On SIGTERM, once its clients have gone, and with the process that has started it."""
    starter = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    started = command(model, path)
    with subprocess.Popen(started if how == "told" else [sys.executable, "-c", starter, *started]) as process:
        remote, context = RemoteVLM(path), llava.context()
        if how == "told":  # as a scheduler tells all processes of a job, whose runs then go on to a checkpoint
            remote.answer_scores(context)
            process.send_signal(signal.SIGUSR2)
            process.send_signal(signal.SIGTERM)
            time.sleep(1.5 * POLL)
            same(remote.answer_scores(context), llava.vlm.answer_scores(context))
            remote.close()
            assert process.wait(20) == 0
        else:
            process.send_signal(signal.SIGKILL)
            assert process.wait(20) == -signal.SIGKILL
            keep_asking(remote, context, [])
    assert not path.exists()


@pytest.mark.slow
def test_a_server_that_cannot_load_its_model_says_so(path, tmp_path):
    process = subprocess.run(command(tmp_path / "none", path), capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 2
    assert "no model can be read from" in process.stderr
    assert "Traceback" not in process.stderr
    assert not path.exists()
