"""Transfer to detection and segmentation: a run's backbone, fine-tuned as a part of Faster R-CNN or Mask R-CNN."""
