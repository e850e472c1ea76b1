"""What goes over the socket between a VLM's server and its clients: a JSON header, then the tensors that it lists.

Nothing is pickled. Tensors travel as they lie in memory, and are received into memory of torch's own: at 300 MB a
rollout a container format's copies take longer than the socket, and kernels may round otherwise where memory is aligned
otherwise, while a run has to get the numbers that it would get from a VLM of its own.
"""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from grip_core.vlm.context import Context, Selection
from grip_core.vlm.frozen import AnswerScores, VisualFeatures

LENGTH = struct.Struct("<I")
"""Of the header, in bytes."""
DTYPES = {str(kind).removeprefix("torch."): kind for kind in (
    torch.bool, torch.uint8, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64
)}  # fmt: skip
Sent = Context | Selection | VisualFeatures | AnswerScores


@dataclass(frozen=True)
class Message:
    """A request or its answer: plain values, and tensors by name."""

    header: dict[str, Any]
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)


def tensors_of(item: Sent) -> dict[str, torch.Tensor]:
    """The tensors of one of our data structures by their fields' names: what is None is left out, and a memo stays.

    Raises ValueError for a selection with cuts: they would be lost on the way.
    """
    if isinstance(item, Selection) and item.cuts:
        raise ValueError("a selection with cuts inside the language model cannot be sent to a VLM's server")
    named = {one.name: getattr(item, one.name) for one in fields(item)}
    return {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}


def send(connection: socket.socket, message: Message) -> None:
    """Send one message. Raises OSError if the other side has gone."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in message.tensors.items()}
    listed = [[name, str(value.dtype).removeprefix("torch."), list(value.shape)] for name, value in tensors.items()]
    header = json.dumps({"values": message.header, "tensors": listed}).encode()
    connection.sendall(LENGTH.pack(len(header)) + header)
    for value in tensors.values():
        connection.sendall(_bytes(value))


def receive(connection: socket.socket, device: torch.device | str = "cpu") -> Message:
    """The next message, its tensors on `device`.

    Raises EOFError if the other side has gone, OSError if the connection broke or its time-out has passed, and
    ValueError or KeyError for what is no message.
    """
    length = bytearray(LENGTH.size)
    _fill(connection, memoryview(length))
    text = bytearray(LENGTH.unpack(length)[0])
    _fill(connection, memoryview(text))
    header = json.loads(text)
    tensors = {name: torch.empty(shape, dtype=DTYPES[dtype]) for name, dtype, shape in header["tensors"]}
    for value in tensors.values():
        _fill(connection, _bytes(value))
    return Message(header["values"], {name: value.to(device) for name, value in tensors.items()})


def _bytes(tensor: torch.Tensor) -> memoryview:
    """A contiguous tensor's memory."""
    return tensor.view(-1).view(torch.uint8).numpy().data


def _fill(connection: socket.socket, target: memoryview) -> None:
    while target.nbytes:
        count = connection.recv_into(target)
        if not count:
            raise EOFError("the other side has closed the connection")
        target = target[count:]
