"""Which ranks share a clip, and which have clips of their own."""

from dataclasses import dataclass

__all__ = ["Mesh"]


@dataclass(frozen=True)
class Mesh:
    """Ranks as rows of data ranks; the ranks of a row are neighbours and share the tokens of their clips.

    Attributes:
        rank: this process among all of the run.
        world: processes in the run.
        sequence: ranks that share a clip; it divides `world`.
    """

    rank: int
    world: int
    sequence: int

    @property
    def data_rank(self) -> int:
        """Whose clips this process sees, among `data_world`."""
        return self.rank // self.sequence

    @property
    def data_world(self) -> int:
        """How many ranks or groups of ranks have clips of their own."""
        return self.world // self.sequence

    @property
    def sequence_rank(self) -> int:
        """This process among those that share its clips."""
        return self.rank % self.sequence
