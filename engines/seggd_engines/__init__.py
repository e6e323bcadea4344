"""What executes a network and update rows on arrays: it knows no files but graphs, no manifests, no checkpoints."""
