"""Networks made from functions, and functions read back from networks."""

from relukit.construction._approximate import Proof as Proof
from relukit.construction._back import Unbuilt as Unbuilt
from relukit.construction._back import largest_difference as largest_difference
from relukit.construction._back import round_trip as round_trip
from relukit.construction._back import same_function as same_function
from relukit.construction._back import unbuild as unbuild
from relukit.construction._build import build as build
from relukit.construction._built import Built as Built
from relukit.construction._maxima import Difference as Difference
from relukit.construction._maxima import MaxMin as MaxMin
from relukit.construction._maxima import max_affine as max_affine
from relukit.construction._maxima import min_affine as min_affine
from relukit.construction._meshes import Grid as Grid
from relukit.construction._meshes import Triangulation as Triangulation
from relukit.construction._pieces import Piece as Piece
from relukit.construction._pieces import exact_pieces as exact_pieces
from relukit.construction._table import Table as Table
