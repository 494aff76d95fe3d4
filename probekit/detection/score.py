"""Average precision of boxes and masks as COCO defines it, by pycocotools.

AP is the mean over IoU of .50 to .95 in steps of .05, AP50 and AP75 at one; each the mean over classes of the precision
at 101 recalls (Lin et al., "Microsoft COCO", ECCV 2014, and its evaluation code). VOC's difficult objects count neither
as found nor as missed. The XCorr paper's numbers on VOC are Detectron2's, of 11 recalls.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from probekit.detection.train import Found
from probekit.h5 import ObjectRows
from probekit.h5.objects import IS_CROWD, IS_DIFFICULT, Runs

SCORES = ("AP50", "AP", "AP75")  # in the order of the paper's tables
AT = {"AP": 0, "AP50": 1, "AP75": 2}  # places in COCOeval.stats
KINDS = {"boxes": "bbox", "masks": "segm"}
Shape = tuple[int, int]


def score(
    objects: ObjectRows, found: Sequence[Found], shapes: Sequence[Shape], classes: Sequence[str], *, masked: bool
) -> dict[str, Any]:
    """The scores of what was found in images whose objects are known.

    `shapes`: (H, W) of each image. Returns for "boxes", and for "masks" where there are some, `SCORES` and "per_class",
    the AP of each class; None where no object counts.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        truth = _truth(objects, shapes, classes)
        answers = _answers(found, shapes, masked=masked)
        return {name: _scored(truth, answers, KINDS[name]) for name in (KINDS if masked else ("boxes",))}


def _scored(truth: COCO, answers: Sequence[dict[str, Any]], kind: str) -> dict[str, Any]:
    if not answers:
        empty = [None if not _counted(truth, k) else 0.0 for k in truth.getCatIds()]
        whole = 0.0 if any(each is not None for each in empty) else None
        return dict.fromkeys(SCORES, whole) | {"per_class": empty}
    own = [dict(each) for each in answers]  # loadRes adds to them
    for each in own:
        del each["bbox" if kind == "segm" else "segmentation"]
    evaluation = COCOeval(truth, truth.loadRes(own), kind)
    prepare = evaluation._prepare

    def with_difficult() -> None:
        prepare()
        for annotation in (each for several in evaluation._gts.values() for each in several):
            annotation["ignore"] = annotation["ignore"] or annotation["difficult"]

    evaluation._prepare = with_difficult
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # IoU, recall, class; all areas, most detections
    return {name: _known(float(evaluation.stats[AT[name]])) for name in SCORES} | {
        "per_class": [_mean(precision[:, :, k]) for k in range(precision.shape[2])]
    }


def _counted(truth: COCO, category: int) -> bool:
    annotations = truth.loadAnns(truth.getAnnIds(catIds=[category]))
    return any(not (each["iscrowd"] or each["difficult"]) for each in annotations)


def _known(value: float) -> float | None:
    """None for -1, which stands for no object."""
    return None if value < 0 else value


def _mean(precision: NDArray[np.float64]) -> float | None:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else None


def _truth(objects: ObjectRows, shapes: Sequence[Shape], classes: Sequence[str]) -> COCO:
    annotations: list[dict[str, Any]] = []
    for image, (found, shape) in enumerate(zip(objects, shapes, strict=True), start=1):
        for k in range(len(found)):
            x0, y0, x1, y1 = map(float, found.boxes[k])
            flags = int(found.flags[k])
            about = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
            if found.masks is not None:
                packed = _packed(found.masks[k], shape)
                about |= {"segmentation": packed, "area": float(coco_mask.area(packed))}
            about |= {"iscrowd": int(flags & IS_CROWD > 0), "difficult": int(flags & IS_DIFFICULT > 0)}
            known = {"id": len(annotations) + 1, "image_id": image, "category_id": int(found.labels[k]) + 1}
            annotations.append(known | about)
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": k, "height": h, "width": w} for k, (h, w) in enumerate(shapes, start=1)],
        "annotations": annotations,
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes, start=1)],
    }
    truth.createIndex()
    return truth


def _packed(runs: Runs, shape: Shape) -> Any:
    return coco_mask.frPyObjects({"counts": runs.tolist(), "size": list(shape)}, *shape)


def _answers(found: Sequence[Found], shapes: Sequence[Shape], *, masked: bool) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    for image, (each, shape) in enumerate(zip(found, shapes, strict=True), start=1):
        masks = each.masks if masked else None
        for k, (x0, y0, x1, y1) in enumerate(each.boxes.astype(float).tolist()):
            answers.append(
                {
                    "image_id": image,
                    "category_id": int(each.labels[k]) + 1,
                    "score": float(each.scores[k]),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": None if masks is None else _packed(masks[k], shape),
                }
            )
    return answers
