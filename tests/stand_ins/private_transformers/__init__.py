"""Stand-in for private-transformers, see README.md."""

from .privacy_engine import PrivacyEngine

__all__ = ["PrivacyEngine"]
__version__ = "0.2.3"
