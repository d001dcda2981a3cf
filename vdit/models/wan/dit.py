"""The video transformer of Wan 2.1 and 2.2, in all its variants.

    latents (and channels) b c t h w ── patches ─────────────┐
    sigma b t h w ── cosines and sines ── MLP ── six rows ───┼─ blocks ── norm ── patches ── velocity
    text b m d_text ── MLP ──────────────────────────────────┤
    image tokens b k d_image ── norm ── MLP ── norm ─────────┘
    rays b c t h w of pixels ── folded, convolved ── added to the patches
    context b c t h w ── patches ── blocks of its own ── hints, added after some of the blocks

The differences from the native transformer: queries and keys are normalised over all heads together; the
six rows of modulation are computed once from sigma, and every block adds its own table to them; the text is
padded to a fixed length, and its padding is attended to; the output is velocity itself.

Source: Wan Team 2025, sec. 4.2, and the released code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vdit.models.backbone import Stream, Transformer
from vdit.models.camera import CameraIn
from vdit.models.patches import token_sigma
from vdit.models.wan.blocks import EPS, Block, HintedBlock
from vdit.models.wan.context import ContextVideo
from vdit.models.wan.image import ImageIn
from vdit.models.wan.stream import WanStream
from vdit.nn.embed import fourier
from vdit.nn.lean import norm_modulate
from vdit.nn.mlp import MLP
from vdit.nn.rope import grid_rotation
from vdit.types import DenoiserInput, InputError, Kept, Slot, Tokens

__all__ = ["WanDiT"]


class WanDiT(Transformer):
    """A transformer of Wan 2.1 (T2V, I2V, FLF2V, VACE) or 2.2 (A14B experts, TI2V-5B), or Fun's with cameras.

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
        camera_stride: pixels of a side of a latent, where rays of cameras are read; None where they are not.
        context_channels: channels of a second video; None where there is none.
        context_blocks: which blocks take a hint from it, one context block each.
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
        camera_stride: int | None = None,
        context_channels: int | None = None,
        context_blocks: Sequence[int] = (),
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
            "camera_stride": camera_stride,
            "context_channels": context_channels,
            "context_blocks": list(context_blocks),
            "patch": list(patch),
        }
        self.latent_channels, self.extra_channels = latent_channels, extra_channels
        self.text_width, self.text_length, self.sigma_channels = text_width, text_length, sigma_channels
        self.patch, self.head_width, self.slots = patch, width // heads, _slots(self.settings)

        self.patch_in = nn.Conv3d(latent_channels + extra_channels, width, patch, stride=patch)
        self.sigma_up = nn.Linear(sigma_channels, width)
        self.sigma_down = nn.Linear(width, width)
        self.sigma_rows = nn.Linear(width, 6 * width)
        self.text_in = MLP(text_width, width, width)
        self.image_in = None if image_width is None else ImageIn(image_width, width, image_places)
        self.camera_in = None if camera_stride is None else CameraIn(width, camera_stride, patch[2])
        self.context, hints = None, list(context_blocks)
        if context_channels is not None:
            self.context = ContextVideo(context_channels, width, hidden, heads, len(hints), patch)
        sizes = (width, hidden, heads, image_width is not None)
        self.blocks = nn.ModuleList(
            HintedBlock(*sizes, hints.index(i)) if i in hints else Block(*sizes) for i in range(depth)
        )
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

        kept = inputs.kept or Kept()

        x = self.patch_in(self.joined(inputs))  # b d t h w, in patches
        if self.camera_in is not None:
            rays = _given(inputs.added, "rays: give the denoiser a camera condition")
            x = x + kept.once((self, "camera"), partial(self.camera_in, rays))
        # What blocks add up is float32 at least, in any precision of the rest; and it lies token by token, or
        # each block would keep the order of the convolution, in which norms and sums are slow.
        x = rearrange(x, "b d t h w -> b (t h w) d").to(torch.promote_types(x.dtype, torch.float32))
        x = x.contiguous()

        vector, rows = self.told_sigma(token_sigma(inputs.sigma, self.patch, (t, h, w)))
        text, bias = kept.once((self, "text"), partial(self.padded_text, inputs.text))
        image = kept.once((self, "image"), partial(self.seen_image, inputs))
        turns = grid_rotation(grid, self.head_width, x.device)
        stream = WanStream(grid, vector, turns, text, bias, rows, image, kept=inputs.kept)
        if self.context is not None:
            video = _given(inputs.context, "a second video: give the denoiser a context condition")
            stream = replace(stream, hints=self.context(video, x, stream))
        return x, stream

    def told_sigma(
        self, sigma: Float[Tensor, "b #n"]
    ) -> tuple[Float[Tensor, "b #n d"], Float[Tensor, "b #n six d"]]:
        """The embedding of sigma, and the six rows of modulation before a block adds its own.

        In float64 as the authors do it, since the fastest cosine turns a thousand radians, and then in
        float32, whatever the precision of the rest.
        """
        waves = fourier(sigma.double(), self.sigma_channels).to(self.sigma_up.weight.dtype)
        with torch.autocast(sigma.device.type, enabled=False):
            vector = self.sigma_down(nn.functional.silu(self.sigma_up(waves)))
            rows = self.sigma_rows(nn.functional.silu(vector))
        return vector, rearrange(rows, "b n (six d) -> b n six d", six=6)

    def seen_image(self, inputs: DenoiserInput) -> Float[Tensor, "b k d"] | None:
        """Tokens of given images; None where this variant has none."""
        if self.image_in is None:
            return None
        return self.image_in(
            _given(inputs.image_tokens, "the tokens of an image: give the denoiser an image condition")
        )

    def joined(self, inputs: DenoiserInput) -> Float[Tensor, "b c_in t h w"]:
        """The latents, and behind them the channels that are given. Raises InputError without those."""
        if not self.extra_channels:
            return inputs.latents
        if inputs.channels is None or inputs.channels.shape[1] != self.extra_channels:
            raise InputError(
                f"this model needs {self.extra_channels} more channels: give the denoiser an image condition"
            )
        return torch.cat([inputs.latents, inputs.channels], dim=1)

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
        x = self.patch_out(norm_modulate(x, shift, scale, EPS))
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


def _slots(settings: Mapping[str, Any]) -> frozenset[Slot]:
    optional = {
        Slot.CHANNELS: settings["extra_channels"],
        Slot.IMAGE_TOKENS: settings["image_width"],
        Slot.ADDED: settings["camera_stride"],
        Slot.CONTEXT: settings["context_channels"],
    }
    return frozenset({Slot.TEXT, Slot.KNOWN, *(slot for slot, there in optional.items() if there)})


def _given(value: Tensor | None, what: str) -> Tensor:
    """A part of the input that this model cannot do without. Raises InputError where it is not there."""
    if value is None:
        raise InputError(f"this model needs {what}")
    return value
