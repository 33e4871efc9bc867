"""The image datasets: each function returns one dataset, as uint8 tensors or as lists of image files.

Every function takes `root`, the folder where its files are looked for and downloaded to, and `download`. Nothing is written unless
`download` is true. The files of published datasets are checked against their MD5 sums before they are parsed. A DataError says which
files are missing, damaged or unreadable.
"""

from bakeoff.data.sources.base import ImageFiles, Images
from bakeoff.data.sources.cifar import cifar10, cifar100
from bakeoff.data.sources.class_folders import folder, imagenet
from bakeoff.data.sources.fashion_idx import fashion_mnist
from bakeoff.data.sources.sklearn_digits import digits
from bakeoff.data.sources.stl10_binary import stl10
from bakeoff.data.sources.svhn_mat import svhn

__all__ = ["ImageFiles", "Images", "cifar10", "cifar100", "digits", "fashion_mnist", "folder", "imagenet", "stl10", "svhn"]
