"""Choose the network interface over which the workers of a trial on several nodes communicate."""

import fcntl
import os
import socket
import struct

HOOK = "paretta.orchestrator.cluster.network.choose_interface"
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
LOOPBACK_INTERFACE = "lo"
_SIOCGIFADDR = 0x8915  # Linux ioctl: get the address of an interface


def choose_interface() -> None:
    """Set gloo's and NCCL's interface to the one with this node's cluster address, unless the user has set it.

    By default gloo uses the address that the host name resolves to, which often is loopback; then workers on
    different nodes cannot reach each other. Ray calls this function at the start of each worker process.
    """
    import ray  # noqa: PLC0415 - it names the node's address

    interface = interface_of(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
    if interface is not None:
        for variable in INTERFACES:
            os.environ.setdefault(variable, interface)


def interface_of(address: str) -> str | None:
    """Return the interface that has the IPv4 `address`; None where none has.

    >>> interface_of("127.0.0.1"), interface_of("203.0.113.1")
    ('lo', None)
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        for _, name in socket.if_nameindex():
            question = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(asker.fileno(), _SIOCGIFADDR, question)
            except OSError:
                continue  # this interface has no IPv4 address
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None
