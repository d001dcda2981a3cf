"""What ranks read of a checkpoint in tests, counted where it is read."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from save_work import begun, saved, trained, writers
from torch import Tensor
from verify_work import of_all

from vdit.train import manifest
from vdit.weights import source
from vdit.weights.source import open_weights

LENGTH = 2**12


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Bytes that this process reads inside, by the names of files: of ranges, and of tensors that it maps."""
    found: Counter[str] = Counter()
    preadv, tensor = os.preadv, source._Safetensors.tensor

    def ranges(handle: int, buffers: list[memoryview], place: int) -> int:
        got = preadv(handle, buffers, place)
        found[Path(os.readlink(f"/proc/self/fd/{handle}")).name] += got
        return got

    def whole(self: source._Safetensors, name: str) -> Tensor:
        value = tensor(self, name)
        found[self.places[name].name] += value.nbytes
        return value

    os.preadv, source._Safetensors.tensor = ranges, whole
    try:
        yield found
    finally:
        os.preadv, source._Safetensors.tensor = preadv, tensor


def volumes(rank: int, world: int, folder: Path) -> None:
    """Verifying reads every byte once, and going on a share; weights are read by who builds the model."""
    manifest.LENGTH = LENGTH
    for stage in (2, 3):
        there = saved(trained(stage), folder / f"{stage}", background=False)
        sizes = {stated.piece.file: stated.piece.size for stated in manifest.read_manifest(there.path)}
        with counted() as verified:
            there.verify(writers())
        every = of_all(verified)
        assert sum(every, Counter()) == sizes, f"zero{stage}"
        most, least = (of(sum(found.values()) for found in every) for of in (max, min))
        assert most - least < 4 * LENGTH < sum(sizes.values()) / world / 4

        with counted() as read:
            begun(stage, there)
        for name in ("model.safetensors", "ema.safetensors", "optimizer.safetensors"):
            weights = open_weights(there.path / name)
            tensors = {n: value.nbytes for n, value in weights.tensors() if not n.endswith("/step")}
            values, header = sum(tensors.values()), sizes[name] - sum(v.nbytes for _, v in weights.tensors())
            every = of_all(read[name])
            if name == "model.safetensors":
                builds = world if stage < 3 else 1
                assert every == [values] * builds + [0] * (world - builds)
                continue
            step = 4 if name == "optimizer.safetensors" else 0
            own = [found - header - step for found in every]
            assert sum(own) == values, f"zero{stage}, {name}"
            assert max(own) < 1.1 * values / world, f"zero{stage}, {name}"
