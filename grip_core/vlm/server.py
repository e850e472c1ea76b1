"""One process that holds a frozen VLM and answers the runs of a node: `python -m grip_core.vlm.server --help`.

Requests are computed one at a time, in the order in which they come. As a client waits for each of its answers, clients
take turns. A request is what the run alone would give its VLM at once, and is never merged with another: other shapes
would round otherwise.
"""

from __future__ import annotations

import argparse
import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from grip_core.errors import UserError
from grip_core.vlm.context import Context, Selection
from grip_core.vlm.frozen import ROWS_PER_FORWARD, FrozenVLM, VisualFeatures
from grip_core.vlm.load import load_vlm
from grip_core.vlm.wire import Message, receive, send, tensors_of

logger = logging.getLogger(__name__)
POLL = 1.0
"""Seconds after which an idle server notices that it is wanted no longer."""
BACKLOG = 128
"""Clients that may connect while the model is being loaded."""

Contexts = dict[int, Context]
"""What a client has sent and may refer to, by the number that it has given."""


def host(open_vlm: Callable[[], FrozenVLM], path: Path, owner: int) -> None:
    """Be the server: listen at `path`, open the VLM, answer.

    Ends the process with code 0 on SIGTERM, after the last client has gone, or once `owner` is no longer its parent;
    with code 2 and one line on a UserError. Clients may connect while the VLM is being opened.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    # A scheduler signals all processes of a job. The runs then go on to their next checkpoint, and need their answers.
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        with listening(path) as listener:
            vlm = open_vlm()
            logger.info("ready at %s, process %d", path, os.getpid())
            serve(vlm, listener, lambda clients: os.getppid() == owner and not (told and clients == 0))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket at `path`, in a folder that only this user may enter; its file is removed at the end.

    Raises UserError if the folder is open to others or the socket cannot be made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent.stat().st_mode & 0o077:
        raise UserError(f"the socket must lie in a folder of mode 700, but {path.parent} is open to others; chmod it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(str(path))
        except OSError as error:
            raise UserError(f"no socket can be made at {path}: {error}; name another, shorter path") from None
        try:
            listener.listen(BACKLOG)
            yield listener
        finally:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Request:
    """A client's message that waits for its turn."""

    contexts: Contexts
    message: Message
    answer: Future[Message] = field(default_factory=Future)


def serve(vlm: FrozenVLM, listener: socket.socket, wanted: Callable[[int], bool]) -> None:
    """Answer requests as long as the server is wanted with so many clients."""
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    clients: set[socket.socket] = set()
    arguments = (listener, clients, requests, vlm.device)
    threading.Thread(target=_accept, args=arguments, name="accept", daemon=True).start()
    while wanted(len(clients)):
        try:
            request = requests.get(timeout=POLL)
        except queue.Empty:
            continue
        request.answer.set_result(_guarded(vlm, request))


def _accept(
    listener: socket.socket,
    clients: set[socket.socket],
    requests: queue.SimpleQueue[Request],
    device: torch.device,
) -> None:
    while True:
        connection, _ = listener.accept()
        clients.add(connection)
        arguments = (connection, clients, requests, device)
        threading.Thread(target=_converse, args=arguments, name="client", daemon=True).start()


def _converse(
    connection: socket.socket,
    clients: set[socket.socket],
    requests: queue.SimpleQueue[Request],
    device: torch.device,
) -> None:
    """Pass one client's requests on, until it closes; what it has sent is forgotten with it."""
    contexts: Contexts = {}
    with connection:
        try:
            while True:
                request = Request(contexts, receive(connection, device))
                requests.put(request)
                send(connection, request.answer.result())
        except EOFError:
            return
        except (OSError, ValueError, LookupError) as error:
            logger.warning("a client is dropped: %s", error)
        finally:
            clients.discard(connection)


def _guarded(vlm: FrozenVLM, request: Request) -> Message:
    try:
        return answer(vlm, request.contexts, request.message)
    except torch.AcceleratorError:
        raise  # the device is lost to this process: its clients had better hear that it has gone
    except Exception as error:  # whatever a request fails of is its sender's, and other runs go on
        logger.warning("a request failed: %s", error, exc_info=True)
        return Message({"error": type(error).__name__, "message": str(error)})


@torch.inference_mode()
def answer(vlm: FrozenVLM, contexts: Contexts, request: Message) -> Message:
    """What a request is answered with; `contexts` are its sender's, and may change.

    hello: the device, and the VLM's setup. features, of images and questions: VisualFeatures. context, of features,
    questions and answers: the prompts' tensors, but for those that came. keep, of a whole context: nothing. scores, of
    a selection from a context that came before: AnswerScores.
    Raises ValueError for a selection that does not fit its context, or for a kind that is not known.
    """
    header = request.header
    tensors: dict[str, Any] = request.tensors
    for number in header["drop"]:
        del contexts[number]
    match header["kind"]:
        case "hello":
            return Message({"device": str(vlm.device), "setup": vlm.setup})
        case "features":
            images = [image.cpu().numpy() for image in tensors.values()]
            return Message({}, tensors_of(vlm.visual_features(images, header["questions"])))
        case "context":
            context = vlm.context(VisualFeatures(**tensors), header["questions"], header["answers"])
            contexts[header["number"]] = context
            made = {name: value for name, value in tensors_of(context).items() if value is not tensors.get(name)}
            return Message({}, made)
        case "keep":
            contexts[header["number"]] = Context(**tensors)
            return Message({})
        case "scores":
            context, selection = contexts[header["number"]], Selection(**tensors)
            _check(context, selection)
            return Message({}, tensors_of(vlm.answer_scores(context, selection, header["with_kl"])))
        case kind:
            raise ValueError(f"a request must be hello, features, context, keep or scores, but got {kind}")


def _check(context: Context, selection: Selection) -> None:
    """On a GPU an index out of range would end the server with all its runs."""
    places = {"kept_RK": (selection.kept_RK, context.n_visual), "prompt_R": (selection.prompt_R, context.batch_size)}
    for name, (index, size) in places.items():
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < size:
            raise ValueError(
                f"{name} must lie in 0 to {size - 1}, but goes from {int(index.min())} to {int(index.max())}"
            )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m grip_core.vlm.server",
        description="Hold a frozen VLM and answer the training runs of this machine.",
    )
    parser.add_argument("--vlm", required=True, help="folder or hub id of the model, as vlm.path in params.yaml")
    parser.add_argument("--positions", choices=["original", "compact"], default="original", help="as vlm.positions")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="as vlm.dtype")
    parser.add_argument("--device", default="auto", help="as vlm.device")
    parser.add_argument("--quantization", choices=["none", "8bit", "4bit"], default="none", help="as vlm.quantization")
    parser.add_argument("--template", help="as vlm.template")
    parser.add_argument("--rows-per-forward", type=int, default=ROWS_PER_FORWARD, help="as vlm.rows_per_forward")
    parser.add_argument("--socket", type=Path, required=True, help="Unix socket to make, in a folder of mode 700")
    parser.add_argument(
        "--owner", type=int, default=os.getppid(), help="process whose child this is; the server ends with it"
    )
    arguments = parser.parse_args()
    given = (arguments.vlm, arguments.positions, arguments.dtype, arguments.device, arguments.quantization)
    more = {"template": arguments.template, "rows_per_forward": arguments.rows_per_forward}
    host(lambda: load_vlm(*given, **more), arguments.socket, arguments.owner)


if __name__ == "__main__":
    main()
