"""The strongest modules, drawn so that names can be read."""

import json
from pathlib import Path

from relukit._numerics import atomic_path
from relukit.gallery.protein_network._graph import read_graph
from relukit.gallery.protein_network.study import load_scores


def figures(out: Path, data: Path) -> list[Path]:
    """Write `modules.png`: up to 15 proteins of each of the five modules, colored by score."""
    import networkx as nx
    from matplotlib.figure import Figure

    graph, saved = read_graph(data), load_scores(out)
    index, scores = graph.index(), saved["model"]
    modules = json.loads((out / "modules.json").read_text())
    figure = Figure(figsize=(15, 4), layout="constrained")
    for ax, module in zip(figure.subplots(1, 5), modules):
        members = [index[n] for n in module["proteins"][:15]]
        net = nx.from_scipy_sparse_array(graph.adjacency[members][:, members])
        place = nx.spring_layout(net, seed=1, k=1.2)
        nx.draw_networkx_edges(net, place, ax=ax, edge_color="0.8", width=0.6)
        nx.draw_networkx_nodes(
            net, place, ax=ax, node_size=90, node_color=scores[members], cmap="YlOrRd", vmin=0, vmax=1.6 * scores.max()
        )
        nx.draw_networkx_labels(net, place, {k: graph.names[i] for k, i in enumerate(members)}, ax=ax, font_size=7)
        ax.set_title(f"{len(module['proteins'])} proteins, {module['edges']} edges, p = {module['p']:.3f}", fontsize=8)
        ax.margins(0.18)
        ax.axis("off")
    with atomic_path(out / "modules.png") as path:
        figure.savefig(path, dpi=130, format="png")
    return [out / "modules.png"]
