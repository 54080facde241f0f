"""E. coli promoters: from 150 bases to activity."""

from relukit.gallery.promoter.figures import figures as figures
from relukit.gallery.promoter.study import fetch as fetch
from relukit.gallery.promoter.study import score as score
from relukit.gallery.promoter.study import train as train
