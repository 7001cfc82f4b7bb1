"""``scpln predict`` and ``scpln map``: a saved model and new cells."""

__all__ = []
