"""From camera pixels to steering: a small ReLU CNN taught by DAgger, and a certificate for the sign of its steering."""

from relukit.gallery.line_follower.figures import figures as figures
from relukit.gallery.line_follower.study import fetch as fetch
from relukit.gallery.line_follower.study import score as score
from relukit.gallery.line_follower.study import train as train
