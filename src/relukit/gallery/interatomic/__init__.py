"""Energy and forces of atoms by ReLU networks on smooth descriptors; where the forces jump, exactly."""

from relukit.gallery.interatomic.figures import figures as figures
from relukit.gallery.interatomic.study import fetch as fetch
from relukit.gallery.interatomic.study import restore as restore
from relukit.gallery.interatomic.study import score as score
from relukit.gallery.interatomic.study import train as train
from relukit.gallery.interatomic.use import to_csv as to_csv
from relukit.gallery.interatomic.use import use as use

NEEDS_TRAINING = False  # `score` fits the recipe anew
