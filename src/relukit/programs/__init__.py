"""Mixed-integer programs: `Program`, a network as one, and networks inside other people's models."""

from relukit.programs._embed import Embedded as Embedded
from relukit.programs._embed import embed as embed
from relukit.programs._program import Encoding as Encoding
from relukit.programs._program import Program as Program
from relukit.programs._program import encode as encode
from relukit.programs._solvers import SOLVERS as SOLVERS
from relukit.programs._solvers import solver_name as solver_name
