"""The catalogue of activations."""

from relukit.activations.catalogue import CATALOGUE as CATALOGUE
from relukit.activations.catalogue import Activation as Activation
from relukit.activations.catalogue import gain as gain
from relukit.activations.catalogue import get as get
from relukit.activations.catalogue import row as row
