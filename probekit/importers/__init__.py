"""Other people's data, turned into the dataset file."""
