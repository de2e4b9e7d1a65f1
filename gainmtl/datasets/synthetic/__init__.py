"""Synthetic data: rendered parts with exact masks, parts with two features, and fractals.

Nothing is read or stored: every image is a function of its settings and its index.
"""

from gainmtl.datasets.synthetic.fractals import draw_systems as draw_systems
from gainmtl.datasets.synthetic.fractals import fractal_batch as fractal_batch
from gainmtl.datasets.synthetic.parts import SyntheticDataset as SyntheticDataset
from gainmtl.datasets.synthetic.parts import make as make
from gainmtl.datasets.synthetic.settings import SyntheticSettings as SyntheticSettings
from gainmtl.datasets.synthetic.two_features import TwoFeatures as TwoFeatures
from gainmtl.datasets.synthetic.two_features import TwoFeaturesSettings as TwoFeaturesSettings
from gainmtl.datasets.synthetic.two_features import make_two_features as make_two_features
