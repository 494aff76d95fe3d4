"""How detectors are trained and scored: the XCorr paper's schedules, and a small one for generated scenes."""

from dataclasses import dataclass, replace

PRESETS = ("paper", "quick")
PROTOCOLS = ("xcorr",)


@dataclass(frozen=True)
class Recipe:
    """A training of a detector, by SGD with momentum .9."""

    about: str  # in words
    steps: int  # batches
    drops: tuple[int, ...]  # steps after which the rate is a tenth of what it was
    warmup: int  # steps over which the rate rises linearly
    batch: int  # images
    rate: float
    decay: float
    scales: tuple[
        int, ...
    ]  # px of the shorter side in training, one drawn for each image; () leaves images as they are
    test_scale: int | None  # the same in the test
    anchors: tuple[int, ...]  # sides of the anchors, in pixels of the scaled image; each in three aspects
    proposals: tuple[int, int]  # of an image, before and after suppression, in training
    test_proposals: tuple[int, int]  # likewise in the test
    regions: int  # proposals of an image that the second stage learns from
    conv: int  # channels of the convolutions of the region heads, where the backbone brings none
    hidden: int  # of its fully connected layers
    trials: int  # trainings, each of a seed of its own
    masked: bool  # whether objects have masks, and the detector is a Mask R-CNN

    def rate_at(self, step: int) -> float:
        """The rate of a step, from 0."""
        done = min(1.0, step / self.warmup) if self.warmup else 1.0
        warm = WARM + (1.0 - WARM) * done
        return self.rate * warm * float(0.1 ** sum(step >= drop for drop in self.drops))


WARM = 1 / 1000  # of the rate, at the first step: Detectron2's default
MOMENTUM = 0.9  # XCorr paper, supplement 1.4.1
LONGER = 1333  # px, the most of the longer side: Detectron2's default
ANCHORS = (32, 64, 128, 256, 512)  # Detectron2's R50-C4
# Supplement 1.4.1: Faster R-CNN, 24k iterations with drops at 18k and 22k, warm-up of 100; 480 to 800 px in steps of
# 32, 800 in the test; rate .02, weight decay .0001; section 1.4: batches of 16, 5 trials. Proposals: R50-C4 of
# Detectron2. `conv` and `hidden`: torchvision's, of backbones that are no resnets.
VOC = Recipe(
    about="Faster R-CNN, 24k iterations (XCorr paper, Table 5)",
    steps=24_000,
    drops=(18_000, 22_000),
    warmup=100,
    batch=16,
    rate=0.02,
    decay=1e-4,
    scales=tuple(range(480, 801, 32)),
    test_scale=800,
    anchors=ANCHORS,
    proposals=(12_000, 2_000),
    test_proposals=(6_000, 1_000),
    regions=512,
    conv=256,
    hidden=1024,
    trials=5,
    masked=False,
)
# Supplement 1.4.2: Mask R-CNN, 180k iterations with drops at 120k and 160k, 640 to 800 px, 600 in the test; the rest as
# above; warm-up: Detectron2's default.
COCO = replace(
    VOC,
    about="Mask R-CNN, 180k iterations (XCorr paper, Table 6)",
    steps=180_000,
    drops=(120_000, 160_000),
    warmup=1000,
    scales=tuple(range(640, 801, 32)),
    test_scale=600,
    masked=True,
)
# Ours: what two cores train in some minutes on scenes of 96 px, whose objects are 15 to 50 px wide.
QUICK = Recipe(
    about="Mask R-CNN, 100 iterations at the images' own size",
    steps=100,
    drops=(75,),
    warmup=10,
    batch=8,
    rate=0.02,
    decay=1e-4,
    scales=(),
    test_scale=None,
    anchors=(12, 24, 48),
    proposals=(200, 100),
    test_proposals=(200, 50),
    regions=32,
    conv=32,
    hidden=128,
    trials=3,
    masked=True,
)


def recipe_for(preset: str, *, masked: bool) -> Recipe:
    """The recipe of a preset for objects with masks, or with boxes alone."""
    if preset == "quick":
        return QUICK if masked else replace(QUICK, about=QUICK.about.replace("Mask", "Faster"), masked=False)
    return COCO if masked else VOC
