"""The address, claimed before anything is loaded, and the server on it."""

import asyncio
import errno
import signal
import socket
from contextlib import suppress
from typing import Any

import uvicorn

from momkd.errors import ConfigError, MachineError
from momkd.viewer.options import ViewerOptions, as_address


def claim_address(options: ViewerOptions) -> socket.socket:
    """Bind the address, or refuse it in one line.

    Raises
    ------
    ConfigError
        G07 an address this machine does not have.
    MachineError
        D13 the port is in use, or may not be used.
    """
    address = as_address(options.host)
    family = socket.AF_INET6 if address is not None and address.version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        where = f"{options.host}:{options.port}"
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            used = error.errno == errno.EADDRINUSE
            what = "is in use by another program" if used else "may not be used by this user"
            raise MachineError.of("D13", where, what, "--port 0 takes any free one") from None
        what = f"cannot be listened on: {error.strerror or error}"
        raise ConfigError.of("G07", where, what, "give an address of this machine") from None
    return listener


def address_of(listener: socket.socket, options: ViewerOptions, token: str | None) -> str:
    """Give the address to be opened in a browser."""
    host = options.host
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    elif ":" in host:
        host = f"[{host.strip('[]')}]"
    query = "" if token is None else f"?token={token}"
    return f"http://{host}:{listener.getsockname()[1]}/{query}"


def run_server(app: Any, listener: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM, which end it in order."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # addresses may hold the token
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=15,
        timeout_graceful_shutdown=3,
        limit_concurrency=200,
    )
    server = uvicorn.Server(config)

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    # uvicorn raises anew, when it has ended, the signal that ended it
    before = signal.signal(signal.SIGTERM, end)
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(server.serve(sockets=[listener]))
    finally:
        signal.signal(signal.SIGTERM, before)
