"""`watch`: health of a torch training while it runs."""

import math
import time
from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit._shown import Shown
from relukit._types import Array
from relukit.monitoring._finding import Finding
from relukit.monitoring._forward import ForwardLooks
from relukit.monitoring._graph import straight_pairs
from relukit.monitoring._layers import activations_in_graph, factor_of, layers_of, output_chain
from relukit.monitoring._optimizer import memory_of, rate_of
from relukit.monitoring._record import Record, Sample, without_holes
from relukit.monitoring._regularization import decay_pull, dropouts_of, most_dropped
from relukit.monitoring._rules import diagnose, first_seen
from relukit.monitoring._sampling import moments, norms, some
from relukit.monitoring._units import layer_dict

_EARLY = {1, 2, 4, 8, 16, 32}  # steps that are always looked at
_EVERY = 8
_BUDGET = 0.006  # share of the training time that looking may take; intervals grow until it holds
_SNAPSHOT = 1 << 22  # entries of a model up to which its start is kept, so that a fix can go back to it
_ENTRIES = 256  # of each weight that are kept to see how far a step moved it


class Watch(Shown):
    """Watches a torch module while a user's own loop trains it.

    Gradients tell most of it: a unit whose bias gets the gradient 0 was off for the whole batch. They are read on the
    first steps and then on every eighth or rarer, so that looking costs about a percent; the forward pass is looked at
    on a handful of steps, by hooks that are there for these steps only. Results and random state stay as they are.

    Arguments:
        model: Any torch module (also compiled, DDP, with functional activations).
        optimizer: The one in use; without it learning rates are not judged and `fix` cannot change them.
        budget: Share of the training time that watching may take.

    Raises:
        InvalidInput: The model is no torch module, has no layer with weights, or is already watched.

    Example:
        >>> with relukit.watch(model, optimizer=opt) as h:
        ...     for x, y in batches:
        ...         loss = loss_fn(model(x), y); opt.zero_grad(); loss.backward()
        ...         h.step(loss)
        ...         opt.step()
        >>> h.findings
    """

    def __init__(self, model: Any, optimizer: Any = None, budget: float = _BUDGET) -> None:
        from torch import nn

        if not isinstance(model, nn.Module):
            raise InvalidInput(f"watch takes a torch module, got {type(model).__name__}")
        if getattr(model, "_relukit_watched", False):
            raise InvalidInput("this model is already being watched; leave the first `with relukit.watch(...)` block")
        self.model, self.optimizer, self.budget = model, optimizer, budget
        self._inner = getattr(model, "_orig_mod", model)
        self.layers = layers_of(self._inner)
        self.dropouts = dropouts_of(self._inner)
        if not self.layers:
            raise InvalidInput("the model has no linear, convolution or normalization layer to watch")
        self.record = Record(self.layers, scale=tuple(getattr(self._inner, "_relukit_scale", (1.0, 0.0))))
        self.fixes: list[dict[str, Any]] = []
        self._active = False
        self._forward = ForwardLooks(self)
        self._pending: list[Any] = []
        self._probe: tuple[Any, list[int]] | None = None
        self._origin = self._entries()
        self._wake, self._next, self._every = 1, 1, _EVERY
        self._kept_start: dict[str, Any] = {}
        self._spent = 0.0
        self._found: tuple[int, list[Finding]] = (0, [])
        self._since: dict[tuple[str, str], int] = {}
        self._offset = 0

    # -- the block -------------------------------------------------------------------------------------------------

    def __enter__(self) -> "Watch":
        object.__setattr__(self.model, "_relukit_watched", True)
        self._active, self._began = True, _clocks()
        self.keep_start()
        self._forward.begin(1, self._every)
        return self

    def __exit__(self, *_: Any) -> None:
        self._forward.drop()
        self._read_losses()
        object.__setattr__(self.model, "_relukit_watched", False)
        self._active = False

    def step(self, loss: Any) -> None:
        """Call it after `loss.backward()` and before `optimizer.step()`.

        Raises:
            InvalidInput: The loss is no scalar, or the `with` block was left.
        """
        if not self._active:
            raise InvalidInput("step() belongs inside `with relukit.watch(model) as h:`")
        _require_number(loss)
        step = self.record.step + len(self._pending) + 1
        self._pending.append(loss.detach() if hasattr(loss, "detach") else loss)
        if step < self._wake:
            return
        started = _clocks()
        if step == 1 and hasattr(loss, "grad_fn"):
            self.record.chain, self.record.factor = output_chain(loss), factor_of(loss)
            self.record.kinds, self.record.joined = activations_in_graph(loss)
        self._finish_probe()
        self._forward.finish(step, self._pending[-1])
        if step == 1 and hasattr(loss, "grad_fn"):  # layers are in the order they ran in now
            self.record.straight = self._straight(loss)
        if step >= self._next:
            self._read_losses()
            self._look(step)
            self._plan(step, _since(started))
        if step + 1 >= self._forward.next:
            self._forward.begin(step + 1, self._every)
        self._wake = min(self._next, self._forward.next - 1)
        if self._probe is not None or self._forward.looking:
            self._wake = step + 1
        self._spent += _since(started)

    def _straight(self, loss: Any) -> list[int]:
        """Layers whose output goes into another linear layer as it is."""
        place = {id(layer.parameter): k for k, layer in enumerate(self.layers)}
        return sorted({place[id(w)] for w, _ in straight_pairs(loss) if id(w) in place})

    def _plan(self, step: int, spent: float) -> None:
        """When to look next: early often, later so rarely that the budget holds."""
        elapsed = max(_since(self._began), 1e-6)
        local = step - self._offset
        each = max((elapsed - self._spent) / step, 1e-7)
        # When the time spent on looking, this look's cost included once more, is within the budget again; at the latest
        # when the run has doubled.
        due = math.ceil((self._spent + 2 * spent) / (self.budget * each))
        self._every = max(_EVERY, math.ceil(spent / (self.budget * each)))
        later = [s for s in _EARLY if s > local]
        wait = min(max(due - step, self._every), max(local, _EVERY))
        self._next = step + (min(later) - local if later else min(wait, 2000))

    # -- looking ---------------------------------------------------------------------------------------------------

    def _read_losses(self) -> None:
        if not self._pending:
            return
        import torch

        values = [p for p in self._pending if isinstance(p, torch.Tensor)]
        if len(values) == len(self._pending):
            first = values[0]
            if any(v.shape != first.shape or v.dtype != first.dtype for v in values):
                values = [v.reshape(()).float() for v in values]
            numbers = torch.stack(values).flatten().tolist()
        else:
            numbers = [float(p) for p in self._pending]
        self.record.losses.extend(numbers)
        self._pending = []

    def keep_start(self) -> None:
        """Remembers the present weights as those to go back to, where the model is small, and how they are scaled."""
        held = {**dict(self._inner.named_parameters()), **dict(self._inner.named_buffers())}
        small = sum(t.numel() for t in held.values()) <= _SNAPSHOT
        self._kept_start = {name: t.detach().clone() for name, t in held.items()} if small else {}
        self._remember_start()

    def restore_start(self) -> bool:
        """Puts the weights back that training started from (or the last fresh ones); False where they were not kept."""
        import torch

        held = {**dict(self._inner.named_parameters()), **dict(self._inner.named_buffers())}
        fits = self._kept_start.keys() == held.keys() and all(
            self._kept_start[name].shape == t.shape for name, t in held.items()
        )
        if fits:
            with torch.no_grad():
                for name, t in held.items():
                    t.copy_(self._kept_start[name])
        return fits

    def _remember_start(self) -> None:
        """Mean and deviation of weights and mean of biases by layer: what initialization is judged by."""
        import torch

        with torch.no_grad():
            weights = [some(layer.weight) for layer in self.layers]
            biases = [
                torch.zeros(1) if layer.bias is None else layer.bias.detach().reshape(-1) for layer in self.layers
            ]
            start = {}
            for name, parts in (("weight", weights), ("bias", biases)):
                start[f"{name}_mean"], start[f"{name}_std"] = moments(torch.cat(parts), [p.numel() for p in parts])
            self._origin = self._entries()
        self.record.start = start

    def _look(self, step: int) -> None:
        """Gradient norms, silent units, and a probe of the weights for the size of the coming update."""
        import torch

        self.record.dropped = most_dropped(self.dropouts)
        if self.optimizer is not None:
            self.record.rate, self.record.memory = rate_of(self.optimizer), memory_of(self.optimizer)
            self.record.optimizer = type(self.optimizer).__name__
        with torch.no_grad():
            having = [k for k, layer in enumerate(self.layers) if layer.weight.grad is not None]
            grad = np.full(len(self.layers), np.nan)
            weight = np.full(len(self.layers), np.nan)
            silent = [np.zeros(0, bool)] * len(self.layers)
            if having:
                # Norms from at most a thousand entries each, scaled up: a full pass would cost as much as a step's tenth.
                parts = [some(self.layers[k].weight.grad) for k in having]
                again = len(self.record.samples) % 4 == 0 or len(self.record.samples[-1].weight) != len(self.layers)
                if again:
                    parts += [some(self.layers[k].weight) for k in having]
                sizes = norms(torch.cat(parts), [p.numel() for p in parts])
                scale = np.sqrt([self.layers[k].weight.numel() / p.numel() for k, p in zip(having, parts)])
                grad[having] = sizes[: len(having)] * scale
                weight = self.record.samples[-1].weight if not again else weight
                if again:
                    weight[having] = sizes[len(having) :] * scale
                flags = [self._unit_gradient(self.layers[k]) for k in having]
                flat = (torch.cat(flags) == 0).cpu().numpy()
                start = 0
                for k, part in zip(having, flags):
                    silent[k] = self._by_weights(self.layers[k], flat[start : start + part.numel()])
                    start += part.numel()
            counts = [layer.weight.numel() for layer in self.layers]
            pull = decay_pull(self.optimizer, grad, weight, counts) if having and self.optimizer is not None else 0.0
            self.record.samples.append(Sample(step, grad, weight, silent, pull=pull, rate=self.record.rate))
            self._probe = self._entries()

    @staticmethod
    def _unit_gradient(layer: Any) -> Any:
        """For each unit a number that is 0 exactly where it got no gradient."""
        if layer.bias is not None and layer.bias.grad is not None:
            return layer.bias.grad.float()
        g = layer.weight.grad
        return g.float().reshape(len(g), -1).abs().amax(dim=1)

    @staticmethod
    def _by_weights(layer: Any, silent: Array) -> Array:
        """A layer whose biases all got none is asked by its weights: a loss on differences of outputs leaves the last bias alone."""
        g = layer.weight.grad
        if not silent.all() or layer.bias is None or len(g) != len(silent):
            return silent
        return (g.reshape(len(g), -1).abs().amax(dim=1) == 0).cpu().numpy()

    def _entries(self) -> tuple[Any, list[int]]:
        """Some entries of every layer's weights in one row, and how many of each."""
        import torch

        parts = [some(layer.weight, _ENTRIES) for layer in self.layers]
        return torch.cat(parts), [p.numel() for p in parts]

    def _finish_probe(self) -> None:
        """How far the last step moved each weight, relative to its size."""
        if self._probe is None:
            return
        import torch

        with torch.no_grad():
            (now, counts), (before, _) = self._entries(), self._probe
            ratio = norms(now - before, counts) / (norms(before, counts) + 1e-12)
        self.record.updates.append((self.record.samples[-1].step, ratio))
        self._probe = None

    # -- results ---------------------------------------------------------------------------------------------------

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, worst first; empty for a run that learns."""
        self._read_losses()
        if self._found[0] != self.record.step or not self._found[1]:
            from dataclasses import replace

            view = self._view()
            found = diagnose(view)
            self._since |= first_seen(view, {(f.symptom, f.cause) for f in found} - self._since.keys())
            found = [replace(f, since_step=self._since[f.symptom, f.cause]) for f in found]
            self._found = (self.record.step, found)
        return self._found[1]

    def _view(self) -> Record:
        """The record since the last fix: what came before belongs to the sick run."""
        from dataclasses import replace

        cut = self._offset
        (now, counts), (origin, _) = self._entries(), self._origin
        if now.shape == origin.shape:
            self.record.away = (self.record.step, norms(now - origin, counts) / (norms(now, counts) + 1e-12))
        r = without_holes(self.record, getattr(self.optimizer, "_relukit_skips", False))
        if not self._offset:
            return r
        return replace(
            r,
            losses=r.losses[cut:],
            before=cut,
            samples=[s for s in r.samples if s.step > cut],
            activity=[a for a in r.activity if a.step > cut],
            updates=[u for u in r.updates if u[0] > cut],
        )

    def fix(self) -> dict[str, Any]:
        """Applies the best remedy for the worst finding, in place.

        Returns `{"applied": [...], "by_user": [...], "finding": {...}}`: what was done to model and optimizer, and what
        only the user can change. Nothing is touched where there is no finding.
        """
        from relukit.monitoring._cures import cure

        found = self.findings
        if not found:
            return {"applied": [], "by_user": [], "finding": None}
        self._finish_probe()
        report = cure(self, found[0])
        report["step"] = self.record.step
        report["loss_before"] = self.record.level()[1] if self.record.step >= 5 else None
        self.fixes.append(report)
        self._offset = self.record.step
        self.layers[:], self.dropouts = layers_of(self._inner), dropouts_of(self._inner)
        self._remember_start()
        self._found, self._since = (0, []), {}
        self._next, self._wake = self._offset + 1, self._offset + 1
        if self._active:
            self._forward.drop()
            self._forward.begin(self._offset + 1, self._every)
        return report

    def to_dict(self) -> dict[str, Any]:
        """Findings, losses and the last sample of every layer, ready for JSON."""
        findings = [f.to_dict() for f in self.findings]
        weights = [k for k, layer in enumerate(self.layers) if not layer.norm]
        layers = [layer_dict(self.record, k, k == weights[0] if weights else False) for k in range(len(self.layers))]
        return {"steps": self.record.step, "findings": findings, "layers": layers, "fixes": self.fixes}

    def plot(self, path: Any) -> None:
        """Loss, silent share and gradient norm of every layer over the steps, findings and fixes marked, into a file."""
        from relukit.monitoring._picture import draw

        draw(self, path)

    def __repr__(self) -> str:
        worst = self.findings[0] if self.findings else None
        return f"Watch({self.record.step} steps, {worst.symptom + ': ' + worst.cause if worst else 'no finding'})"


def _require_number(loss: Any) -> None:
    numel = getattr(loss, "numel", None)
    if numel is None and not isinstance(loss, (int, float, np.number)):
        raise InvalidInput(f"the loss must be a number or a tensor that holds one, got {type(loss).__name__}")
    if numel is not None and numel() != 1:
        raise InvalidInput(f"the loss must be a single number, got shape {tuple(loss.shape)}; reduce it (mean) first")


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(started: tuple[float, float]) -> float:
    """Seconds since then: the clock's, or the processor's where a busy machine makes the clock run on alone."""
    return min(time.perf_counter() - started[0], time.process_time() - started[1])


def recently_silent(record: Record, k: int, count: int = 4) -> np.ndarray:
    """Units of layer `k` that got no gradient in any of the last few samples."""
    parts = [s.silent[k] for s in record.samples[-count:] if len(s.silent[k])]
    if not parts or any(len(p) != len(parts[-1]) for p in parts):
        return np.zeros(0, bool)
    return np.logical_and.reduce(parts)


def watch(model: Any, optimizer: Any = None, budget: float = _BUDGET) -> Watch:
    """Watch a torch training while a loop of one's own runs: use the result as a context and call its `step(loss)` each step.

    Arguments:
        model: Any torch module (also compiled, DDP, with functional activations).
        optimizer: The one in use; without it learning rates are not judged and `fix` cannot change them.
        budget: Share of the training time that watching may take, 0.01 for one percent.

    Returns:
        A `Watch`: `findings` (symptom, cause, remedies, numbers), `fix()`, `step(loss)`.

    Raises:
        InvalidInput: The model is no torch module, has no layer with weights, or is already watched.
    """
    return Watch(model, optimizer, budget)
