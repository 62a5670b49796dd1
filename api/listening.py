"""The socket that a server listens on, taken before anything is loaded that would be for nothing without it."""

from __future__ import annotations

import errno
import socket

from engine.errors import SettingsError


def listening(host: str, port: int) -> socket.socket:
    """A socket that is bound to this address, and does not listen yet. SettingsError, in words, when it cannot be."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        hint = "; choose another with --port" if error.errno == errno.EADDRINUSE else ""
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}{hint}") from None
    return listener
