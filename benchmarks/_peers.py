"""Peers installed from PyPI, on the same files: what each answers and its CPU seconds, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_MARABOU = """
import sys
from maraboupy import Marabou
net = Marabou.read_onnx(sys.argv[1])
options = Marabou.createOptions(verbosity=0, timeoutInSeconds=int(sys.argv[3]))
net = Marabou.read_onnx(sys.argv[1])
answer = net.solve(propertyFilename=sys.argv[2], verbose=False, options=options)
print("ANSWER", answer[0])
"""

_OMLT = """
import sys, numpy as np, pyomo.environ as pyo
from omlt import OmltBlock
from omlt.neuralnet import NetworkDefinition, ReluBigMFormulation
from omlt.neuralnet.layer import InputLayer, DenseLayer
import time
began = time.process_time()
z = np.load(sys.argv[1]); plus, minus, limit = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
lo, hi = z["lo"].ravel(), z["hi"].ravel(); n = len(lo)
d = NetworkDefinition(scaled_input_bounds={i: (float(lo[i]), float(hi[i])) for i in range(n)})
prev = InputLayer([n]); d.add_layer(prev); k = 0
while f"W{k}" in z:
    W, b = z[f"W{k}"].astype(float), z[f"b{k}"].astype(float)
    layer = DenseLayer([W.shape[1]], [W.shape[0]], activation="relu" if f"W{k+1}" in z else "linear", weights=W.T, biases=b)
    d.add_layer(layer); d.add_edge(prev, layer); prev = layer; k += 1
m = pyo.ConcreteModel(); m.nn = OmltBlock(); m.nn.build_formulation(ReluBigMFormulation(d))
m.o = pyo.Objective(expr=m.nn.outputs[plus] - (m.nn.outputs[minus] if minus >= 0 else 0.0), sense=pyo.maximize)
from pyomo.contrib.appsi.solvers import Highs
import os, threading
out = os.dup(1)  # Pyomo captures what is printed while it solves
def watch():  # HiGHS counts wall time, which a busy machine stretches: CPU time ends it
    while time.process_time() - began < limit: time.sleep(0.2)
    os.write(out, f"ANSWER open None None {time.process_time() - began}\\n".encode()); os._exit(0)
threading.Thread(target=watch, daemon=True).start()
s = Highs(); s.config.time_limit = 20 * limit; s.config.load_solution = False
s.highs_options = {"threads": 1, "mip_rel_gap": 1e-4}
r = s.solve(m)
done = "optimal" in str(r.termination_condition).lower()
print("ANSWER", "optimal" if done else "open", r.best_feasible_objective, r.best_objective_bound, time.process_time() - began)
"""

_SCIPML = """
import sys, numpy as np, torch, pyscipopt
from pyscipopt_ml.add_predictor import add_predictor_constr
import time
began = time.process_time()
z = np.load(sys.argv[1]); plus, minus, limit = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
lo, hi = z["lo"].ravel(), z["hi"].ravel(); layers, k = [], 0
while f"W{k}" in z:
    W, b = torch.tensor(z[f"W{k}"]), torch.tensor(z[f"b{k}"])
    l = torch.nn.Linear(W.shape[1], W.shape[0]).double(); l.weight.data, l.bias.data = W.double(), b.double()
    layers += [l] + ([torch.nn.ReLU()] if f"W{k+1}" in z else []); k += 1
net = torch.nn.Sequential(*layers); m = pyscipopt.Model(); m.hideOutput()
m.setParam("timing/clocktype", 1); m.setParam("limits/time", limit); m.setParam("limits/gap", 1e-4); m.setParam("parallel/maxnthreads", 1)
x = np.array([m.addVar(lb=float(a), ub=float(c)) for a, c in zip(lo, hi)], dtype=object).reshape(1, -1)
y = np.array([m.addVar(lb=None) for _ in range(layers[-1].out_features)], dtype=object).reshape(1, -1)
add_predictor_constr(m, net, x, y)
t = m.addVar(lb=None); m.addCons(t == y[0, plus] - (y[0, minus] if minus >= 0 else 0)); m.setObjective(t, "maximize"); m.optimize()
done = m.getStatus() in ("optimal", "gaplimit")
print("ANSWER", "optimal" if done else "open", m.getObjVal() if m.getNSols() else None, m.getDualbound(), time.process_time() - began)
"""


def _run(code: str, arguments: list[str], limit: float) -> dict[str, Any]:
    """One peer in a process of its own, one thread; start-up counts."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=20 * limit + 60,
            env=env,
        )
        line = next((t for t in reversed(done.stdout.splitlines()) if t.startswith("ANSWER")), "")
        answer = line.split()[1:] or ["failed", (done.stderr.strip().splitlines() or ["no output"])[-1][:160]]
    except subprocess.TimeoutExpired:
        answer = ["open"]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"answer": answer, "cpu_seconds": round(spent, 2)}


def marabou(network: Path, question: Path, limit: float) -> dict[str, Any]:
    return _run(_MARABOU, [str(network), str(question), str(int(limit))], limit)


_RELUKIT = """
import sys
from relukit.verification import verify
answer = verify(sys.argv[1], sys.argv[2], timeout=float(sys.argv[3]))
print("ANSWER", answer.status)
"""


def relukit_verify(network: Path, question: Path, limit: float) -> dict[str, Any]:
    return _run(_RELUKIT, [str(network), str(question), str(limit)], limit)


def omlt(file: Path, plus: int, minus: int, limit: float) -> dict[str, Any]:
    """OMLT's big-M formulation, solved by HiGHS: `status`, `value`, `bound`, CPU seconds without and with the imports."""
    return _optimum(_run(_OMLT, [str(file), str(plus), str(minus), str(limit)], limit))


def scip_ml(file: Path, plus: int, minus: int, limit: float) -> dict[str, Any]:
    """PySCIPOpt-ML's own formulation, solved by SCIP; as `omlt`."""
    return _optimum(_run(_SCIPML, [str(file), str(plus), str(minus), str(limit)], limit))


def _optimum(run: dict[str, Any]) -> dict[str, Any]:
    """What a peer of `optimize` printed, as fields."""
    status, *rest = run["answer"]
    if status == "open" and not rest:  # wall time was up before the peer's own clock was
        return {
            "status": "open",
            "value": None,
            "bound": None,
            "cpu_seconds": None,
            "cpu_seconds_with_imports": run["cpu_seconds"],
        }
    if status not in ("optimal", "open") or len(rest) < 3:
        return {
            "status": "failed",
            "said": " ".join(map(str, run["answer"]))[:160],
            "cpu_seconds_with_imports": run["cpu_seconds"],
        }
    value, bound, spent = (None if t == "None" else float(t) for t in rest[:3])
    return {
        "status": status, "value": value, "bound": bound, "cpu_seconds": None if spent is None else round(spent, 2),
        "cpu_seconds_with_imports": run["cpu_seconds"],
    }  # fmt: skip
