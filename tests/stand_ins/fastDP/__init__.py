"""Stand-in for FastDP, see README.md."""

from .privacy_engine import PrivacyEngine, PrivacyEngine_Distributed_extending

__all__ = ["PrivacyEngine", "PrivacyEngine_Distributed_extending"]
__version__ = "2.0.0"
