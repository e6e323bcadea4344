"""Commands that make images, and `verify`, which makes them again."""
