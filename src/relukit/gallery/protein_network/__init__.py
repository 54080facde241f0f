"""Protein networks: which proteins drive a disease, and where they lie together."""

from relukit.gallery.protein_network.figures import figures as figures
from relukit.gallery.protein_network.study import fetch as fetch
from relukit.gallery.protein_network.study import score as score
from relukit.gallery.protein_network.study import train as train
from relukit.gallery.protein_network.use import to_csv as to_csv
from relukit.gallery.protein_network.use import use as use
