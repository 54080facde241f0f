"""Where transcription factors bind."""

from relukit.gallery.tf_binding.figures import figures as figures
from relukit.gallery.tf_binding.study import fetch as fetch
from relukit.gallery.tf_binding.study import score as score
from relukit.gallery.tf_binding.study import train as train
