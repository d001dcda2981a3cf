"""The video transformer of Wan 2.1 and 2.2, in all its variants.

    latents (and channels) b c t h w ── patches ─────────────┐
    sigma b t h w ── cosines and sines ── MLP ── six rows ───┼─ blocks ── norm ── patches ── velocity
    text b m d_text ── MLP ──────────────────────────────────┤
    image tokens b k d_image ── norm ── MLP ── norm ─────────┘

The differences from the native transformer: queries and keys are normalised over all heads together; the
six rows of modulation are computed once from sigma, and every block adds its own table to them; the text is
padded to a fixed length, and its padding is attended to; the output is velocity itself.

Source: Wan Team 2025, sec. 4.2, and the released code.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vdit.models.backbone import Stream, Transformer
from vdit.models.patches import token_sigma
from vdit.models.wan.attention import CrossAttention, SelfAttention
from vdit.nn.embed import fourier
from vdit.nn.mlp import MLP
from vdit.nn.modulation import Triple, modulate
from vdit.nn.rope import grid_positions, rotation
from vdit.types import DenoiserInput, InputError, Slot, Tokens

__all__ = ["WanDiT"]

EPS = 1e-6


@dataclass(frozen=True)
class WanStream(Stream):
    """What Wan's blocks share besides.

    Attributes:
        rows: shift, scale and gate of self-attention, then of the feed-forward, before a block adds its own.
        image: tokens of given images, or None.
    """

    rows: Float[Tensor, "b #n six d"]
    image: Float[Tensor, "b k d"] | None


class Block(nn.Module):
    """Self-attention over all tokens of the clip, cross-attention to text and image, feed-forward."""

    def __init__(self, width: int, hidden: int, heads: int, image: bool) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.randn(1, 6, width) / width**0.5)
        self.norm_self = nn.LayerNorm(width, eps=EPS, elementwise_affine=False)
        self.self_attention = SelfAttention(width, heads, EPS)
        self.norm_text = nn.LayerNorm(width, eps=EPS)
        self.text_attention = CrossAttention(width, heads, EPS, image)
        self.norm_mlp = nn.LayerNorm(width, eps=EPS, elementwise_affine=False)
        self.mlp = MLP(width, hidden, width)

    def forward(self, x: Float[Tensor, "b n d"], stream: WanStream) -> Float[Tensor, "b n d"]:
        rows = (stream.rows + self.modulation).unbind(2)  # six of b #n d
        for_self, for_mlp = Triple(*rows[:3]), Triple(*rows[3:])
        y = modulate(self.norm_self(x), for_self)
        x = torch.addcmul(x, for_self.gate, self.self_attention(y, stream.rotation))
        y = self.norm_text(x)
        x = x + self.text_attention(y, stream.text, stream.text_mask, stream.image)
        y = modulate(self.norm_mlp(x), for_mlp)
        return torch.addcmul(x, for_mlp.gate, self.mlp(y))


class ImageIn(nn.Module):
    """Tokens of an image encoder to tokens of the transformer.

    Args:
        image_width: channels of the encoder's tokens.
        width: channels of the transformer's.
        places: tokens of all images together, where they carry a learnt position (first and last frame); or
            None.

    Shapes: `b k d_image` -> `b k d`.
    """

    def __init__(self, image_width: int, width: int, places: int | None) -> None:
        super().__init__()
        self.position = None if places is None else nn.Parameter(torch.zeros(1, places, image_width))
        self.norm_in = nn.LayerNorm(image_width)
        self.up = nn.Linear(image_width, image_width)
        self.down = nn.Linear(image_width, width)
        self.norm_out = nn.LayerNorm(width)

    def forward(self, image: Float[Tensor, "b k d_image"]) -> Float[Tensor, "b k d"]:
        if self.position is not None:
            if image.shape[1] != self.position.shape[1]:
                raise InputError(
                    f"this model takes {self.position.shape[1]} image tokens, of a first and a last frame, "
                    f"and got {image.shape[1]}"
                )
            image = image + self.position
        # The exact GELU, not the tanh form of every other layer.
        return self.norm_out(self.down(nn.functional.gelu(self.up(self.norm_in(image)))))


class WanDiT(Transformer):
    """A transformer of Wan 2.1 (T2V, I2V, FLF2V) or Wan 2.2 (A14B experts, TI2V-5B).

    Args:
        latent_channels: channels of the codec's latents.
        extra_channels: channels that are joined to them: 20 where an image is given as latents and a mask.
        text_width: channels of the text encoder's tokens.
        text_length: tokens that every prompt is padded to.
        width: channels of a token inside.
        hidden: channels inside the feed-forward.
        heads: attention heads; must divide `width` into an even number of channels.
        depth: number of blocks.
        sigma_channels: cosines and sines of sigma.
        image_width: channels of an image encoder's tokens; None where there is none.
        image_places: see `ImageIn`.
        patch: frames, rows and columns of latents that make one token.

    Raises:
        InputError: sizes that do not divide.
    """

    def __init__(
        self,
        latent_channels: int = 16,
        extra_channels: int = 0,
        text_width: int = 4096,
        text_length: int = 512,
        width: int = 1536,
        hidden: int = 8960,
        heads: int = 12,
        depth: int = 30,
        sigma_channels: int = 256,
        image_width: int | None = None,
        image_places: int | None = None,
        patch: tuple[int, int, int] = (1, 2, 2),
    ) -> None:
        super().__init__()
        if width % heads or (width // heads) % 2:
            raise InputError(f"width {width} over {heads} heads must leave an even number of channels a head")
        self.settings = {
            "latent_channels": latent_channels,
            "extra_channels": extra_channels,
            "text_width": text_width,
            "text_length": text_length,
            "width": width,
            "hidden": hidden,
            "heads": heads,
            "depth": depth,
            "sigma_channels": sigma_channels,
            "image_width": image_width,
            "image_places": image_places,
            "patch": list(patch),
        }
        self.latent_channels, self.extra_channels = latent_channels, extra_channels
        self.text_width, self.text_length = text_width, text_length
        self.sigma_channels, self.patch, self.head_width = sigma_channels, patch, width // heads
        slots = {Slot.TEXT, Slot.KNOWN}
        slots |= {Slot.CHANNELS} if extra_channels else set()
        slots |= {Slot.IMAGE_TOKENS} if image_width is not None else set()
        self.slots = frozenset(slots)

        self.patch_in = nn.Conv3d(latent_channels + extra_channels, width, patch, stride=patch)
        self.sigma_up = nn.Linear(sigma_channels, width)
        self.sigma_down = nn.Linear(width, width)
        self.sigma_rows = nn.Linear(width, 6 * width)
        self.text_in = MLP(text_width, width, width)
        self.image_in = None if image_width is None else ImageIn(image_width, width, image_places)
        image = image_width is not None
        self.blocks = nn.ModuleList(Block(width, hidden, heads, image) for _ in range(depth))
        self.norm_out = nn.LayerNorm(width, eps=EPS, elementwise_affine=False)
        self.modulation_out = nn.Parameter(torch.randn(1, 2, width) / width**0.5)
        self.patch_out = nn.Linear(width, latent_channels * patch[0] * patch[1] * patch[2])
        nn.init.zeros_(self.patch_out.weight)

    def check_shape(self, t: int, h: int, w: int) -> None:
        if t % self.patch[0] or h % self.patch[1] or w % self.patch[2]:
            raise InputError(
                f"latents of {t}x{h}x{w} do not divide into patches of {self.patch}: change the size"
            )

    def embed(self, inputs: DenoiserInput) -> tuple[Float[Tensor, "b n d"], WanStream]:
        if inputs.text is None:
            raise InputError("WanDiT needs text tokens: give the denoiser a caption condition")
        t, h, w = inputs.latents.shape[2:]
        self.check_shape(t, h, w)
        grid = (t // self.patch[0], h // self.patch[1], w // self.patch[2])

        x = rearrange(self.patch_in(self.joined(inputs)), "b d t h w -> b (t h w) d")

        # In float64, as the authors do: the fastest cosine turns a thousand radians.
        sigma = token_sigma(inputs.sigma.double(), self.patch, (t, h, w))  # b #n
        waves = fourier(sigma, self.sigma_channels).to(x.dtype)
        vector = self.sigma_down(nn.functional.silu(self.sigma_up(waves)))  # b #n d
        rows = self.sigma_rows(nn.functional.silu(vector))
        rows = rearrange(rows, "b n (six d) -> b n six d", six=6)

        text, bias = self.padded_text(inputs.text)
        turns = rotation(grid_positions(*grid, device=x.device), self.head_width)
        image = None if self.image_in is None else self.image_in(self.image_tokens(inputs))
        return x, WanStream(grid, vector, turns, text, bias, rows, image)

    def joined(self, inputs: DenoiserInput) -> Float[Tensor, "b c_in t h w"]:
        """The latents, and behind them the channels that are given. Raises InputError without those."""
        if not self.extra_channels:
            return inputs.latents
        if inputs.channels is None or inputs.channels.shape[1] != self.extra_channels:
            raise InputError(
                f"this model needs {self.extra_channels} more channels: give the denoiser an image condition"
            )
        return torch.cat([inputs.latents, inputs.channels], dim=1)

    @staticmethod
    def image_tokens(inputs: DenoiserInput) -> Float[Tensor, "b k d_image"]:
        """The tokens of given images. Raises InputError without them."""
        if inputs.image_tokens is None:
            raise InputError("this model needs the tokens of an image: give the denoiser an image condition")
        return inputs.image_tokens

    def padded_text(self, text: Tokens) -> tuple[Float[Tensor, "b m d"], Float[Tensor, "b m"]]:
        """Text tokens and what is added to the logits of their keys.

        The authors pad every prompt with zeros to `text_length` and attend to all of it. Zeros all become the
        same key and the same value, so one of them, with the logarithm of their number added to its logit,
        does the same as all of them.
        """
        counts = text.mask.sum(1)  # b
        if int(counts.max()) > self.text_length:
            raise InputError(
                f"a prompt has {int(counts.max())} tokens, and this model takes {self.text_length}"
            )
        padding = text.values.new_zeros(len(text.values), 1, self.text_width)
        tokens = self.text_in(torch.cat([text.values, padding], dim=1))
        seen = torch.zeros_like(text.mask, dtype=tokens.dtype).masked_fill(~text.mask, -torch.inf)
        many = (self.text_length - counts).to(tokens.dtype).log()  # of none: minus infinity
        return tokens, torch.cat([seen, many[:, None]], dim=1)

    def unembed(self, x: Float[Tensor, "b n d"], stream: Stream) -> Float[Tensor, "b c t h w"]:
        shift, scale = (stream.vector[:, :, None] + self.modulation_out).unbind(2)
        x = self.patch_out(torch.addcmul(shift, self.norm_out(x), 1 + scale))
        (t, h, w), (pt, ph, pw) = stream.grid, self.patch
        return rearrange(
            x,
            "b (t h w) (pt ph pw c) -> b c (t pt) (h ph) (w pw)",
            t=t,
            h=h,
            w=w,
            pt=pt,
            ph=ph,
            pw=pw,
        )
