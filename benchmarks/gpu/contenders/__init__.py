"""The programs that are compared on a GPU, and the networks they run."""
