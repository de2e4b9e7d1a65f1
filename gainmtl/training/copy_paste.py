"""Counterfactual pictures to learn from: a defect on a sound part, and a defective part without it.

A mask says which pixels make a part defective. With it a picture can be made into another that
differs from it on the mask and a little around it, and that has the other label. It takes the
place of the first, for one step of training.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gainmtl.evaluation.inpainting import dilate, free_shift, inpaint, shift
from gainmtl.types import NORMAL, Batch

LARGEST = 0.05
"""Masks over more of the picture than this stay where they are. What is defective over a large area
is so by its brightness, and the brightness of a region follows its border when it is blended in:
pasted, such a defect could not be seen, and would still be called one."""
MARGIN = 64
"""What is exchanged reaches beyond the mask by one pixel for so many of the picture's width, one at
least: masks are drawn tightly, and a rim left behind would be a label's mistake."""
MOST_GAIN = 4.0
"""A donor is made at most so many times as bright as it is, or as dark."""


def copy_paste(batch: Batch, share: float, generator: torch.Generator) -> Batch:
    """Exchange what is inside a defect's mask between samples of a batch.

    Eligible are normal samples, and defective ones with a mask of at most `LARGEST` of the picture.
    Of the kind that the batch has fewer of, each is changed with probability `share`; of the other
    kind as many, on average. So the shares of the labels stay what they were, and a picture that
    was edited is as likely to be the one as the other: the edit itself tells nothing.

    - A normal sample gets the defect of a drawn eligible one, at a drawn place, or at its own place
      if it reaches the picture's edge; mask, label and type come with it.
    - Of a defective one the surface of a drawn normal sample takes the defect's place; it becomes
      normal, its mask empty.

    Both by `inpaint`, with the donor as bright as its host, so that neither kind has seams or
    brightness of its own. Samples that are not changed stay bit for bit as they are; so does a
    batch that lacks one kind.

    Args:
        batch: images in [0, 1].
        share: in [0, 1].
        generator: on the CPU, all that is random comes from it.

    Raises:
        ValueError: `share` out of range.

    Sources: pictures that differ in the cause alone, Kaushik et al., "Learning the difference that
    makes a difference with counterfactually-augmented data", ICLR 2020; objects pasted with their
    masks, Ghiasi et al., "Simple copy-paste", CVPR 2021; without seams, Perez et al., 2003.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"copy_paste: expected a share in [0, 1], got {share}")
    drawn = torch.rand(len(batch.image), generator=generator)
    area = batch.mask.flatten(1).mean(1)
    bad, marked = batch.is_defective.cpu(), (batch.is_defective & batch.has_mask).cpu()
    source = (marked & (area.cpu() > 0) & (area.cpu() <= LARGEST)).nonzero()[:, 0]
    sound = (~bad).nonzero()[:, 0]
    if not len(source) or not len(sound):
        return batch
    fewer = min(len(sound), len(source))
    onto, cleared = (kind[drawn[kind] < share * fewer / len(kind)] for kind in (sound, source))
    given = source[torch.randint(len(source), (len(onto),), generator=generator)]
    taken = sound[torch.randint(len(sound), (len(cleared),), generator=generator)]
    if not len(onto) and not len(cleared):
        return batch
    margin = max(1, batch.image.shape[3] // MARGIN)
    regions = dilate(batch.mask[torch.cat([given, cleared])], margin)
    moved = _places(regions[: len(given)], generator)
    masks = shift(batch.mask[given], moved)
    regions = torch.cat([shift(regions[: len(given)], moved), regions[len(given) :]])
    donors = torch.cat([shift(batch.image[given], moved), batch.image[taken]])
    changed = torch.cat([onto, cleared])
    image, mask = batch.image.clone(), batch.mask.clone()
    hosts = image[changed]
    image[changed] = inpaint(hosts, regions, _as_bright(donors, hosts, regions, margin))
    mask[onto], mask[cleared] = masks, 0
    defective, known = batch.is_defective.clone(), batch.has_mask.clone()
    defective[onto], defective[cleared] = True, False
    known[changed] = True
    types = list(batch.defect_type)
    for host, donor in zip(onto.tolist(), given.tolist(), strict=True):
        types[host] = batch.defect_type[donor]
    for host in cleared.tolist():
        types[host] = NORMAL
    return batch._replace(
        image=image, mask=mask, is_defective=defective, has_mask=known, defect_type=tuple(types)
    )


def _as_bright(donors: Tensor, hosts: Tensor, regions: Tensor, margin: int) -> Tensor:
    """Donors (b, 3, H, W) times a factor each that makes them as bright around the region.

    Light multiplies what a surface reflects, so a contrast of a bright picture is a smaller one in
    a dark picture. The factor is kept within 1/`MOST_GAIN` and `MOST_GAIN`.
    """
    ring = dilate(regions, 2 * margin) - regions
    bright, wanted = (((x * ring).sum((1, 2, 3)) + 1e-3) for x in (donors, hosts))
    factor = (wanted / bright).clamp(1 / MOST_GAIN, MOST_GAIN)
    return donors * factor[:, None, None, None]


def _places(regions: Tensor, generator: torch.Generator) -> Tensor:
    """Shifts (b, 2) to a drawn place inside the picture; none for regions at its edge.

    What a defect at the edge looks like, a broken corner, it looks like there only.
    """
    if not len(regions):
        return torch.zeros(0, 2, dtype=torch.long, device=regions.device)
    shifts, _ = free_shift(regions, torch.zeros_like(regions), generator)
    edge = torch.ones_like(regions[:1])
    edge[..., 1:-1, 1:-1] = 0
    at_edge = (regions * edge).flatten(1).any(1)
    return torch.where(at_edge[:, None], torch.zeros_like(shifts), shifts)
