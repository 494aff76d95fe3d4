"""The ConRec paper's own recipes, flaws included: Pillow's shapes in whole pixels, then rotated as a picture.

The published files themselves are imported (`probekit import FILE.npz`); these draw any number of such images, with the
factors, masks and evidence that the files lack.
"""

from generators.published.circ_sq import CircSqPublished
from generators.published.rect_tri import RectTriPublished

__all__ = ["CircSqPublished", "RectTriPublished"]
