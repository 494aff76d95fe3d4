"""What runs on a GPU once one is at hand: QUEUE.md is the list, first.sh its first entry."""
