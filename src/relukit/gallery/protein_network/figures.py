"""The strongest modules, drawn so that names can be read."""

import json
from pathlib import Path
from textwrap import shorten

from relukit._numerics import atomic_path
from relukit.gallery.protein_network._graph import read_graph
from relukit.gallery.protein_network.study import load_scores

_SHOWN = 15  # proteins of a module: more names than that overlap


def figures(out: Path, data: Path) -> list[Path]:
    """Write `modules.png`: the best proteins of each of the five modules, colored by score."""
    import networkx as nx
    from matplotlib import patheffects
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    graph, saved = read_graph(data), load_scores(out)
    index, scores = graph.index(), saved["model"]
    modules = json.loads((out / "modules.json").read_text())
    shown = [[index[n] for n in m["proteins"][:_SHOWN]] for m in modules]
    every = scores[[i for members in shown for i in members]]
    color = ScalarMappable(Normalize(every.min(), every.max()), "YlOrRd")
    figure = Figure(figsize=(13, 8.4), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    for ax, members, module in zip(axes, shown, modules):
        net = nx.from_scipy_sparse_array(graph.adjacency[members][:, members])
        net.remove_nodes_from([k for k in net if net.degree[k] == 0])
        place = nx.kamada_kawai_layout(net)
        nx.draw_networkx_edges(net, place, ax=ax, edge_color="0.85", width=0.8)
        nx.draw_networkx_nodes(
            net, place, ax=ax, node_size=150, edgecolors="0.4", linewidths=0.5, node_color=color.to_rgba([scores[members[k]] for k in net])
        )  # fmt: skip
        names = nx.draw_networkx_labels(
            net, {k: (x, y + 0.09) for k, (x, y) in place.items()}, {k: graph.names[members[k]] for k in net}, ax=ax, font_size=9
        )  # fmt: skip
        for name in names.values():
            name.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground="white")])
        best = f", its {len(net)} best drawn" if len(net) < len(module["proteins"]) else ""
        title = f"{len(module['proteins'])} proteins{best}\n{module['edges']} edges, p = {module['p']:.2g}"
        for first in module.get("pathways", [])[:1]:
            title += f"\n{shorten(first['pathway'], 46, placeholder=' ...')}\n{first['overlap']} of them, q = {first['q']:.1g}"
        ax.set_title(title, fontsize=10)
        ax.margins(0.14)
        ax.axis("off")
    for ax in axes[len(modules) :]:
        ax.axis("off")
    bar = figure.colorbar(color, ax=axes[len(modules) :], location="top", shrink=0.8, fraction=0.1)
    bar.set_label("score of the study (more: rather a driver)")
    with atomic_path(out / "modules.png") as path:
        figure.savefig(path, dpi=130, format="png")
    return [out / "modules.png"]
