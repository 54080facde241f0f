"""Studies on real data: `relukit gallery list | run | score | use`."""

from relukit.gallery._study import STUDIES as STUDIES
from relukit.gallery._study import Study as Study
from relukit.gallery._study import output_folder as output_folder
from relukit.gallery._study import study as study
from relukit.gallery._study import trained as trained
from relukit.gallery._tables import told as told
