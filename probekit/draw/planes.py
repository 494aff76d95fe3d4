"""Embeddings in a plane, by t-SNE or UMAP, with what is left of their neighbours beside it."""

import importlib
import warnings
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from probekit.draw.agreement import agreement
from probekit.draw.asked import Asked
from probekit.draw.patches import unit
from probekit.draw.sample import Sample, Work
from probekit.output.document import percents
from probekit.output.style import LETTERS, LIGHT, LINE, PAGE, SERIES, STYLE, without_path
from probekit.registry import check_named
from probekit.visible import first_line

Floats = NDArray[np.floating]

LEAST = 10  # images of a plane; ours: fewer have hardly neighbours to speak of
K = 10  # neighbours; of fewer than 40 images a quarter: more would be most of the others; ours
PERPLEXITY = 30.0  # van der Maaten and Hinton 2008: 5 to 50; scikit-learn's
UMAP_NEIGHBOURS, MIN_DIST = 15, 0.1  # McInnes et al. 2018; umap-learn's
CALLED = {"tsne": "t-SNE", "umap": "UMAP"}
MARKERS = ("o", "^", "s", "D", "v")  # after all colours the next
OTHERS = LIGHT["baseline"]
SCALES = {"circular": "twilight"}  # of values that are no classes; else:
SCALE = "viridis"
EDGE: dict[str, Any] = {"linewidths": 0.3, "edgecolors": LIGHT["muted"]}  # of points that may be as light as the page
WARNING = "Only neighbours are to be read: distances between groups, their sizes and densities mean nothing."
SIDE, FOOT = PAGE / 2 - 0.1, 4.4 * LINE  # inches of a panel, of the numbers under it
POINTS = 12_000.0  # area of all points of a panel, in points squared; each has 3 to 18


def draw_plane(work: Work) -> tuple[Figure, dict[str, Any], list[str]]:
    """A panel for each encoder, its agreement under it; the numbers, and lines that tell them."""
    asked, sample = work.asked, work.sample
    groups = check_plane(sample, asked)
    place = tsne if asked.kind == "tsne" else umap
    k = min(asked.k or min(K, len(sample) // 4), len(sample) - 1)
    rows, panels = [], []
    for subject in work.subjects:
        embedded = unit(subject.embed(sample))
        plane = place(embedded, seed=asked.seed)
        found = agreement(embedded, plane, groups.classes, k=k, seed=asked.seed)
        rows.append({"name": subject.name, **found})
        panels.append((subject.name, plane, told(found, groups.what)))
    title = f"{CALLED[asked.kind]} of {len(sample):,} {sample.split} images: {work.title}\n{WARNING}"
    lines = [f"{name}: {'; '.join(lines)}" for name, _, lines in panels]
    return scatter(panels, groups, title), {"by": groups.by, "rows": rows}, [*lines, WARNING]


def check_plane(sample: Sample, asked: Asked) -> "Groups":
    """What colours the points; a ValueError if there are too few images, or there is no such factor."""
    if len(sample) < LEAST:
        raise ValueError(f"expected at least {LEAST} images for a plane, found {len(sample)}; type: --as neighbours")
    return Groups(sample, asked.by)


def told(found: Mapping[str, Any], what: str) -> list[str]:
    """The agreement of a plane with its embedding, a line each."""
    kept, k = found["kept"], found["k"]
    lines = [f"kept of {k} nearest: {percents(kept['mean'], kept['ci']).text} % (chance {100 * kept['chance']:.1f} %)"]
    if found["trustworthiness"] is not None:
        lines.append(f"trustworthiness {found['trustworthiness']:.3f}, continuity {found['continuity']:.3f}")
    if found["knn"] is not None:
        both = [percents(found["knn"][space]["accuracy"], found["knn"][space]["ci"]).text for space in SPACES]
        lines.append(f"{what} by the {k} nearest (chance {100 * found['knn']['chance']:.1f} %):")
        lines[-1] += f"\nembedding {both[0]}, plane {both[1]} %"
    return lines


SPACES = ("embedding", "plane")


def tsne(embedded: Floats, *, seed: int) -> NDArray[np.float32]:
    """The plane `[n, 2]` of embeddings of length 1, whose squared distances are twice 1 - cosine; begun by PCA."""
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(embedded) - 1) / 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # embeddings that are all alike: the PCA divides by zero
        model = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
        found: NDArray[np.float32] = model.fit_transform(embedded.astype(np.float32))
    return np.nan_to_num(found)


def umap(embedded: Floats, *, seed: int) -> NDArray[np.float32]:
    """The plane `[n, 2]` of embeddings by cosine. A ValueError if umap-learn is missing or cannot be imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it is built on, and few images
        try:
            module: Any = importlib.import_module("umap")
        except ModuleNotFoundError as error:
            raise ValueError(
                f"expected umap-learn for --as umap, found no {error.name}; type: pip install 'umap-learn>=0.5.6'"
            ) from error
        except Exception as error:  # whatever its compiler raises
            raise ValueError(f"umap-learn cannot be imported: {first_line(error)}; type: --as tsne") from error
        neighbours = min(UMAP_NEIGHBOURS, len(embedded) - 1)
        model = module.UMAP(n_neighbors=neighbours, min_dist=MIN_DIST, metric="cosine", random_state=seed, n_jobs=1)
        found: NDArray[np.float32] = model.fit_transform(embedded.astype(np.float32))
    return np.nan_to_num(found)


class Groups:
    """What colours points: classes with names, or values on a scale, or nothing.

    A ValueError if there is no such factor. `by`: "label" or a factor; None is the label where there is one.

    Attributes:
        by: What was chosen, or None.
        classes: int64 `[n]`, the values of a class factor or the label; of values on a scale the label still, which
            neighbours are asked for; None without.
        values: `[n]`, on a scale; None of classes.
    """

    def __init__(self, sample: Sample, by: str | None) -> None:
        about = {factor["name"]: factor for factor in sample.info.factors if factor["name"] in sample.columns.factors}
        known = {name: factor for name, factor in about.items() if factor["kind"] != "key"}
        if by is not None:
            check_named("factor", by, ["label", *known])
        if by == "label" and sample.labels is None:
            raise ValueError(f"expected images with one label each for --by label, found others in {sample.info.path}")
        self.by = by or (None if sample.labels is None else "label")
        self.classes, self.values, self.kind = sample.labels, None, "class"
        self.names: Sequence[str] = sample.info.classes
        self.what = "label"
        if self.by in known:
            factor, values = known[str(self.by)], sample.columns.factors[str(self.by)]
            self.kind = factor["kind"]
            if self.kind == "class":
                self.classes, self.names = values.astype(np.int64), factor.get("values") or ()
                self.what = str(self.by)
            else:
                self.values = values.astype(np.float64)

    def name(self, k: int) -> str:
        """A class in words."""
        return self.names[k] if k < len(self.names) else str(k)


def scatter(panels: Sequence[tuple[str, Floats, Sequence[str]]], groups: Groups, title: str) -> Figure:
    """A panel for each (name, plane, lines under it), with one legend or scale for all."""
    keys, styles = _keys(groups)
    scale = groups.values is not None
    under = 0.2 + LINE * (1.5 * bool(keys) + -(-len(keys) // 4) * 1.2 + 3 * scale)
    lines = [wrap(line, round(LETTERS * PAGE)) for line in title.splitlines()]
    above = 0.1 + LINE * (sum(map(len, lines)) + 1.5)
    height = above + SIDE + FOOT + under
    with matplotlib.rc_context({**STYLE, "axes.grid": False, "axes.spines.top": True, "axes.spines.right": True}):
        figure = Figure(figsize=(PAGE, height))
        for number, line in enumerate(part for parts in lines for part in parts):
            weight = "bold" if number < len(lines[0]) else "normal"
            figure.text(0.1 / PAGE, 1 - (0.06 + LINE * number) / height, line, va="top", weight=weight)
        shown = None
        for place, (name, plane, told) in enumerate(panels):
            left = 0.1 + SIDE * place
            axes = figure.add_axes((left / PAGE, (under + FOOT) / height, (SIDE - 0.1) / PAGE, (SIDE - 0.1) / height))
            axes.set_title(without_path(name))
            shown = _points(axes, plane, groups, styles) or shown
            figure.text(left / PAGE, (under + FOOT - 0.06) / height, "\n".join(told), va="top", linespacing=1.3)
        if keys:
            spaces: dict[str, Any] = {"handletextpad": 0.2, "columnspacing": 1.2, "alignment": "left"}
            figure.legend(handles=keys, title=groups.by, loc="lower left", ncols=min(4, len(keys)), **spaces)
        elif shown is not None:
            place_of_bar = figure.add_axes((0.1 / PAGE, (under - 0.2) / height, 0.4, 0.08 / height))
            bar = figure.colorbar(shown, cax=place_of_bar, orientation="horizontal")
            bar.set_label(str(groups.by), labelpad=1)
            bar.ax.tick_params(length=2)
    return figure


def _keys(groups: Groups) -> tuple[list[Line2D], dict[int, tuple[str, str]]]:
    """The legend, and colour and marker of each class; the largest have one of their own, all others are grey."""
    if groups.classes is None or groups.values is not None:
        return [], {}
    found, counts = np.unique(groups.classes, return_counts=True)
    most = len(SERIES) * len(MARKERS)
    own = sorted(found[np.argsort(-counts, kind="stable")][:most].tolist())
    styles = {k: (SERIES[i % len(SERIES)], MARKERS[i // len(SERIES)]) for i, k in enumerate(own)}
    about: dict[str, Any] = {"linestyle": "", "markersize": 4.5, "markeredgewidth": 0}
    keys = [
        Line2D([], [], color=colour, marker=marker, label=_short(groups.name(k)), **about)
        for k, (colour, marker) in styles.items()
    ]
    if len(found) > len(own):
        keys.append(Line2D([], [], color=OTHERS, marker="o", label=f"{len(found) - len(own)} others", **about))
    return keys, styles


def _points(axes: Axes, plane: Floats, groups: Groups, styles: Mapping[int, tuple[str, str]]) -> Any:
    """Draws the points, no class over another as a whole; gives what a scale of colours is made of, or None."""
    size = float(np.clip(POINTS / len(plane), 3, 18))
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.margins(0.04)
    middle, half = (plane.max(axis=0) + plane.min(axis=0)) / 2, 0.53 * max(1e-6, float(np.ptp(plane, axis=0).max()))
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
    about: dict[str, Any] = {"s": size, "linewidths": 0}
    if groups.values is not None:
        return axes.scatter(
            plane[:, 0], plane[:, 1], c=groups.values, cmap=SCALES.get(groups.kind, SCALE), **about | EDGE
        )
    if groups.classes is None:
        axes.scatter(plane[:, 0], plane[:, 1], color=OTHERS, **about)
        return None
    colours = np.array([styles.get(int(k), (OTHERS, "o"))[0] for k in groups.classes])
    markers = np.array([styles.get(int(k), (OTHERS, "o"))[1] for k in groups.classes])
    for marker in dict.fromkeys(markers.tolist()):
        of = markers == marker
        axes.scatter(plane[of, 0], plane[of, 1], c=colours[of].tolist(), marker=marker, **about)
    return None


def _short(name: str) -> str:
    plain = "".join(letter if letter.isprintable() else "?" for letter in name)
    return plain if len(plain) <= 24 else f"{plain[:23]}…"
