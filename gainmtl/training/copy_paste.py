"""Counterfactual training images: a defect on a normal part, or a defective part without it.

A mask marks the pixels that make a part defective. With the mask an image is changed into one that
differs only there and has the opposite label. It replaces the original for one training step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gainmtl.evaluation.inpainting import dilate, free_shift, inpaint, shift
from gainmtl.types import NORMAL, Batch

LARGEST = 0.05
"""Masks over a larger share of the image are not exchanged. A large defect differs from its
surroundings mostly in brightness, which blending adapts to the border: after pasting it would be
invisible and still labelled as a defect."""
MARGIN = 64
"""The exchanged region extends beyond the mask by the image width / 64 pixels, at least one: masks
are drawn tightly, and a remaining rim of the defect would contradict the new label."""
MOST_GAIN = 4.0
"""Largest factor by which a donor is made brighter or darker."""


def copy_paste(batch: Batch, share: float, generator: torch.Generator) -> Batch:
    """Exchange the content of defect masks between samples of a batch.

    Eligible are normal samples, and defective ones with a mask of at most `LARGEST` of the image.
    Of the smaller of these two groups each sample is changed with probability `share`; of the other
    group the same number on average. So the shares of the labels stay, and an edited image is
    normal or defective with the same probability: the traces of the edit don't predict the label.

    - A normal sample gets the defect of a random eligible one, with mask, label and type. The place
      is random, or the original one if the region touches the image border.
    - In a defective sample the surface of a random normal sample replaces the defect; the sample
      becomes normal and its mask empty.

    Both use `inpaint`, with a donor as bright as its host, so that neither kind has visible seams
    or a brightness of its own. All other samples stay bit for bit as they are; so does a batch
    without eligible samples of one kind. Twins are unchanged: a host's twin shows its place
    without a defect before and after.

    Args:
        batch: images in [0, 1].
        share: in [0, 1].
        generator: on the CPU; the source of all random numbers.

    Raises:
        ValueError: `share` out of range.

    Sources: images that differ only in the cause, Kaushik et al., "Learning the difference that
    makes a difference with counterfactually-augmented data", ICLR 2020; objects pasted with their
    masks, Ghiasi et al., "Simple copy-paste", CVPR 2021; seamless blending, Perez et al., 2003.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"copy_paste: expected a share in [0, 1], got {share}")
    drawn = torch.rand(len(batch.image), generator=generator)
    area = batch.mask.flatten(1).mean(1).cpu()
    marked = (batch.is_defective & batch.has_mask).cpu()
    defective = (marked & (area > 0) & (area <= LARGEST)).nonzero()[:, 0]
    normal = (~batch.is_defective.cpu()).nonzero()[:, 0]
    if not len(normal) or not len(defective):
        return batch
    fewer = min(len(normal), len(defective))
    pasted, cleared = (
        kind[drawn[kind] < share * fewer / len(kind)] for kind in (normal, defective)
    )
    defects = defective[torch.randint(len(defective), (len(pasted),), generator=generator)]
    surfaces = normal[torch.randint(len(normal), (len(cleared),), generator=generator)]
    if not len(pasted) and not len(cleared):
        return batch
    margin = max(1, batch.image.shape[3] // MARGIN)
    regions = dilate(batch.mask[torch.cat([defects, cleared])], margin)
    shifts = _random_shifts(regions[: len(defects)], generator)
    masks = shift(batch.mask[defects], shifts)
    regions = torch.cat([shift(regions[: len(defects)], shifts), regions[len(defects) :]])
    donors = torch.cat([shift(batch.image[defects], shifts), batch.image[surfaces]])
    changed = torch.cat([pasted, cleared])
    image, mask = batch.image.clone(), batch.mask.clone()
    hosts = image[changed]
    image[changed] = inpaint(hosts, regions, _match_brightness(donors, hosts, regions, margin))
    mask[pasted], mask[cleared] = masks, 0
    is_defective, has_mask = batch.is_defective.clone(), batch.has_mask.clone()
    is_defective[pasted], is_defective[cleared] = True, False
    has_mask[changed] = True
    types = list(batch.defect_type)
    for host, donor in zip(pasted.tolist(), defects.tolist(), strict=True):
        types[host] = batch.defect_type[donor]
    for host in cleared.tolist():
        types[host] = NORMAL
    return batch._replace(
        image=image,
        mask=mask,
        is_defective=is_defective,
        has_mask=has_mask,
        defect_type=tuple(types),
    )


def _match_brightness(donors: Tensor, hosts: Tensor, regions: Tensor, margin: int) -> Tensor:
    """Donors (b, 3, H, W), each scaled to the brightness of its host around the region.

    A factor and not an offset, because light multiplies the reflectance of a surface: in a dark
    image the same defect has a smaller contrast. The factor is between 1/`MOST_GAIN` and
    `MOST_GAIN`.
    """
    ring = dilate(regions, 2 * margin) - regions
    donor_sum, host_sum = (((x * ring).sum((1, 2, 3)) + 1e-3) for x in (donors, hosts))
    factor = (host_sum / donor_sum).clamp(1 / MOST_GAIN, MOST_GAIN)
    return donors * factor[:, None, None, None]


def _random_shifts(regions: Tensor, generator: torch.Generator) -> Tensor:
    """Shifts (b, 2) to a random place inside the image; zero for regions at its border.

    A defect at the border, such as a broken corner, is plausible only there.
    """
    if not len(regions):
        return torch.zeros(0, 2, dtype=torch.long, device=regions.device)
    shifts, _ = free_shift(regions, torch.zeros_like(regions), generator)
    border = torch.ones_like(regions[:1])
    border[..., 1:-1, 1:-1] = 0
    at_border = (regions * border).flatten(1).any(1)
    return torch.where(at_border[:, None], torch.zeros_like(shifts), shifts)
