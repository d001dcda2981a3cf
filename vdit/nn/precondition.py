"""The part of the velocity that needs no network."""

from jaxtyping import Float
from torch import Tensor

__all__ = ["precondition"]


def precondition(
    x: Float[Tensor, "b c t h w"], sigma: Float[Tensor, "b #t #h #w"], residual: Float[Tensor, "b c t h w"]
) -> Float[Tensor, "b c t h w"]:
    """Velocity at x_sigma from what a network adds to the best linear guess.

    With x = (1 - sigma) x0 + sigma noise, and data of unit variance without structure, the best guess of
    noise - x0 is (2 sigma - 1) x / s^2, where s^2 = sigma^2 + (1 - sigma)^2; the variance of what is left is
    1 / s^2. So the network is asked for a residual of unit variance at every sigma, and need not carry the
    noise from its input to its output, which costs a small network much of its width.

    Args:
        x: noisy latents, whose type the velocity takes.
        sigma: diffusion time of every latent, or of every clip.
        residual: the network's output.

    Source: the preconditioning of Karras et al. 2022 (sec. 5, app. B.6), derived for this path.
    """
    sigma = sigma[:, None]  # b 1 #t #h #w
    square = sigma**2 + (1 - sigma) ** 2
    guess, gain = (2 * sigma - 1) / square, square.rsqrt()
    return guess.to(x.dtype) * x + gain.to(x.dtype) * residual
