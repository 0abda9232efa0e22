"""Models, adapters and files at rest: what there is, and whether it is sound."""
