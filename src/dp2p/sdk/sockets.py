"""ZeroMQ sockets as the SDK uses them."""

from __future__ import annotations

from pathlib import Path

import zmq

from dp2p.places import control_endpoint, default_run_dir

LINGER_MS = 500  # how long closing may take to hand over what was sent
_LEND_BYTES = 128 << 10  # from here on lending a message to ZeroMQ is cheaper than its copy
_BORROW_BYTES = 64 << 10  # and borrowing one from it

Socket = zmq.Socket[bytes]


def find_node(run_dir: Path | str | None, endpoint: str | None) -> str:
    """The control endpoint to use: ``endpoint``, or the one in ``run_dir`` or its default."""
    if endpoint is not None:
        return endpoint
    return control_endpoint(Path(run_dir) if run_dir is not None else default_run_dir())


def keep_freed_memory() -> None:
    """Have glibc keep up to 8 MiB of freed memory for the next message.

    By default it returns every large block to the kernel at once, and faulting its pages in again
    costs more than building the message. Freeing a block of 4 MiB, which is never touched, raises
    its two thresholds (mallopt(3), "dynamic mmap threshold"). Elsewhere this has no effect.
    """
    bytes(4 << 20)


def open_dealer(context: zmq.Context[Socket], endpoint: str) -> Socket:
    """A connected DEALER. It has no high-water mark: credit bounds what it holds, and a socket
    that drops or blocks would break the order of records.
    """
    dealer = context.socket(zmq.DEALER)
    dealer.set(zmq.SNDHWM, 0)
    dealer.set(zmq.RCVHWM, 0)
    dealer.set(zmq.LINGER, LINGER_MS)
    dealer.connect(endpoint)
    return dealer


def send(socket: Socket, message: bytes) -> None:
    """Hand one message over; never blocks."""
    socket.send(message, zmq.NOBLOCK, len(message) < _LEND_BYTES)


class Reader:
    """Reads messages from one socket, in the way that was best for the last one."""

    __slots__ = ("_large", "socket")

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self._large = False

    def recv(self) -> bytes | memoryview:
        """A message that is there.  Raises: zmq.Again."""
        message: bytes | memoryview
        if self._large:
            message = self.socket.recv(zmq.NOBLOCK, copy=False).buffer
        else:
            message = self.socket.recv(zmq.NOBLOCK)
        self._large = len(message) >= _BORROW_BYTES
        return message

    def more(self) -> bool:
        """Whether another message is there. Sending or receiving on the socket may have swallowed
        its descriptor's signal; this looks.
        """
        return bool(int(self.socket.get(zmq.EVENTS)) & zmq.POLLIN)
