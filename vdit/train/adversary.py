"""Training a codec against a critic that tells its reconstructions from the clips themselves.

    clip ── codec ── reconstruction ┬─ distance to the clip ── its gradient: pull ─┐
                                    └─ critic's opinion ────── its gradient: push ─┴─ weighed ── codec

Both gradients are taken where they meet, at the pixels, and their sum goes back through the codec. So the
balance is the same for every codec, which is passed once each way; the critic, whose own hinge loss trains it
on the same opinions, is cut off from it there.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vdit.codecs.codec import Posterior, VideoCodec
from vdit.codecs.critic import PatchCritic
from vdit.draws import Draws
from vdit.train.codec_step import CodecLoss, CodecStep, Lengths
from vdit.train.step import StepOutput
from vdit.types import ClipBatch, InputError

__all__ = ["AdversarialStep", "Adversary", "Contest"]

LARGEST_BALANCE = 1e4


@dataclass(frozen=True)
class Adversary:
    """The critic, and how much a codec hears of it.

    Args:
        critic: what learns to tell reconstructions from clips.
        weight: of the critic's gradient beside that of the `CodecLoss`, both by their length at the pixels.
        alone: steps at the start in which the critic learns and is not heard yet.
        rise: steps after these in which the weight grows to its full size.

    Raises:
        InputError: a weight that is not above 0, or negative steps.
    """

    critic: PatchCritic
    weight: float = 0.2
    alone: int = 100
    rise: int = 100

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise InputError(f"the adversary's weight is {self.weight}, but must be above 0")
        if self.alone < 0 or self.rise < 0:
            raise InputError(f"the adversary's alone {self.alone} and rise {self.rise} must be 0 or more")

    def weight_after(self, done: int) -> float:
        """The weight of the step that has `done` steps before it."""
        return self.weight * min(1.0, max(0.0, (done + 1 - self.alone) / max(1, self.rise)))


class Played(NamedTuple):
    """What codec and critic made of clips.

    Attributes:
        again: the reconstruction, through which the codec's gradient goes.
        posterior: of the codec.
        of_clip: the critic's opinion of the clips, patch by patch.
        of_again: its opinion of the reconstruction, which is cut off from the codec there.
        push: the gradient of minus the mean opinion of each clip, at the pixels of the reconstruction.
    """

    again: Float[Tensor, "b 3 t h w"]
    posterior: Posterior
    of_clip: Tensor
    of_again: Tensor
    push: Float[Tensor, "b 3 t h w"]


class Contest(nn.Module):
    """A codec and its critic as one module: one wrapper, one optimiser, one checkpoint.

    Args:
        codec: what is trained to be exported.
        critic: what is trained beside it, and stays in the run's checkpoints.
    """

    def __init__(self, codec: VideoCodec, critic: PatchCritic) -> None:
        super().__init__()
        self.codec, self.critic = codec, critic

    def forward(self, pixels: Float[Tensor, "b 3 t h w"], draws: Draws) -> Played:
        again, posterior = self.codec(pixels, draws)
        seen = again.detach().requires_grad_()
        of_again = self.critic(seen)
        # Here and not in the step, which is told the push and not what was seen.
        (push,) = torch.autograd.grad(-of_again.float().flatten(1).mean(1).sum(), seen, retain_graph=True)
        return Played(again, posterior, self.critic(pixels), of_again, push)


class AdversarialStep(CodecStep):
    """The reconstruction of each clip, its `CodecLoss`, and the contest with the critic.

    The critic learns by the hinge loss (Lim & Ye 2017); the codec is pulled towards the clip by its loss and
    pushed to where the critic's opinion is higher. The push is first brought to the length of the pull
    (Esser et al. 2021, eq. 7, there at the last layer; at the output as Défossez et al. 2022, sec. 3.4).

    Args:
        loss: the distance that pulls.
        lengths: frames of the clips of a step.
        adversary: how much the push counts.
    """

    def __init__(self, loss: CodecLoss, lengths: Lengths, adversary: Adversary) -> None:
        super().__init__(loss, lengths)
        self.adversary = adversary

    def __call__(self, module: nn.Module, batch: ClipBatch, draws: Draws, done: int = 0) -> StepOutput:
        pixels = self.pixels(batch, draws)
        played: Played = module(pixels, draws)
        code = self.loss.code(played.posterior)
        of_clip, of_again = (x.float().flatten(1) for x in (played.of_clip, played.of_again))
        critic = 0.5 * (F.relu(1 - of_clip).mean(1) + F.relu(1 + of_again).mean(1))

        again = played.again.float()
        seen = again.detach().requires_grad_()
        looks = self.loss.reconstruction(seen, pixels, draws)
        (pull,) = torch.autograd.grad(looks.loss.sum(), seen)
        push = played.push.float()
        balance = (pull.norm() / (push.norm() + 1e-12)).clamp(max=LARGEST_BALANCE)
        weight = self.adversary.weight_after(done) * balance
        # Linear in the pixels, so its gradient is `pull + weight * push`; its value is taken away again.
        through = (again * (pull + weight * push)).flatten(1).sum(1)
        loss = looks.loss.detach() + through - through.detach() + code.loss + critic
        right = 0.5 * ((of_clip > 0).float().mean() + (of_again < 0).float().mean())
        found = {"critic": critic.mean(), "critic_right": right, "adversary_weight": weight}
        metrics = {name: value.detach() for name, value in found.items()}
        return self.output(batch, loss, {**looks.metrics, **code.metrics, **metrics})
