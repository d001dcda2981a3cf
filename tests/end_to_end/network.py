"""Two nodes on one machine: network namespaces with host names of their own, joined by a virtual cable."""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Cabled", "Refused"]

LAB = """
set -e
mount -t tmpfs none /run
mount --bind "$1" /etc/hosts
for node in 0 1; do ip netns add node$node; done
ip link add wire netns node0 type veth peer name wire netns node1
for node in 0 1; do
  ip -n node$node link set lo up
  ip -n node$node addr add 10.99.0.$((node + 1))/24 dev wire
  ip -n node$node link set wire up
done
echo ready
cat
"""
NODE = 'echo "$1" > /proc/sys/kernel/hostname; shift; exec "$@"'


class Refused(Exception):
    """This machine lets nobody have namespaces; the message says why."""


class Cabled:
    """`node0` and `node1`, who know each other by name, and nothing else; all gone after `close`.

    Needs no root: everything is inside a user namespace, where whoever runs the tests is root.

    Raises:
        Refused: the tools are missing, or the kernel refuses.
    """

    def __init__(self, folder: Path) -> None:
        missing = [tool for tool in ("unshare", "nsenter", "ip", "mount") if not shutil.which(tool)]
        if missing:
            raise Refused(f"{', '.join(missing)} not installed")
        hosts = folder / "hosts"
        hosts.write_text("127.0.0.1 localhost\n10.99.0.1 node0\n10.99.0.2 node1\n")
        self._lab = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c", LAB, "lab", str(hosts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._lab.stdout is not None
        if (said := self._lab.stdout.readline()) != "ready\n":
            self.close()
            raise Refused(f"namespaces are not permitted here: {said.strip()}")

    def begin(self, node: int, command: Sequence[str], variables: Mapping[str, str]) -> subprocess.Popen[str]:
        """A Python command on a node, with stdout and stderr as one."""
        settings = [f"{name}={value}" for name, value in variables.items()]
        inside = [
            "unshare",
            "--uts",
            "sh",
            "-c",
            NODE,
            "node",
            f"node{node}",
            "env",
            *settings,
            sys.executable,
        ]
        line = [*self._entered("ip", "netns", "exec", f"node{node}"), *inside, *command]
        return subprocess.Popen(line, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def cut(self) -> None:
        """Pull the cable: packets are lost, and no connection is closed."""
        for node in (0, 1):
            line = self._entered("ip", "-n", f"node{node}", "link", "set", "wire", "down")
            subprocess.run(line, check=True)

    def close(self) -> None:
        """Forget both nodes."""
        self._lab.communicate("", timeout=10)

    def _entered(self, *command: str) -> list[str]:
        enter = ["nsenter", "--target", str(self._lab.pid), "--user", "--net", "--mount"]
        return [*enter, "--preserve-credentials", *command]
