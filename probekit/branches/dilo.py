"""DiLo (Zhao, Wu, Lau, Lin, AAAI 2021, arXiv 2004.06638): views whose foreground stands on another background.

Learning stays the method's own. The authors' code has the grey background, the odds and the blur of the mask; that the
paper has textures and images as backgrounds, too, is known at second hand, and how they are made here is ours.
"""

from torch import Tensor

from probekit.branches.pasting import Pasting
from probekit.config import Part
from probekit.models.encoder import Encoder
from probekit.views.paste import Background, Paste, pasted


class DiLo(Pasting):
    """Copies the foreground and pastes it, where it stands, onto another background; it has no loss.

    `share`: how often, of each view alone; `background`: "grey", all of one level; "texture", a patch of another image
    of the batch, laid mirror-wise; "image", another image of the batch; "any", each as often; `blur`: how often the
    edge of the mask is blurred; `mask`: what the foreground is: a mask's name in the file, "" for all but evidence.
    """

    about = "the foreground of some views on another background, by the masks of the file"
    paper = "DiLo, arXiv 2004.06638"
    name = "dilo"

    def __init__(
        self,
        encoder: Encoder,
        *,
        share: Part = 0.3,  # authors' code
        background: Background = "grey",  # authors' code
        blur: Part = 0.5,  # authors' code
        mask: str = "",
    ) -> None:
        super().__init__(share=share, mask=mask, background=background, blur=blur)

    def pasted(self, index: Tensor, images: Tensor, everyone: Tensor, drawn: Paste) -> Tensor:
        """Onto what was drawn."""
        return pasted(images, self.masks[index], everyone, drawn)
