"""Card transactions to categories, with monthly totals."""

from relukit.gallery.retail_index.study import fetch as fetch
from relukit.gallery.retail_index.study import figures as figures
from relukit.gallery.retail_index.study import score as score
from relukit.gallery.retail_index.study import train as train
