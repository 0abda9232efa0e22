"""The serving benchmark: Corral beside what a user would pick instead (docs/performance.md)."""
