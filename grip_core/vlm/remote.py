"""A frozen VLM that another process holds (grip_core/vlm/server.py), for training: no weights are loaded here."""

from __future__ import annotations

import itertools
import socket
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grip_core.errors import ServerLost
from grip_core.vlm.context import Context, Selection
from grip_core.vlm.frozen import AnswerScores, VisualFeatures
from grip_core.vlm.wire import Message, receive, send, tensors_of

STARTING = 120.0
"""Seconds for which a server that does not listen yet may still be importing its packages."""
PATIENCE = 900.0
"""Seconds for an answer: longer than a large model takes to load, or than all other runs' requests."""


class RemoteError(RuntimeError):
    """The server could not answer a request, and is there for the next one."""


class RemoteVLM:
    """What training asks of a VLM (AnsweringVLM), answered with the numbers of the VLM itself: on a CPU the same in
    every bit, as long as the server has as many threads as this process would have.

    A context's tensors are sent once; the server keeps them as long as the context lives here. Every call raises
    ServerLost once the server has gone or has not answered for `patience` seconds, RemoteError if it could not answer
    this one, and MemoryError if it had not the memory to.
    """

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self.path = path
        self._connection = _connect(path, patience)
        self._numbers = itertools.count()
        self._kept: dict[int, int] = {}  # a context's id -> its number there
        self._dropped: list[int] = []
        self.device = torch.device("cpu")  # until the server has told
        told = self._ask({"kind": "hello"}).header
        self.device, self.setup = torch.device(told["device"]), told["setup"]

    def visual_features(self, images: Sequence[np.ndarray], questions: Sequence[str] | None = None) -> VisualFeatures:
        """See FrozenVLM.visual_features."""
        sent = {str(number): torch.from_numpy(image) for number, image in enumerate(images)}
        asked = None if questions is None else list(questions)
        parts: dict[str, Any] = self._ask({"kind": "features", "questions": asked}, sent).tensors
        return VisualFeatures(**parts)

    def context(self, features: VisualFeatures, questions: Sequence[str], answers: Sequence[str]) -> Context:
        """See FrozenVLM.context."""
        number = next(self._numbers)
        request = {"kind": "context", "number": number, "questions": list(questions), "answers": list(answers)}
        sent = tensors_of(features)
        # What the VLM has changed of them, it sends back.
        parts: dict[str, Any] = sent | self._ask(request, sent).tensors
        context = Context(**parts)
        self._remember(context, number)
        return context

    def answer_scores(
        self, context: Context, selection: Selection | None = None, with_kl: bool = False
    ) -> AnswerScores:
        """See FrozenVLM.answer_scores. One request, computed there in one piece, as the VLM itself would."""
        # By identity: a part or a changed copy of a context is another one, which the server does not know.
        if id(context) not in self._kept:
            number = next(self._numbers)
            self._ask({"kind": "keep", "number": number}, tensors_of(context))
            self._remember(context, number)
        selection = Selection.all(context) if selection is None else selection
        request = {"kind": "scores", "number": self._kept[id(context)], "with_kl": with_kl}
        return AnswerScores(**self._ask(request, tensors_of(selection)).tensors)

    def close(self) -> None:
        """End the connection; the server forgets all contexts of it."""
        self._connection.close()

    def _remember(self, context: Context, number: int) -> None:
        self._kept[id(context)] = number
        weakref.finalize(context, self._forget, id(context)).atexit = False

    def _forget(self, key: int) -> None:
        self._dropped.append(self._kept.pop(key))

    def _ask(self, request: dict[str, Any], tensors: Mapping[str, torch.Tensor] | None = None) -> Message:
        dropped, self._dropped = self._dropped, []
        try:
            send(self._connection, Message(request | {"drop": dropped}, dict(tensors or {})))
            answer = receive(self._connection, self.device)
        except (EOFError, OSError) as error:
            self.close()  # what comes late must not be taken for the answer to another request
            raise ServerLost(f"the VLM's server at {self.path} has gone ({error}); see its log") from None
        if "error" in answer.header:
            raise _error(answer.header["error"], answer.header["message"])
        return answer


def _error(kind: str, message: str) -> Exception:
    text = f"the VLM's server could not answer: {kind}: {message}"
    return MemoryError(text) if kind in ("MemoryError", "OutOfMemoryError") else RemoteError(text)


def _connect(path: Path, patience: float) -> socket.socket:
    """A connection to the server, which may still be starting. Raises ServerLost if there is none.

    Whoever starts a server removes its socket's folder when it has ended, so that nobody waits for it in vain.
    """
    deadline = time.monotonic() + STARTING
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(patience)
        try:
            connection.connect(str(path))
        except OSError as error:
            connection.close()
            if time.monotonic() > deadline or not path.parent.is_dir():
                raise ServerLost(f"no VLM's server listens at {path} ({error}); see its log") from None
            time.sleep(0.1)
        else:
            return connection
