"""What the viewer listens on, serves and accepts."""

import ipaddress
import socket

from pydantic import Field

from momkd.config import Options

GIB = 1 << 30


class ViewerOptions(Options):
    """How the viewer is reached, and where its limits are.

    Parameters
    ----------
    host
        Address it listens on. Anything but loopback makes a token obligatory.
    port
        0 takes any free one.
    token
        Ask for a token on loopback too, where other people use the same machine.
    allow_hosts
        Further names by which browsers may ask for it (a proxy's, say).
    max_upload_gib
        Larger uploads are refused.
    max_body_bytes
        The same for every other request.
    silence_s
        A client that sends nothing for so long in the middle of a request is let go.
    most_waiting
        Jobs that may wait; one runs at a time.
    """

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    token: bool = False
    allow_hosts: tuple[str, ...] = ()
    max_upload_gib: float = Field(4.0, gt=0, le=1024, allow_inf_nan=False)
    max_body_bytes: int = Field(65_536, ge=1024)
    silence_s: float = Field(30.0, gt=0)
    most_waiting: int = Field(20, ge=1, le=1000)

    @property
    def max_upload_bytes(self) -> int:
        """The limit of an upload in bytes."""
        return int(self.max_upload_gib * GIB)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        address = as_address(self.host)
        return address is not None and address.is_loopback

    def is_own_name(self, name: str) -> bool:
        """Whether a browser that asks for this host means this viewer.

        A page elsewhere can let its own name point here (DNS rebinding); it cannot do so with an
        address, so addresses pass.
        """
        known = {"localhost", self.host.lower(), *(h.lower() for h in self.allow_hosts)}
        if not self.is_loopback:
            known.add(socket.gethostname().lower())
        return name.lower() in known or as_address(name) is not None


def as_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an IP address, in brackets or not; None for a name."""
    try:
        return ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
