"""The database's schema, step by step: Alembic revisions in `versions/`, run by `corral.database.upgrade`."""
