"""Synthetic text-to-JSON training data for the bundled models: generic tasks for the base, FOLIO records for the adapter."""
