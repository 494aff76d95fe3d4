"""Probes and baselines: arithmetic on arrays that never sees a model class; `measurements` has what is asked."""

PROTOCOLS = {  # name: what it means, in a line
    "tuned": "tuned (features standardised, C chosen on a validation part of train)",
    "fixed": "fixed (features as they are, C = 1)",
}

RETRIEVAL = {  # name: what it means, in a line; each is a share in [0, 1]
    "rank1": "the nearest image has the class",
    "rank5": "one of the 5 nearest has",
    "map": "average precision over the complete ranking",
    "map_at_r": "precision at the relevant ranks among the first R, over R (R: relevant images)",
    "r_precision": "relevant share of the first R",
    "precision3": "relevant share of the first 3: the positive gallery",
    "precision18_20": "relevant share of ranks 18 to 20: the negative gallery",
}

AP_FORMS = {
    "voc2007": "11-point: mean over recalls 0, .1, ..., 1 of the best precision from there on (VOC 2007 to 2009)",
    "voc2010": "area under the precision-recall curve made to fall monotonically (VOC from 2010 on)",
    "step": "sum of precision times the step in recall, nothing made monotone (scikit-learn)",
}

MONITORS = {  # of `train.monitor`: what is scored while an encoder is trained
    "linear": "accuracy of a linear probe on the frozen encoder under protocol fixed (features as they are, C = 1)",
    "knn": "accuracy of 200 weighted nearest neighbours in train by cosine, T = 0.1",
    "kappa": "quadratic-weighted kappa of a linear probe on the frozen encoder under protocol fixed",
}
MONITORED = {"embedding": "", "projection": ", of the projection that the loss compares"}  # by `train.monitored`
SIGNED = ("kappa",)  # of these monitors: in [-1, 1], and no share of the images

FOLDS = 5  # ConRec paper, section 4.2
REPEATS = 5  # authors' code, final script
METRICS = {
    "kappa": "quadratic-weighted kappa, in [-1, 1]; 0 is chance",
    "accuracy": "accuracy",
}
