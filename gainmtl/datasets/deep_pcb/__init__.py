"""DeepPCB: tiles of circuit boards, each with its *twin*, the same place without a defect.

Tang, He, Huang and Yang, "Online PCB defect detector on a new PCB defect dataset", 2019,
arXiv:1902.06197. 1,500 pairs of binary pictures: a *tested* board with boxes around its defects,
and an aligned *template* without defects. The set's licence file is MIT; its README allows research
use only.
"""

from gainmtl.datasets.deep_pcb.dataset import TileDataset as TileDataset
from gainmtl.datasets.deep_pcb.loading import load as load
from gainmtl.datasets.deep_pcb.pairs import BoxedDefect as BoxedDefect
from gainmtl.datasets.deep_pcb.pairs import Pair as Pair
from gainmtl.datasets.deep_pcb.pairs import read_pairs as read_pairs
from gainmtl.datasets.deep_pcb.settings import PcbSettings as PcbSettings
from gainmtl.datasets.deep_pcb.tiles import Tile as Tile
