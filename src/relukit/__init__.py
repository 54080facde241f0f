"""relukit: train ReLU networks, keep them alive, open them up exactly, prove what they do, and use them.

Every verb is a function of this module, loaded when it is first used: `import relukit` needs NumPy alone.
"""

from relukit._lazy import attach
from relukit._version import __version__ as __version__

# verb or noun -> the module that holds it
_PUBLIC = {
    "load": "relukit.network",
    "save": "relukit.network",
    "Network": "relukit.network",
    "PiecewiseLinear": "relukit.piecewise",
    "Box": "relukit.sets",
    "Ball": "relukit.sets",
    "Polytope": "relukit.sets",
    "RelukitError": "relukit._errors",
    "InvalidInput": "relukit._errors",
    "ShapeMismatch": "relukit._errors",
    "EmptyInterval": "relukit._errors",
    "EmptySet": "relukit._errors",
    "UnboundedSet": "relukit._errors",
    "UnreadableFile": "relukit._errors",
    "UnwritablePath": "relukit._errors",
    "UnsupportedOperation": "relukit._errors",
    "MissingExtra": "relukit._errors",
    "SolverDisagreement": "relukit._errors",
    "open": "relukit.report",
    "compress": "relukit.compression",
    "speed": "relukit.inference",
    "health": "relukit.monitoring",
    "watch": "relukit.monitoring",
    "revive": "relukit.monitoring",
    "build": "relukit.construction",
    "unbuild": "relukit.construction",
    "regions": "relukit.geometry",
    "breakpoints": "relukit.geometry",
    "explain": "relukit.geometry",
    "forces": "relukit.geometry",
    "flip": "relukit.verification",
    "fit": "relukit.training",
    "hybrid": "relukit.training.hybrid",
    "decreasing_factor": "relukit.training.hybrid",
    "Curve": "relukit.training.hybrid",
    "ReLUClassifier": "relukit.training.estimators",
    "ReLURegressor": "relukit.training.estimators",
    "tune_allocator": "relukit.training.lean",
    "nn": "relukit.training.nn:",
    "init": "relukit.training.init:",
    "verify": "relukit.verification",
    "optimize": "relukit.optimization",
    "embed": "relukit.programs",
    "encode": "relukit.programs",
    "Program": "relukit.programs",
    "explore": "relukit.explorer",
    "bounds": "",
    "construction": "",
    "activations": "",
    "gallery": "",
}

__getattr__, __dir__, __all__ = attach(__name__, _PUBLIC)
