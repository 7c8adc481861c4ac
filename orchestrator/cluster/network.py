"""Which network interface the workers of one trial speak over, where they are on different nodes."""

import fcntl
import os
import socket
import struct

HOOK = "paretta.orchestrator.cluster.network.choose_interface"
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
LOOPBACK_INTERFACE = "lo"
_SIOCGIFADDR = 0x8915  # Linux: the address of an interface


def choose_interface() -> None:
    """Point gloo and NCCL to the interface that carries this node's address in the cluster, unless they are told.

    Left alone, gloo takes the address that the host's own name resolves to, which often is loopback, and then no worker
    reaches those of other nodes. Ray calls this at the start of each worker process.
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
                continue  # it has no IPv4 address
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None
