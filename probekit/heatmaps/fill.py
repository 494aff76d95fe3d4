"""What stands where an image is hidden."""

import cv2
import numpy as np
from numpy.typing import NDArray

from probekit.registry import nearest

Pixels = NDArray[np.uint8]

FILLS = {  # name: what it is
    "black": "0: on black background, relevance wasted there costs nothing",
    "mean": "the mean colour of the training images",
    "grey": "1/2",
    "blur": "the image itself, blurred",
    "counterfactual": "the same scene with one class factor changed",
}
BLUR_SD = 8.0  # px at 128, ours: half a window of occlusion
BASE_SIZE = 128


def fill(name: str, images: Pixels, *, mean: NDArray[np.floating], counterfactuals: Pixels | None) -> Pixels:
    """The filling for each image, of the images' shape.

    Args:
        name: One of `FILLS`.
        images: uint8 `[N, H, W]` or `[N, H, W, 3]`.
        mean: The mean colour, a number or `[3]`, in [0, 255].
        counterfactuals: For "counterfactual", images of the same shape.

    Raises:
        ValueError: If the name is unknown, or there are no counterfactuals to fill with.
    """
    if name not in FILLS:
        raise ValueError(nearest("fill", name, FILLS))
    if name == "counterfactual":
        if counterfactuals is None:
            raise ValueError(
                "expected --target pair of a generated dataset for --fill counterfactual, found no counterfactuals; "
                "type: --fill mean"
            )
        return counterfactuals
    if name == "blur":
        sd = BLUR_SD * max(images.shape[1:3]) / BASE_SIZE
        return np.stack([cv2.GaussianBlur(image, (0, 0), sd) for image in images]).astype(np.uint8)
    value = {"black": np.zeros(1), "grey": np.full(1, 127.5), "mean": np.asarray(mean)}[name]
    return np.broadcast_to(np.rint(value).astype(np.uint8), images.shape)
