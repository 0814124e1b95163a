"""A platform that follows advice: windows and times that were worked out beforehand."""
