"""The forecast: when the last lead of a run has its score, and what holds it back."""
