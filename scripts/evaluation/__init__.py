"""Judging answers: what is right, how sure that is, and how it is shown. Pure but for `asking` and `variants`."""
