"""The native video diffusion transformer. If you read one file of this project, read this one.

    noisy latents b c t h w ─┬─ patches ── position ─┐
                             │                       ├─ blocks ── norm ── patches ── (+) ── velocity
    sigma b t h w ───────────│─ fourier ── MLP ──────┤                                │
    text b m d_text ─────────│─ norm ── MLP ─────────┘                                │
                             └─ the linear guess of velocity ─────────────────────────┘

    rays of a camera b c t h w of pixels ── folded, convolved ── added to the patches
    what is said of each latent b c t h w ── patches ── added to those of the latents
    numbers said of a clip or of its frames b t d ── MLP ── added to the embedding of sigma
    clean images b k c h w ── patches ── tokens behind those of the clip, which leave no result

Peebles & Xie 2023 (DiT) with tokens cut from space and time, rotary positions over frame, row and
column, normalised queries and keys, and text by cross-attention.
"""

import math
from collections.abc import Mapping

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vdit.models.backbone import Stream, Transformer
from vdit.models.camera import CameraIn
from vdit.models.native.appended import Sequence, append
from vdit.models.native.vectors import VectorsIn
from vdit.models.patches import sigma_rows
from vdit.nn.attention import Attention
from vdit.nn.embed import fourier
from vdit.nn.mlp import MLP, GatedMLP
from vdit.nn.modulation import Modulation, modulate
from vdit.nn.precondition import precondition
from vdit.nn.rope import grid_positions, rotation
from vdit.types import Appended, DenoiserInput, InputError, Slot

__all__ = ["NativeDiT"]

SIGMA_CHANNELS = 256
SIGMA_LADDER = (30.0, 300.0)  # highest frequency, and its ratio to the lowest


class Block(nn.Module):
    """Self-attention over all tokens of the clip, cross-attention to the text, gated feed-forward."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.modulation = Modulation(width, parts=2)
        self.norm_self = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.self_attention = Attention(width, heads)
        self.norm_text = nn.LayerNorm(width, eps=1e-6)
        self.text_attention = Attention(width, heads)
        nn.init.zeros_(self.text_attention.to_out.weight)  # its gate: the block starts as the identity
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = GatedMLP(width, 8 * math.ceil(width * mlp_ratio / 8))

    def forward(self, x: Float[Tensor, "b n d"], stream: Stream) -> Float[Tensor, "b n d"]:
        for_self, for_mlp = self.modulation(stream.vector, stream.row)  # each b #n d
        y = modulate(self.norm_self(x), for_self)  # b n d
        x = torch.addcmul(x, for_self.gate, self.self_attention(y, y, stream.rotation, stream.mask))
        y = self.norm_text(x)
        x = x + self.text_attention(y, stream.text, mask=stream.text_mask)  # b n d, attends to b m d
        y = modulate(self.norm_mlp(x), for_mlp)
        return torch.addcmul(x, for_mlp.gate, self.mlp(y))  # b n d


class NativeDiT(Transformer):
    """A spacetime-patch diffusion transformer.

    Args:
        latent_channels: channels of the codec's latents.
        text_width: channels of the text encoder's tokens.
        width: channels of a token inside.
        depth: number of blocks.
        heads: attention heads; must divide `width` into an even number of channels.
        patch: frames, rows and columns of latents that make one token.
        mlp_ratio: hidden width of the gated feed-forward over `width`, rounded up to a multiple of 8;
            8/3 weighs what 4 does without gates.
        overlap: how many latents a patch sees, and writes, beyond each of its sides; 0 cuts patches as the
            paper does. Neighbours that share latents agree sooner: at the size of the demo a model with 1
            is where one with 0 is after 1.3 times the steps.
        camera: pixel frames of a latent frame and pixels of a side of a latent, by which the rays of a camera
            are folded; None where it follows none.
        extra_channels: how many are joined to the latents to say something of each; 0 for none.
        vectors: names of what is said in numbers of a clip or of each of its frames, and how many numbers.
        rope_theta: base of the rotary frequencies: about the number of tokens along the longest axis, so
            that the slowest channels still tell its ends apart.

    Raises:
        InputError: sizes that do not divide.
    """

    def __init__(
        self,
        latent_channels: int = 16,
        text_width: int = 576,
        width: int = 256,
        depth: int = 8,
        heads: int = 4,
        patch: tuple[int, int, int] = (1, 2, 2),
        mlp_ratio: float = 8 / 3,
        overlap: int = 1,
        rope_theta: float = 10.0,
        camera: tuple[int, int] | None = None,
        extra_channels: int = 0,
        vectors: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        sizes = {"latent_channels": latent_channels, "text_width": text_width, "width": width, "depth": depth}
        sizes |= {"heads": heads, "patch": min(patch), "mlp_ratio": mlp_ratio, "rope_theta": rope_theta}
        for name, size in sizes.items():
            if size <= 0:
                raise InputError(f"the model's {name} is {size}, but must be above 0")
        if overlap < 0 or extra_channels < 0:
            raise InputError(
                f"the model's overlap {overlap} and extra_channels {extra_channels} must be 0 or more"
            )
        if width % heads or (width // heads) % 2:
            raise InputError(f"width {width} over {heads} heads must leave an even number of channels a head")
        self.latent_channels, self.text_width = latent_channels, text_width
        self.patch, self.overlap = patch, overlap
        more = {Slot.TOKENS: patch[0] == 1, Slot.ADDED: camera is not None}
        more |= {Slot.CHANNELS: extra_channels > 0, Slot.VECTORS: bool(vectors)}
        self.slots = frozenset({Slot.TEXT, Slot.KNOWN, *(slot for slot, there in more.items() if there)})
        self.head_width, self.rope_theta = width // heads, rope_theta
        patch_values = latent_channels * patch[0] * patch[1] * patch[2]
        kernel = (patch[0] + 2 * overlap, patch[1] + 2 * overlap, patch[2] + 2 * overlap)
        self.patch_in = nn.Conv3d(latent_channels, width, kernel, stride=patch, padding=overlap)
        self.channels_in = None
        if extra_channels:
            self.channels_in = nn.Conv3d(
                extra_channels, width, kernel, stride=patch, padding=overlap, bias=False
            )
        self.camera_in = CameraIn(width, camera[1], patch[1], camera[0]) if camera else None
        self.position_in = nn.Linear(width, width, bias=False)
        self.sigma_in = MLP(SIGMA_CHANNELS, width, width)
        self.vectors_in = VectorsIn(vectors or {}, width)
        self.text_norm = nn.RMSNorm(text_width, eps=1e-6)
        self.text_in = MLP(text_width, width, width)
        self.text_pool = nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation_out = Modulation(width, parts=1)
        self.patch_out = nn.Conv3d(width, patch_values, 1 + 2 * overlap, padding=overlap)
        self.initialise()

    def initialise(self) -> None:
        """Every block starts as the identity (adaLN-Zero), the velocity as the linear guess.

        A patch starts by seeing its own latents alone; what its neighbours share it learns to use.
        """
        own = [slice(self.overlap, self.overlap + size) for size in self.patch]
        nn.init.zeros_(self.patch_in.weight)
        with torch.no_grad():
            bound = self.patch_out.out_channels**-0.5  # as torch draws a layer that reads this many values
            self.patch_in.weight[:, :, *own].uniform_(-bound, bound)
        nn.init.zeros_(self.patch_out.weight)
        nn.init.zeros_(self.get_parameter("patch_out.bias"))
        nn.init.normal_(self.position_in.weight, std=self.position_in.in_features**-0.5)
        if self.camera_in is not None:
            self.camera_in.silence()
        if self.channels_in is not None:
            nn.init.zeros_(self.channels_in.weight)
        self.vectors_in.silence()

    def check_shape(self, t: int, h: int, w: int) -> None:
        if t % self.patch[0] or h % self.patch[1] or w % self.patch[2]:
            raise InputError(
                f"latents of {t}x{h}x{w} do not divide into patches of {self.patch}: change the size"
            )

    def embed(self, inputs: DenoiserInput) -> tuple[Float[Tensor, "b n d"], Stream]:
        if inputs.text is None:
            raise InputError("NativeDiT needs text tokens: give the denoiser a caption condition")
        t, h, w = inputs.latents.shape[2:]
        self.check_shape(t, h, w)
        grid = (t // self.patch[0], h // self.patch[1], w // self.patch[2])

        x = rearrange(self.patches(inputs), "b d t h w -> b (t h w) d")
        sigma = inputs.sigma
        if any(numbers.shape[1] > 1 for numbers in inputs.vectors.values()):  # said of each frame
            sigma = sigma.expand(-1, t, -1, -1)
        sigma, row = sigma_rows(sigma, self.patch, (t, h, w))  # b #t #h #w -> b r
        clip = tokens = Sequence(x, grid_positions(*grid, device=x.device), sigma, row, None)
        if inputs.appended is not None:
            tokens = append(clip, inputs.appended, self.image_patches(inputs.appended))
        x, positions, sigma, row, mask = tokens  # b n d, #b n 3, b r, n, b n
        vector = self.sigma_in(fourier(sigma, SIGMA_CHANNELS, *SIGMA_LADDER).to(x.dtype))  # b r d
        vector = self.vectors_in(vector, inputs.vectors, grid[0], clip.sigma.shape[1])

        text = self.text_in(self.text_norm(inputs.text.values))  # b m d_text -> b m d
        weight = inputs.text.mask[..., None].to(text.dtype)  # b m 1
        pooled = (text * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)  # b 1 d
        vector = vector + self.text_pool(pooled)  # b r d

        places = absolute(positions, self.rope_theta, x.shape[-1]).to(x.dtype)  # #b n d
        x = x + self.position_in(places)  # b n d
        turns = rotation(positions, self.head_width, self.rope_theta)  # #b n d_head/2
        return x, Stream(grid, vector, turns, text, inputs.text.mask, row=row, mask=mask)

    def patches(self, inputs: DenoiserInput) -> Float[Tensor, "b d t h w"]:
        """The latents cut into patches, and what is said of each."""
        x = self.patch_in(inputs.latents)
        if self.camera_in is not None and inputs.added is not None:
            x = x + self.camera_in(inputs.added)
        if self.channels_in is not None and inputs.channels is not None:
            x = x + self.channels_in(inputs.channels)
        return x

    def image_patches(self, images: Appended) -> Float[Tensor, "b k d h w"]:
        """Each image cut as a clip of one frame is."""
        x = self.patch_in(rearrange(images.latents, "b k c h w -> (b k) c 1 h w"))
        return rearrange(x, "(b k) d 1 h w -> b k d h w", b=len(images.latents))

    def unembed(self, x: Float[Tensor, "b n d"], stream: Stream) -> Float[Tensor, "b c t h w"]:
        (t, h, w), (pt, ph, pw) = stream.grid, self.patch
        n = t * h * w  # without what is appended
        (last,) = self.modulation_out(stream.vector, None if stream.row is None else stream.row[:n])
        x = rearrange(modulate(self.norm_out(x[:, :n]), last), "b (t h w) d -> b d t h w", t=t, h=h, w=w)
        x = self.patch_out(x)  # b d t h w -> b (c pt ph pw) t h w
        return rearrange(x, "b (c pt ph pw) t h w -> b c (t pt) (h ph) (w pw)", pt=pt, ph=ph, pw=pw)

    def velocity(
        self, output: Float[Tensor, "b c t h w"], inputs: DenoiserInput
    ) -> Float[Tensor, "b c t h w"]:
        return precondition(inputs.latents, inputs.sigma, output)


def absolute(positions: Float[Tensor, "#b n 3"], theta: float, width: int) -> Float[Tensor, "#b n d"]:
    """Cosines and sines of frame, row and column, for tokens that must know where they are."""
    turns = torch.view_as_real(rotation(positions, width, theta))  # #b n d/2 2
    return rearrange(turns, "b n d two -> b n (d two)")
