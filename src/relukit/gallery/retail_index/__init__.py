"""Card transactions to categories, to an index, to a nowcast of retail sales."""

from relukit.gallery.retail_index._index import chain_index as chain_index
from relukit.gallery.retail_index._index import index_table as index_table
from relukit.gallery.retail_index._index import seasonally_adjusted as seasonally_adjusted
from relukit.gallery.retail_index.figures import figures as figures
from relukit.gallery.retail_index.store import Store as Store
from relukit.gallery.retail_index.study import fetch as fetch
from relukit.gallery.retail_index.study import score as score
from relukit.gallery.retail_index.study import train as train
from relukit.gallery.retail_index.use import to_csv as to_csv
from relukit.gallery.retail_index.use import use as use
from relukit.gallery.retail_index.volume import aggregate as aggregate
