"""What may be asked of `probekit draw`; loads neither torch nor NumPy."""

from dataclasses import dataclass, fields

KINDS = {  # after --as: what is drawn
    "neighbours": "images and those that are nearest to them by cosine",
    "tsne": "all embeddings in a plane, by t-SNE",
    "umap": "all embeddings in a plane, by UMAP",
    "pca": "the features of patches, their first three principal components as colours",
    "matches": "for patches of one image the nearest patches of another",
}
PLANES = ("tsne", "umap")
OPTIONS = {  # beside --n, which all have: the kinds that each means something to
    "k": ("neighbours", *PLANES),
    "by": PLANES,
    "images": ("neighbours", "pca"),
    "of": ("neighbours", "pca", "matches"),
}
MOST = {"neighbours": 12, "pca": 12}  # images that a picture shows


@dataclass(frozen=True)
class Asked:
    """One picture."""

    kind: str  # one of `KINDS`
    n: int = 2000  # images that are embedded, evenly spaced over the split
    k: int | None = None  # how many neighbours; None is 5 of a gallery, 10 of a plane
    by: str | None = None  # "label" or a factor, which colours the points
    images: int | None = None  # how many images are shown
    of: tuple[int, ...] | None = None  # places of images in the split, which are shown in place of those
    seed: int = 0  # of random weights, of where a plane begins, and of which of equal neighbours comes first

    def __post_init__(self) -> None:
        for field in fields(self):
            kinds = OPTIONS.get(field.name)
            if kinds and self.kind not in kinds and getattr(self, field.name) is not None:
                named = " or ".join(kinds)
                raise ValueError(
                    f"expected --{field.name} with {named}, found it with {self.kind}; type: --as {kinds[0]}"
                )
        if self.of and self.images is not None:
            raise ValueError("expected --images or --of, found both; leave one out")
        if self.of and self.kind == "matches" and len(self.of) > 2:
            raise ValueError(f"expected one image or two for matches, found {len(self.of)}; type: --of 0,1")
        if self.of and len(self.of) > MOST.get(self.kind, 2):
            raise ValueError(f"expected at most {MOST[self.kind]} images, found {len(self.of)}; type: --of 0,1,2")


def read_places(typed: str | None) -> tuple[int, ...] | None:
    """Turns "3,17" into (3, 17); a ValueError if these are no whole numbers."""
    if typed is None:
        return None
    words = [word.strip() for word in typed.split(",")]
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise ValueError(f"expected places of images with commas between them, found {typed!r}; type: --of 0,1")
    return tuple(dict.fromkeys(map(int, words)))
