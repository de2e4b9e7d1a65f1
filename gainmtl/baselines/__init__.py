"""Published methods for comparison, on the same backbones and trained by the same `fit`."""

from gainmtl.baselines.attention_branch import AttentionBranchNetwork as AttentionBranchNetwork
from gainmtl.baselines.boxes import mask_boxes as mask_boxes
from gainmtl.baselines.boxes import paint_boxes as paint_boxes
from gainmtl.baselines.fcos import BoxDetector as BoxDetector
from gainmtl.baselines.platt import PlattScaling as PlattScaling
from gainmtl.baselines.platt import fit_platt as fit_platt
from gainmtl.baselines.platt import to_logits as to_logits
from gainmtl.baselines.readout import LocalizationModel as LocalizationModel
from gainmtl.baselines.unet import UNet as UNet
from gainmtl.baselines.unet import top_mean as top_mean
