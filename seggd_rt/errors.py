"""Every error seggd-rt raises on purpose, one tree with one root.

    SeggdError
    ├── OptionError             a setting outside its range, or a name that is not there (also a ValueError)
    ├── DataError               an array or file that cannot be what it is given as (also a ValueError)
    │   └── LabelMapError       a label map of the wrong type, shape or labels
    ├── CheckpointError         a checkpoint that is unsafe, damaged or of an unknown form
    ├── BundleError             a bundle that is not one, or not whole
    │   ├── ManifestError       bundle.json breaks its schema
    │   ├── BundleVersionError  bundle.json follows a newer schema than this version knows
    │   ├── IntegrityError      a file is missing, changed or outside the folder
    │   └── SignatureError      a signature that is required is missing, another key's, or does not hold
    ├── ExportError             an export that failed, or did not prove itself
    ├── EngineError             an engine failed while building or running
    │   ├── EngineUnavailableError  an engine, device or precision cannot be had here
    │   └── EngineCheckError    an engine's outputs miss the bundle's golden states
    ├── OutputError             a result cannot be written (also an OSError)
    ├── RejectedError           an image does not show its label map well enough
    └── MissingExtraError       an optional dependency is not installed (also an ImportError)

Messages are one or two sentences: what is wrong, with its value, then what to do next.
"""

from __future__ import annotations


class SeggdError(Exception):
    """Root of every error seggd-rt raises on purpose."""


class OptionError(SeggdError, ValueError):
    """A setting is outside its range, or names something that is not there."""


class DataError(SeggdError, ValueError):
    """An array or a file cannot be what it is given as."""


class LabelMapError(DataError):
    """A label map has the wrong type, shape or labels."""


class CheckpointError(SeggdError):
    """A checkpoint is unsafe to load, damaged or of an unknown form."""


class BundleError(SeggdError):
    """A bundle is not one, or is not whole."""


class ManifestError(BundleError):
    """`bundle.json` breaks its schema."""


class BundleVersionError(BundleError):
    """`bundle.json` follows a newer schema than this version knows."""


class IntegrityError(BundleError):
    """A file of the bundle is missing, changed or outside its folder."""


class SignatureError(BundleError):
    """A signature that is required is missing, is another key's, or does not hold."""


class ExportError(SeggdError):
    """An export failed, or did not prove itself against PyTorch."""


class EngineError(SeggdError):
    """An engine failed while it was built or run."""


class EngineUnavailableError(EngineError):
    """An engine, device or precision cannot be had on this machine."""


class EngineCheckError(EngineError):
    """An engine's outputs miss the bundle's golden states."""


class OutputError(SeggdError, OSError):
    """A result cannot be written."""


class RejectedError(SeggdError):
    """An image does not show its label map as well as was asked, however often it was drawn."""


class MissingExtraError(SeggdError, ImportError):
    """An optional dependency is not installed."""
