"""From images to the views that a method trains on: random numbers are drawn first, then applied."""
