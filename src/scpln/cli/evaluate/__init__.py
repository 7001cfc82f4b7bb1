"""``scpln evaluate``: compare clusters of fits with known labels."""

__all__ = []
