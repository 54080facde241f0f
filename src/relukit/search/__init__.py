"""Attacks, and branch and bound over inputs or gates."""

from relukit.search._decision import Decision as Decision
from relukit.search._few import Search as Search
from relukit.search._few import decide as decide
from relukit.search._few import decide_any as decide_any
from relukit.search._few_engine import Engine as Engine
from relukit.search._first import HINT as HINT
from relukit.search._first import compile_loops as compile_loops
from relukit.search._first import is_compiled as is_compiled
from relukit.search._smooth import SmoothSearch as SmoothSearch
from relukit.search._together import settled as settled
