"""Choose by measurement how each layer is computed."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit._shown import Shown
from relukit._types import Array
from relukit.inference._layers import Layer, Work
from relukit.inference._owner import dense_run, own_module, straight
from relukit.network import Affine, Network, load
from relukit.network.affine import Conv
from relukit.piecewise import PiecewiseLinear

_SIZES = 1000  # batch sizes remembered
_SINGLE = np.dtype(np.float32)
_LIMIT = 1 << 31  # entries of one matrix
_BETTER = 0.93  # a form replaces the dense one from this share of its time on: less may be noise
_AGAIN = 0.96  # and a plan has to take less than this share in a second race, which chance did not pick
_SHORT = 2e-4  # seconds: calls that take less are timed by the round, since reading a clock costs half a microsecond


@dataclass(frozen=True)
class Measured(Shown):
    """One batch size, measured on the user's inputs.

    Arguments:
        dense_seconds: Median of one call of the dense network (the user's torch module, onnxruntime for ONNX files, else BLAS); while the process waits for a
            processor no time counts.
        seconds: Median of one call with the chosen forms; the dense figure where dense was chosen.
        zero_share: Share of hidden values that are 0 on the inputs.
        engine: The forms, layer by layer.
        products_saved, bytes_saved, energy_saved: Shares of the dense network's products, weight bytes, and of a proxy
            (160 pJ per byte read, 4.6 pJ per product); for one input at a time.
    """

    batch: int
    dense_seconds: float
    seconds: float
    zero_share: float
    engine: tuple[str, ...]
    products_saved: float
    bytes_saved: float
    energy_saved: float

    @cached_property
    def all_dense(self) -> bool:
        return set(self.engine) <= {"dense"}

    @property
    def ratio(self) -> float:
        return self.dense_seconds / self.seconds

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio, "engine": "+".join(self.engine)}


class Fast(Shown):
    """A network that is computed the quickest way measured. Call it on one input or on rows; it answers in float32.

    Arguments:
        network: What it equals, up to summation order.
        measured: One entry per batch size; a batch in between uses the next larger one, one above all uses the largest.
        reason: Why everything stays dense, or empty.
    """

    def __init__(self, network: Network, layers: list[Layer], threads: int, reason: str = "") -> None:
        self.network, self.layers, self.reason = network, layers, reason
        self.pool = ThreadPoolExecutor(threads) if threads > 1 and layers else None
        self.measured: list[Measured] = []
        self.own = own_module(network)
        self.dense = dense_run(network, layers, self.own, threads)
        self.straight = straight(layers, self.own)
        self._module: Any = None
        self._inputs, self._outputs = network.inputs, network.outputs
        self._chosen: dict[int, tuple[str, ...] | None] = {}  # plans by the number of rows; None is dense
        self._direct: dict[tuple[int, ...], Any] = {}  # what runs, by the shape of the rows

    def __call__(self, x: Any) -> Any:
        """Outputs for one input or rows, float32; a torch tensor gives a torch tensor (on the CPU, without gradient).

        Rows that are float32 already are taken as they are (NaN in, NaN out); others are converted and checked.
        """
        if type(x) is np.ndarray and x.dtype is _SINGLE:
            direct = self._direct.get(x.shape)
            if direct is not None:
                return direct(x)
            if x.ndim == 2 and x.shape[1] == self._inputs:
                return self._directly(x)
        if type(x).__module__.partition(".")[0] == "torch":
            from relukit.inference._module import forward

            return forward(self, x)
        rows, single = self.network.rows(x, np.float32)
        plan = self.chosen(len(rows))
        out = self.dense(rows) if plan is None else self.run(rows, plan)
        return out[0] if single else out

    def _directly(self, x: Array) -> Array:
        """Rows of a shape not met before: what runs them is kept, since microseconds count."""
        plan = self.chosen(len(x))
        run = self.dense if plan is None else partial(self.run, plan=plan)
        if len(self._direct) < _SIZES:
            self._direct[x.shape] = run
        return run(x)

    def chosen(self, batch: int) -> tuple[str, ...] | None:
        """The forms for a batch of this size, None for the dense network as it is. Looked up once for each size: microseconds count."""
        if batch not in self._chosen:
            plan = None if self.is_dense(batch) else self.plan(batch)
            if len(self._chosen) >= _SIZES:
                return plan
            self._chosen[batch] = plan
        return self._chosen[batch]

    def plan(self, batch: int) -> tuple[str, ...]:
        """The forms used for a batch of this size."""
        for m in self.measured:
            if m.batch >= batch:
                return m.engine
        return self.measured[-1].engine if self.measured else ("dense",)

    def is_dense(self, batch: int) -> bool:
        """Whether a batch of this size is computed dense."""
        for m in self.measured:
            if m.batch >= batch:
                return m.all_dense
        return not self.measured or self.measured[-1].all_dense

    def run(self, rows: Array, plan: tuple[str, ...], active: list[Any] | None = None) -> Array:
        """All layers with given forms; `active[k]` lists the units of hidden layer k that are known to be on."""
        if plan[0] == "chain" and active is None:
            from relukit.inference._chain import evaluate

            out = np.empty((len(rows), self._outputs), np.float32)
            evaluate(*self._flat, np.ascontiguousarray(rows, np.float32), out)
            return out
        if plan[0] == "torch" and active is None:
            import torch

            return self.straight(torch.from_numpy(rows)).numpy()
        for k, (layer, engine) in enumerate(zip(self.layers, plan, strict=True)):
            known = active[k] if active is not None and k < len(active) else None
            rows = layer.run(rows, engine, self.pool, known)
        return rows

    @cached_property
    def _flat(self) -> Any:
        from relukit.inference._chain import flatten

        return flatten(self.layers)

    def with_pattern(self, x: Any, active: list[Any]) -> Array:
        """Outputs where the units that may be on are known beforehand: one index array per hidden ReLU layer.

        Exact if every unit outside the lists is off at x; no screening is needed then.

        Raises:
            InvalidInput: The network is no chain of dense layers, or the number of lists is wrong.
        """
        hidden = len(self.layers) - 1
        if hidden < 1 or len(active) != hidden or not all(layer.is_relu for layer in self.layers[:-1]):
            raise InvalidInput(
                f"a known pattern needs one list of units for each of the {max(hidden, 0)} hidden ReLU layers"
            )
        rows, single = self.network.rows(x, np.float32)
        out = self.run(rows, ("rows",) * hidden + ("skip",), active)
        return out[0] if single else out

    def module(self) -> Any:
        """The same as a torch module for inference on the CPU (no gradient)."""
        if self._module is None:
            from relukit.inference._module import FastModule

            self._module = FastModule(self)
        return self._module

    def to_dict(self) -> dict[str, Any]:
        return {"batches": [m.to_dict() for m in self.measured], "reason": self.reason}

    def __repr__(self) -> str:
        parts = [f"batch {m.batch}: {m.ratio:.2f}x ({'+'.join(m.engine)})" for m in self.measured]
        return f"Fast({', '.join(parts)}{'; ' + self.reason if self.reason else ''})"


def speed(
    model: Any,
    data: Array | None = None,
    batches: tuple[int, ...] = (1, 4, 16, 64),
    threads: int = 1,
    budget: float = 1.0,
    seed: int = 0,
    on_progress: Callable[[str], None] | None = None,
) -> Fast:
    """The quickest way to evaluate a network on the user's kind of inputs, each layer measured.

    Forms: `dense` (the user's own module, onnxruntime for ONNX files, else BLAS); `chain` (all layers of a small network in one compiled call); `torch` (torch's functions without its modules); `rows` (a compiled dense sweep); `skip` (weights of inputs that ReLU
    set to 0 are not read); `screen` (int8 rows prove most units off before their float32 weights are read). All compute
    the same function up to summation order. A form is used only where it was faster, and the whole plan only where it
    beats the dense network from end to end. Forms that cannot pay (too few zeros, or too little memory to save) are not measured, nor compiled.

    Arguments:
        model: A network, or anything `load` reads.
        data: Rows `(batch, inputs)`: zeros depend on the inputs, so bring real ones. Without, the network's box is sampled, or
            standard normal inputs where it has none; the result says so.
        batches: Batch sizes to measure.
        threads: Threads of the compiled forms; dense ones use what BLAS or torch was told.
        budget: Seconds of measurement for each batch size.
        seed: Of the inputs that are sampled where none are given.
        on_progress: Told what is measured next; the first time on a machine loops are compiled for it, which takes some seconds.

    Raises:
        InvalidInput: Weights or data are not finite; no row; no batch size; a negative budget.

    References:
        Deja Vu: Contextual Sparsity for Efficient LLMs at Inference Time, Liu et al., 2023 (skipping, there with a
        predictor; here with a proof).
    """
    network = model if isinstance(model, Network) else load(model)
    rows = _inputs(network, data, seed)
    if not batches or any(b < 1 for b in batches) or threads < 1:
        raise InvalidInput(f"batch sizes and threads are positive numbers, got {batches} and {threads}")
    if not (budget >= 0 and np.isfinite(budget)):
        raise InvalidInput(f"budget is a number of seconds, 0 or more, got {budget}")
    layers, reason = _layers(network)
    if data is None:
        kind = "standard normal inputs" if network.box is None else "samples of the network's box"
        reason = "; ".join(
            filter(None, (reason, f"measured on {kind}: zeros depend on the inputs, so bring your own rows (data=)"))
        )
    fast = Fast(network, layers, threads, reason)
    for batch in sorted(set(batches)):
        fast.measured.append(_measure(fast, rows, batch, budget, on_progress or (lambda text: None)))
    fast._chosen.clear()
    fast._direct.clear()
    used = {(k, e) for m in fast.measured for k, e in enumerate(m.engine)}
    for k, layer in enumerate(layers):
        for engine in ("skip", "screen"):
            if (k, engine) not in used:
                layer.drop(engine)
    return fast


def _inputs(network: Network, data: Array | None, seed: int) -> Array:
    if data is None and network.box is None:
        data = np.random.default_rng(seed).standard_normal((256, network.inputs))
    elif data is None:
        data = network.box.sample(256, seed)
    rows = network.rows(data, np.float32)[0]
    if not len(rows) or not np.isfinite(rows).all():
        raise InvalidInput("speed needs at least one row of finite inputs")
    return np.ascontiguousarray(rows)


def _layers(network: Network) -> tuple[list[Layer], str]:
    convolved = any(isinstance(m, Conv) for n in network.nodes if isinstance(n.op, Affine) for m in n.op.maps)
    chain = (
        None if convolved else network.dense_chain(_LIMIT)
    )  # a convolution multiplied out reads far more than it holds
    if chain is None:
        return [], "not a chain of dense layers: computed dense (docs/howto/speed.md says what convolutions would gain)"
    relu = [isinstance(a, PiecewiseLinear) and a.is_relu for a in chain.activations]
    layers = []
    for k, (W, b) in enumerate(zip(chain.weights, chain.biases)):
        if not (np.isfinite(W).all() and np.isfinite(b).all()):
            raise InvalidInput(f"layer {k} holds weights that are not finite: a zero input times infinity is no zero")
        single = np.ascontiguousarray(W, np.float32)
        layers.append(
            Layer(
                single,
                np.ascontiguousarray(b, np.float32),
                chain.activations[k] if k < len(relu) else None,
                k > 0 and relu[k - 1],
            )
        )
    return layers, "" if any(relu) else "no ReLU: nothing is thrown away"


def _measure(fast: Fast, rows: Array, batch: int, budget: float, say: Callable[[str], None]) -> Measured:
    """Forms of each layer, raced on that layer's own inputs; then the whole plan against the dense network."""
    count = int(min(32, max(4, len(rows) // batch)))
    pick = np.arange(count * batch) % len(rows)  # different inputs in turn, so that no cache holds one input's rows
    groups = [rows[pick[i * batch : (i + 1) * batch]] for i in range(count)]
    plan, zeros, hidden, spent, dense_work = [], 0, 0, Work(0, 0), Work(0, 0)
    x, whole = groups, bool(fast.layers) and fast._flat is not None
    for k, layer in enumerate(fast.layers):
        after = [layer.run(g, "dense") for g in x]
        engines = ("dense",) if whole else layer.worth(_zeros(x), _zeros(after))  # a small network is one compiled call
        say(f"batch {batch}, layer {k + 1} of {len(fast.layers)}: {', '.join(engines)}")
        if len(engines) > 1:
            runs = {e: partial(layer.run, engine=e, pool=fast.pool) for e in engines}
            times = _race(runs, x, budget / 2 / len(fast.layers))
            best = min(times, key=lambda e: times[e])
            plan.append(best if times[best] <= _BETTER * times["dense"] else "dense")
        else:
            plan.append("dense")
        stacked = np.concatenate(x)[:64]
        spent, dense_work = spent + layer.work(stacked, plan[-1]), dense_work + layer.work(stacked, "dense")
        x = after
        if layer.activation is not None:
            zeros += sum(int(np.count_nonzero(g == 0)) for g in x)
            hidden += sum(g.size for g in x)
    if not fast.layers:
        seen = fast.network.values(np.concatenate(groups)[:64].astype(np.float64))
        zeros = sum(int(np.count_nonzero(seen[i] == 0)) for i in fast.network.activations)
        hidden = sum(seen[i].size for i in fast.network.activations)
    plans = {"plan": tuple(plan)} if plan and set(plan) != {"dense"} else {}
    if plan and fast._flat is not None:
        plans["chain"] = ("chain",) * len(plan)
    if plan and fast.straight is not None:
        plans["torch"] = ("torch",) * len(plan)
    say(f"batch {batch}, whole network: {', '.join(('dense', *plans))}")
    times = _race_plans(fast, plans, groups, budget / 2 if plans else budget / 4)
    best = min(times, key=lambda k: times[k])
    if best != "dense" and times[best] < _BETTER * times["dense"]:
        times = _race_plans(fast, {best: plans[best]}, groups, budget / 4)
    if best == "dense" or times[best] >= _AGAIN * times["dense"]:
        chosen, spent, best = ("dense",) * max(len(plan), 1), dense_work, "dense"
    else:
        chosen = plans[best]
        spent = dense_work if best in ("chain", "torch") else spent
    times["plan"] = times[best]
    saved = lambda part, whole: 1 - part / whole if whole else 0.0
    return Measured(
        batch,
        times["dense"],
        times["plan"],
        zeros / hidden if hidden else 0.0,
        chosen,
        saved(spent.products, dense_work.products),
        saved(spent.bytes, dense_work.bytes),
        saved(spent.picojoules, dense_work.picojoules),
    )


def _zeros(groups: list[Array]) -> float:
    """Share of zeros."""
    return 1 - sum(int(np.count_nonzero(g)) for g in groups) / max(sum(g.size for g in groups), 1)


def _race_plans(fast: Fast, plans: dict[str, tuple[str, ...]], groups: list[Array], budget: float) -> dict[str, float]:
    """The dense network and plans as their owner calls them: from tensor to tensor for a torch module, from array to array else."""
    if fast.own is None:
        runs = {"dense": fast.dense} | {name: partial(fast.run, plan=plan) for name, plan in plans.items()}
        return _race(runs, groups, budget)
    import torch

    def planned(plan: tuple[str, ...]) -> Callable[[Any], Any]:
        if plan[0] == "torch":
            return lambda x: fast.straight(x.reshape(len(x), -1))
        return lambda x: torch.from_numpy(fast.run(x.numpy().reshape(len(x), -1), plan))

    tensors: list[Any] = [torch.from_numpy(rows).reshape(len(rows), *fast.network.input_shape) for rows in groups]
    with torch.no_grad():
        return _race({"dense": fast.own} | {name: planned(plan) for name, plan in plans.items()}, tensors, budget)


def _race(contenders: dict[str, Callable[[Any], Any]], groups: list[Any], budget: float) -> dict[str, float]:
    """Median seconds of one call; each runs through all inputs in turn, the contenders alternating.

    The lesser of wall time and CPU time of the process counts: threads make the wall time less, and on a busy machine a call that is
    interrupted must not look slow (long calls are interrupted more often than short ones, which would flatter whatever is quick).
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    short = True
    for run in contenders.values():
        run(groups[0])  # compiles, and touches the memory
        short &= _timed(run, groups[:1]) < _SHORT
    parts = [groups] if short else [[group] for group in groups]
    stop = time.perf_counter() + budget
    rounds = 0
    while rounds < 2 or (time.perf_counter() < stop and rounds < (2000 if short else 200)):
        for name, run in contenders.items():
            times[name] += [_timed(run, part) for part in parts]
        rounds += 1
    return {name: float(np.median(t)) for name, t in times.items()}


def _timed(run: Callable[[Any], Any], groups: list[Any]) -> float:
    """Seconds of one call, on average over some inputs."""
    start, spent = time.perf_counter(), time.process_time()
    for group in groups:
        run(group)
    spent, wall = time.process_time() - spent, time.perf_counter() - start
    return min(wall, spent) / len(groups)
