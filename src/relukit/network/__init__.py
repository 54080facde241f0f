"""Networks, and everything that reads or writes them."""

from relukit.network._load import load as load
from relukit.network._load import save as save
from relukit.network._network import Network as Network
from relukit.network._nodes import Affine as Affine
from relukit.network._nodes import Chain as Chain
from relukit.network._nodes import Input as Input
from relukit.network._nodes import Node as Node
from relukit.network._nodes import Origin as Origin
from relukit.network.arrays import from_arrays as from_arrays
from relukit.network.arrays import from_layers as from_layers
