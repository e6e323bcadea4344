"""The version of seggd-rt, for modules below the package's public names."""

__version__ = "0.1.0"
