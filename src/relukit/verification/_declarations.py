"""The declarations of a VNN-LIB 2.0 query: networks and their tensors."""

import re
from dataclasses import dataclass, field

import numpy as np

from relukit._errors import UnreadableFile
from relukit.verification._property import Declared, Tensor
from relukit.verification._sexpr import Node, parse_text, show

FLOATS = ("float64", "float32")
_KINDS = {"real", *FLOATS, "float16", "bfloat16", "float8e4m3fn", "float8e5m2", "float8e4m3fnuz", "float8e5m2fnuz", "float4e2m1", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "complex64", "complex128", "bool", "string"}  # fmt: skip
_NAME = re.compile(r"[A-Za-z]\w*")
_MOST = 50_000_000


def is_second(text: str) -> bool:
    """Whether a text is VNN-LIB 2.0."""
    return bool(re.search(r"\(\s*(?:vnnlib-version|declare-network)\b", text))


@dataclass
class Declarations:
    """All networks of a query; entries of inputs are numbered through, and those of hidden and output values."""

    source: str
    version: str = "2.0"
    networks: tuple[Declared, ...] = ()
    inputs: int = 0
    outputs: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)
    _known: dict[str, tuple[str, int]] = field(default_factory=dict)

    def variable(self, word: str) -> tuple[str, int] | None:
        """The entry that `X[0,3]` (or the name of a tensor with one entry and no shape) means."""
        if word in self._known:
            return self._known[word]
        found = re.fullmatch(r"([A-Za-z]\w*)(?:\[([\d,\s]*)\])?", word)
        if found is None:
            return None
        if found[1] not in self.tensors:
            raise UnreadableFile(
                f"{self.source}: '{word}' is used but not declared; declared are {', '.join(self.tensors)}"
            )
        tensor = self.tensors[found[1]]
        place = [int(v) for v in re.findall(r"\d+", found[2] or "")]
        if len(place) != len(tensor.shape):
            raise UnreadableFile(
                f"{self.source}: '{word}' gives {len(place)} indices, {tensor.name} has {len(tensor.shape)} dimensions {list(tensor.shape)}"
            )
        if any(p >= s for p, s in zip(place, tensor.shape)):
            raise UnreadableFile(f"{self.source}: '{word}' lies outside the shape {list(tensor.shape)}")
        entry = tensor.first + (int(np.ravel_multi_index(place, tensor.shape)) if place else 0)
        self._known[word] = ("x" if tensor.role == "input" else "y", entry)
        return self._known[word]

    def name(self, index: int) -> str:
        """The name of an input's entry."""
        for t in self.tensors.values():
            if t.role == "input" and t.first <= index < t.first + t.size:
                place = np.unravel_index(index - t.first, t.shape) if t.shape else ()
                return f"{t.name}[{','.join(str(int(v)) for v in place)}]"
        return f"input {index}"


def declarations(text: str, source: str) -> Declarations:
    """Read version and networks.

    Raises:
        UnreadableFile: Not as the grammar of VNN-LIB 2.0 says, with the line.
    """
    # `X real [1, 5]` is one word for the shape.
    text = re.sub(r"\[[^\]]*\]", lambda f: re.sub(r"[ \t]", "", f[0]), text)
    found, networks = Declarations(source), []

    def wrong(node: object, message: str) -> UnreadableFile:
        where = f"line {text.count(chr(10), 0, node.at) + 1}: " if isinstance(node, Node) else ""
        return UnreadableFile(f"{source}: {where}{message}")

    for tree in parse_text(text, source):
        if isinstance(tree, Node) and len(tree) == 2 and tree[0] == "vnnlib-version":
            version = str(tree[1]).strip("<>")
            if not re.fullmatch(r"2\.\d+", version):
                raise wrong(tree, f"VNN-LIB {version} is not known; 1.0 and 2.0 are")
            found.version = version
        elif isinstance(tree, Node) and tree and tree[0] == "declare-network":
            networks.append(_network(tree, found, networks, wrong))
        else:
            raise wrong(tree, f"expected (vnnlib-version <2.0>) or (declare-network ...), got {show(tree)}")
    if not networks:
        raise UnreadableFile(f"{source} declares no network")
    found.networks = tuple(networks)
    return found


def _network(tree: Node, found: Declarations, earlier: list[Declared], wrong) -> Declared:
    if len(tree) < 2 or not isinstance(tree[1], str) or not _NAME.fullmatch(tree[1]):
        raise wrong(tree, "a network needs a name of letters, digits and underscores")
    if any(n.name == tree[1] for n in earlier):
        raise wrong(tree, f"network '{tree[1]}' is declared twice")
    tensors: list[Tensor] = []
    relation = {"equal-to": "", "isomorphic-to": ""}
    order = ("input", "hidden", "output")
    for part in tree[2:]:
        if isinstance(part, Node) and len(part) == 2 and part[0] in relation:
            if part[1] not in [n.name for n in earlier]:
                raise wrong(part, f"{part[0]} names '{part[1]}', which no earlier network has")
            relation[part[0]] = part[1]
            continue
        words = [w for w in part if isinstance(w, str)] if isinstance(part, Node) else []
        if (
            not isinstance(part, Node)
            or len(words) != len(part)
            or len(part) < 3
            or not part[0].startswith("declare-")
            or part[0][8:] not in order
        ):
            raise wrong(
                part if isinstance(part, Node) else tree,
                f"expected (declare-input NAME TYPE SHAPE), -hidden or -output, got {show(part)}",
            )
        tensors.append(_tensor(part, found, wrong))
        if len(tensors) > 1 and order.index(tensors[-1].role) < order.index(tensors[-2].role):
            raise wrong(part, "inputs come before hidden values, and these before outputs")
    declared = Declared(tree[1], tuple(tensors), relation["equal-to"], relation["isomorphic-to"])
    if not declared.of("input") or not declared.of("output"):
        raise wrong(tree, f"network '{tree[1]}' needs an input and an output")
    same = next((n for n in earlier if n.name in (declared.equal_to, declared.isomorphic_to)), None)
    if same is not None and [(t.role, t.shape) for t in same.tensors if t.role != "hidden"] != [
        (t.role, t.shape) for t in tensors if t.role != "hidden"
    ]:
        raise wrong(
            tree, f"network '{tree[1]}' has other inputs or outputs than '{same.name}', which it is said to be like"
        )
    return declared


def _tensor(part: Node, found: Declarations, wrong) -> Tensor:
    role, name, kind = part[0][8:], part[1], part[2]
    if not _NAME.fullmatch(name):
        raise wrong(part, f"'{name}' is no name of letters, digits and underscores")
    if name in found.tensors:
        raise wrong(part, f"'{name}' is declared twice")
    if kind.lower() not in _KINDS:
        raise wrong(part, f"'{kind}' is no element type of ONNX, nor real")
    shape_text = part[3] if len(part) > 3 and part[3].startswith("[") else "[]"
    if not re.fullmatch(r"\[\s*(\d+\s*(,\s*\d+\s*)*)?\]", shape_text):
        raise wrong(part, f"a shape is a list of whole numbers like [1,5], got {shape_text}")
    shape = tuple(int(v) for v in re.findall(r"\d+", shape_text))
    node = next((w.strip('"') for w in part[3:] if w.startswith('"')), "")
    if role == "hidden" and not node:
        raise wrong(part, f"hidden '{name}' needs the name of its value in the ONNX file, in quotes")
    size = int(np.prod([float(s) for s in shape])) if shape else 1
    if not 0 < size <= _MOST:
        raise wrong(part, f"'{name}' has {size} entries")
    first = found.inputs if role == "input" else found.outputs
    found.tensors[name] = tensor = Tensor(name, role, kind.lower(), shape, first, node)
    if role == "input":
        found.inputs += size
    else:
        found.outputs += size
    return tensor
