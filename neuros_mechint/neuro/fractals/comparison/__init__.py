"""Whether a model is as complex as a brain: one metric of both, matched in length and sampling."""
