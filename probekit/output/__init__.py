"""Where the lines, progress and pictures of a command go."""
