"""Every error that dp2p raises on purpose. Each names what failed, where and why."""

from __future__ import annotations


class Dp2pError(Exception):
    """Root of all of them."""


class TransportError(Dp2pError):
    """The C extension refused."""

    def __init__(self, status: int, name: str, doing: str) -> None:
        super().__init__(f"{doing}: {name}")
        self.status = status
        "A ``dp_status`` code."
        self.name = name
        "Its name, as ``dp_status_name`` gives it."


class RecordError(Dp2pError):
    """A message on the data socket is malformed."""


class NodeRecordError(Dp2pError):
    """A node's signed record is malformed, or its signature is wrong."""


class AddressError(Dp2pError):
    """A peer address or endpoint cannot be read."""


class ConfigError(Dp2pError):
    """A configuration value is wrong; the text names where it stands and what is allowed."""


class KeyFileError(Dp2pError):
    """The node's key file is missing, malformed or readable by others."""


class StoreError(Dp2pError):
    """The peer store cannot be opened; the text names the file and why it was left alone."""


class RequestError(Dp2pError):
    """The node refused a request of an application.

    ``code`` is one of those in docs/spec/app-api.md, "Errors".
    """

    def __init__(
        self, code: str, message: str, *, protocol: str | None = None, peer: str | None = None
    ) -> None:
        where = "".join(
            f" ({what} {value})"
            for what, value in (("protocol", protocol), ("peer", peer))
            if value
        )
        super().__init__(f"{code}: {message}{where}")
        self.code = code
        self.message = message
        self.protocol = protocol
        self.peer = peer
