"""Linear probes and floors: functions of arrays that never see a model class."""

PROTOCOLS = {  # name: what it means, in a line
    "val": "val (features standardised, C chosen on a validation part of train)",
    "paper": "paper (features as they are, C = 1)",
}
