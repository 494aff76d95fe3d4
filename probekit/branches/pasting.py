"""What branches share that paste foregrounds onto other backgrounds: the masks of the file, and the draws."""

from abc import abstractmethod

import torch
from torch import Tensor

from probekit.branches.base import Branch, Masks, active_branches, put
from probekit.data.foreground import names_of
from probekit.h5 import DatasetInfo
from probekit.methods.base import Method
from probekit.ranks import gathered, size
from probekit.views.paste import Background, Paste, draw_paste


class Pasting(Branch):
    """Views of some images are cut from their foreground on another background.

    Saliency here is a mask of the dataset file; the papers estimate it. Until masks are there the branch rests.
    `share`: how often a view is pasted; `mask`: a name in the file, "" for all objects; `background`, `blur`: as
    of `probekit.views.paste`.
    """

    masks: Tensor

    def __init__(
        self, *, share: float, mask: str, background: Background = "image", blur: float = 0.0, weight: float = 1.0
    ) -> None:
        super().__init__(weight=weight)
        self.share, self.mask, self.background, self.blur = share, mask, background, blur
        # Of every training image; the file has them, so no checkpoint does.
        self.register_buffer("masks", torch.zeros(0, 1, 1, 1, dtype=torch.uint8), persistent=False)

    @property
    def resting(self) -> bool:
        """Until there are masks."""
        return not len(self.masks)

    def join(self, method: Method) -> None:
        """A ValueError if another branch pastes: views are cut from what one of them makes."""
        for other in active_branches(method):
            if isinstance(other, Pasting) and self.weight:
                raise ValueError(
                    f"expected one branch that pastes foregrounds, found {other.name} and {self.name}; leave either out"
                )

    def take_masks(self, masks: Masks) -> None:
        """Keeps those of every training image."""
        put(self, masks=masks(self.mask).to(self.masks.device))

    def note(self, info: DatasetInfo) -> str:
        """Which masks are the foreground."""
        return (
            f"{self.name}: the foreground is what these masks of the file show: {', '.join(names_of(info, self.mask))}"
        )

    def paste(self, index: Tensor, images: Tensor, views: int, generator: torch.Generator) -> Tensor:
        """What the views of images are cut from."""
        how = {"share": self.share, "background": self.background, "blur": self.blur}
        drawn = draw_paste(size() * len(index), views, generator, **how)  # type: ignore[arg-type]
        with torch.autocast(images.device.type, enabled=False):
            return self.pasted(index, images, gathered(images), drawn)

    @abstractmethod
    def pasted(self, index: Tensor, images: Tensor, everyone: Tensor, drawn: Paste) -> Tensor:
        """`paste`, given what was drawn; `everyone`: the images of all ranks' batch."""
