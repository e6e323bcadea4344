"""Measurements against others and on special machines; they use the public API and are not in the wheel."""
