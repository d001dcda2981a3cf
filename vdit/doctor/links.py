"""Whether data pass between the processes of a job, and how fast."""

from vdit.doctor.finding import Finding
from vdit.doctor.hosts import Roll
from vdit.parallel.ring import Ring

__all__ = ["check_links"]

REMEDY = {
    "gloo": "see firewalls between the two, and name the network card: GLOO_SOCKET_IFNAME",
    "nccl": "see firewalls between the two, name the card (NCCL_SOCKET_IFNAME), and read NCCL_DEBUG=INFO",
}


def check_links(ring: Ring, roll: Roll) -> list[Finding]:
    """Try every link of the ring, then time exchanges of all; all ranks call it together."""
    remedy, found = REMEDY[ring.backend], []
    links = ring.links()
    for link in links:
        if link.fault:
            named = f"{roll.place(link.source)} -> {roll.place(link.target)}"
            found.append(Finding("ring", "wrong", f"{named}: {link.fault}", remedy))
    if found:
        sentence = "not timed, because a link is broken"
        return [*found, Finding("bandwidth", "skipped", sentence)]
    passed = f"each of {len(links)} links passed 1 MiB unchanged, by {ring.backend}"
    found.append(Finding("ring", "ok", passed))
    timed = ring.exchanges()
    if isinstance(timed, str):
        return [*found, Finding("bandwidth", "wrong", f"an all-reduce of all ranks failed: {timed}", remedy)]
    rates = ", ".join(f"{it.rate:.3g} GB/s at {_size(it.bytes)}" for it in timed[1:])
    first, ranks = timed[0], f"{len(links)} ranks by {ring.backend}"
    sentence = f"all-reduce over {ranks}: {first.seconds * 1e6:.0f} us at {_size(first.bytes)}"
    return [*found, Finding("bandwidth", "ok", f"{sentence}, {rates} (bytes of the message over time)")]


def _size(count: int) -> str:
    return f"{count // 2**20} MiB" if count >= 2**20 else f"{count // 2**10} KiB"
