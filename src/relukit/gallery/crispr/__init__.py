"""CRISPR-Cas9: from a guide's sequence to how well it cuts."""

from relukit.gallery.crispr.figures import figures as figures
from relukit.gallery.crispr.guides import to_csv as to_csv
from relukit.gallery.crispr.guides import use as use
from relukit.gallery.crispr.study import fetch as fetch
from relukit.gallery.crispr.study import score as score
from relukit.gallery.crispr.study import train as train
