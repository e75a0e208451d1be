"""A slow network on one machine: hosts are network namespaces; a program forwards packets between them with a delay.

It needs no root, only a Linux that allows user namespaces and TUN devices. Run as a program, it is what forwards.
"""

import ctypes
import fcntl
import json
import os
import select
import shutil
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

INTERFACE = "slow0"
TUN = "/dev/net/tun"
MTU = 65520
"""Bytes of a packet: large, so that a program in Python can forward a gigabyte a second."""


def missing() -> str | None:
    """Why there can be no such network on this machine; None if there can."""
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            return f"there is no {tool}"
    try:
        with DelayedNetwork(1):
            return None
    except OSError as error:
        return str(error)


def mpiexec_over_tcp(interface: str) -> list[str]:
    """The first words of a command by which workers exchange everything by TCP, over a network interface.

    They are children of one process, so MPICH believes that they share memory. MPIR_CVAR_NOLOCAL denies it.
    """
    mpiexec = [str(Path(sys.executable).with_name("mpiexec")), "-launcher", "fork"]
    for name, value in (
        ("MPIR_CVAR_NOLOCAL", "1"),
        ("MPIR_CVAR_CH4_NETMOD", "ofi"),
        ("FI_PROVIDER", "tcp"),
        ("FI_TCP_IFACE", interface),
    ):
        mpiexec += ["-genv", name, value]
    return mpiexec


class DelayedNetwork:
    """A context manager: the network is there in the `with` block.

    Args:
        hosts: the number of hosts. Each has an address in its own namespace, and one link to all others.
        delay: the seconds that a packet takes from one host to another.
        bandwidth: the bytes a second that a host can send; None does not limit them.

    Raises:
        OSError: the machine does not allow it.
    """

    def __init__(self, hosts: int, delay: float = 0.0, bandwidth: float | None = None) -> None:
        command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, __file__, str(hosts)]
        self._router = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            self._namespaces = self._answer()
            self.set(delay=delay, bandwidth=bandwidth)
        except OSError:
            self.close()
            raise

    def set(self, **settings: float | bool | None) -> None:
        """Changes `delay` or `bandwidth`; `open=False` loses all packets from now on."""
        assert self._router.stdin is not None
        self._router.stdin.write(json.dumps(settings) + "\n")
        self._router.stdin.flush()
        self._answer()

    def entering(self, host: int) -> list[str]:
        """The command that starts the command after it on a host."""
        pid = self._router.pid
        enter = ["nsenter", "-t", str(pid), "--user", "--preserve-credentials"]
        return [*enter, f"--net=/proc/{pid}/fd/{self._namespaces[host]}"]

    def mpiexec(self, command: Sequence[str]) -> list[str]:
        """A command that runs a command as worker k on host k, for all hosts, by MPICH's `mpiexec` beside Python."""
        mpiexec = mpiexec_over_tcp(INTERFACE)
        for host in range(len(self._namespaces)):
            mpiexec += [*([":"] if host else []), "-n", "1", *self.entering(host), *command]
        return mpiexec

    def _answer(self) -> Any:
        assert self._router.stdout is not None
        line = self._router.stdout.readline()
        if not line:
            _, errors = self._router.communicate()
            raise OSError((errors.strip() or "the program that forwards packets has ended").splitlines()[-1])
        return json.loads(line)

    def close(self) -> None:
        """Ends the network. The namespaces go when no process is in them."""
        self._router.communicate()

    def __enter__(self) -> "DelayedNetwork":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Router:
    """Forwards packets between namespaces that it makes."""

    def __init__(self, hosts: int) -> None:
        made = [_new_host(number) for number in range(hosts)]
        self.tuns, self.namespaces = [tun for tun, _ in made], [namespace for _, namespace in made]
        self.delay, self.bandwidth, self.open = 0.0, None, True
        self._free_at = [0.0] * hosts
        self._under_way: list[deque[tuple[float, bytes]]] = [deque() for _ in range(hosts)]

    def run(self) -> None:
        """Forwards until standard input ends, whose lines are new settings."""
        print(json.dumps(self.namespaces), flush=True)
        hosts, settings = {tun: host for host, tun in enumerate(self.tuns)}, sys.stdin.fileno()
        while True:
            due = [packets[0][0] for packets in self._under_way if packets]
            timeout = max(0.0, min(due) - time.monotonic()) if due else None
            for ready in select.select([*hosts, settings], [], [], timeout)[0]:
                if ready != settings:
                    self._take(hosts[ready])
                elif line := sys.stdin.readline():
                    vars(self).update(json.loads(line))
                    print("{}", flush=True)
                else:
                    return
            self._deliver()

    def _take(self, host: int) -> None:
        """Takes the packets that a host has sent."""
        while True:
            try:
                packet = os.read(self.tuns[host], MTU)
            except BlockingIOError:
                return
            if self.open:
                sent = max(time.monotonic(), self._free_at[host])
                self._free_at[host] = sent + (len(packet) / self.bandwidth if self.bandwidth else 0.0)
                self._under_way[host].append((self._free_at[host] + self.delay, packet))

    def _deliver(self) -> None:
        for packets in self._under_way:
            while packets and packets[0][0] <= time.monotonic():
                packet = packets.popleft()[1]
                version, target = packet[0] >> 4, packet[19] - 1  # IPv4's last byte of the destination
                if self.open and version == 4 and target < len(self.tuns):
                    os.write(self.tuns[target], packet)


def _new_host(number: int) -> tuple[int, int]:
    """The TUN device and the namespace, as file descriptors, of a new host. This process is in it afterwards."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x40000000):  # CLONE_NEWNET; os.unshare is there since Python 3.12
        raise OSError(ctypes.get_errno(), "a network namespace is not allowed")
    tun = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    # TUNSETIFF with IFF_TUN | IFF_NO_PI: packets of IP, without a header of Ethernet's or of the device's.
    fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", INTERFACE.encode(), 0x1001))
    for command in (
        f"addr add 10.77.0.{number + 1}/24 dev {INTERFACE}",
        f"link set {INTERFACE} mtu {MTU} up",
        "link set lo up",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    return tun, os.open("/proc/self/ns/net", os.O_RDONLY)


if __name__ == "__main__":
    _Router(int(sys.argv[1])).run()
