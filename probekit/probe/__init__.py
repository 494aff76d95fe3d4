"""Linear probes and floors: functions of arrays that never see a model class."""
