"""Commands that make, show, sign and describe bundles."""
