"""Data sets: `load` reads, splits and describes one by name.

data = gainmtl.datasets.load("magnetic-tile", root=folder, image_size=192, fold=0)
data.train[0]          # a Sample
print(data.report())
"""

from gainmtl.datasets.annotation import limit_masks as limit_masks
from gainmtl.datasets.augment import Augment as Augment
from gainmtl.datasets.augment import AugmentedDataset as AugmentedDataset
from gainmtl.datasets.data import Data as Data
from gainmtl.datasets.data import Described as Described
from gainmtl.datasets.image_dataset import ImageDataset as ImageDataset
from gainmtl.datasets.loading import load as load
from gainmtl.datasets.records import Record as Record
from gainmtl.datasets.records import list_images as list_images
from gainmtl.datasets.subsets import limit_exposures as limit_exposures
from gainmtl.datasets.subsets import limit_labels as limit_labels
from gainmtl.datasets.subsets import limit_test as limit_test
from gainmtl.datasets.subsets import normal_only as normal_only
