"""Rounding error terms, tolerances, atomic files."""

from relukit._numerics._files import atomic_path as atomic_path
from relukit._numerics._files import write_bytes as write_bytes
from relukit._numerics._files import write_json as write_json
from relukit._numerics._highs import quiet_highs as quiet_highs
from relukit._numerics._rounding import Tolerance as Tolerance
from relukit._numerics._rounding import down as down
from relukit._numerics._rounding import gamma as gamma
from relukit._numerics._rounding import unit_roundoff as unit_roundoff
from relukit._numerics._rounding import up as up
