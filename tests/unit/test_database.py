"""The database: made once, upgraded in place, and its troubles told in words."""

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from corral import database
from corral.errors import SettingsError, StoreError
from corral.files import tables as files_tables
from corral.jobs import tables as jobs_tables
from corral.registry import tables
from corral.settings import Settings

VALUE = sa.select(tables.counters.c.value).where(tables.counters.c.name == "catalog")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


def test_the_first_use_makes_it_and_later_ones_find_it(settings: Settings) -> None:
    assert not database.exists(settings)
    engine = database.ready(settings)
    assert database.exists(settings)
    assert database.ready(settings) is engine
    with database.reading(engine) as connection:
        assert connection.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(sa.text("PRAGMA foreign_keys")).scalar() == 1
        identity = connection.execute(sa.select(tables.identity.c.id)).scalars().all()
    assert len(identity) == 1
    database.upgrade(engine)
    with database.reading(engine) as connection:
        assert connection.execute(sa.select(tables.identity.c.id)).scalars().all() == identity


def test_the_revisions_are_one_line_and_the_head_is_its_end() -> None:
    config = Config()
    config.set_main_option("script_location", "corral:migrations")
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [database.head()]


def test_the_migrations_make_what_the_tables_declare(settings: Settings) -> None:
    inspector = sa.inspect(database.ready(settings))
    declared = database.metadata.sorted_tables
    assert {tables.artifacts, jobs_tables.jobs, files_tables.files} <= set(declared)
    for table in declared:
        made = {column["name"]: column for column in inspector.get_columns(table.name)}
        assert set(made) == {column.name for column in table.columns}
        for column in table.columns:
            assert str(made[column.name]["type"]) == str(column.type), (table.name, column.name)
            assert made[column.name]["nullable"] == column.nullable, (table.name, column.name)


def test_an_exception_undoes_the_whole_transaction(settings: Settings) -> None:
    engine = database.ready(settings)

    def begin_and_fail() -> None:
        with database.writing(engine) as connection:
            connection.execute(sa.update(tables.counters).values(value=7))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        begin_and_fail()
    with database.reading(engine) as connection:
        assert connection.execute(VALUE).scalar() == 0


def test_writers_take_turns_from_their_first_read(settings: Settings) -> None:
    """Read, then write what was read plus one: a second writer between the two would be lost."""
    engine = database.ready(settings)

    def grow() -> None:
        for _ in range(20):
            with database.writing(engine) as connection:
                seen = connection.execute(VALUE).scalar_one()
                connection.execute(sa.update(tables.counters).values(value=seen + 1))

    threads = [threading.Thread(target=grow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading(engine) as connection:
        assert connection.execute(VALUE).scalar() == 80


def test_a_reader_sees_one_moment(settings: Settings) -> None:
    engine = database.ready(settings)
    value = VALUE
    with database.reading(engine) as reader:
        before = reader.execute(value).scalar()
        with database.writing(engine) as writer:
            writer.execute(sa.update(tables.counters).values(value=9))
        assert reader.execute(value).scalar() == before
    with database.reading(engine) as reader:
        assert reader.execute(value).scalar() == 9


def test_a_deleted_database_is_made_anew(settings: Settings) -> None:
    database.ready(settings)
    for path in settings.data_dir.iterdir():
        path.unlink()
    engine = database.ready(settings)
    with database.reading(engine) as connection:
        assert connection.execute(VALUE).scalar() == 0


@pytest.mark.parametrize("content", ["empty", "another"])
def test_a_database_put_in_its_place_is_used(settings: Settings, content: str) -> None:
    """`empty`: what a connection leaves that was made just after the file went away."""
    file = settings.database_file
    assert file is not None
    database.ready(settings)
    for path in list(file.parent.glob("corral.db*")):
        path.rename(path.with_name("away-" + path.name))
    if content == "empty":
        file.touch()
    else:
        other = database.ready(Settings(database_url=f"sqlite:///{file}-other"))
        other.dispose()
        Path(f"{file}-other").rename(file)
    with database.writing(database.ready(settings)) as connection:
        connection.execute(sa.update(tables.counters).values(value=7))
    away = Settings(database_url=f"sqlite:///{file.with_name('away-corral.db')}")
    with database.reading(database.ready(settings)) as connection:
        assert connection.execute(VALUE).scalar() == 7
    with database.reading(database.ready(away)) as connection:
        assert connection.execute(VALUE).scalar() == 0


def test_a_database_of_a_newer_corral_is_left_alone(settings: Settings) -> None:
    engine = database.ready(settings)
    with database.writing(engine) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"is of a newer Corral \(revision 9999, this one knows 0"):
        database.upgrade(engine)


def test_a_file_that_is_no_database_is_told(settings: Settings) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "corral.db").write_text("not a database, " * 100)
    with pytest.raises(
        StoreError, match=r"corral\.db cannot be used: file is not a database; rest"
    ):
        database.ready(settings)


def test_a_bug_in_a_statement_stays_a_bug(settings: Settings) -> None:
    engine = database.ready(settings)
    rows = [{"id": "same"}, {"id": "same"}]
    with pytest.raises(sa.exc.IntegrityError), database.writing(engine) as connection:
        connection.execute(sa.insert(tables.identity), rows)


@pytest.mark.parametrize("url", ["nonsense", "nosuchsql://x"])
def test_an_address_that_cannot_be_used_is_told(tmp_path: Path, url: str) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, "database_url": url})
    with pytest.raises(
        SettingsError, match=r"setting `database_url` cannot be used: .*it looks like"
    ):
        database.engine(settings)


def test_an_address_can_be_set_and_is_not_shown(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/else/where.db"
    settings = Settings.model_validate({"data_dir": tmp_path, "database_url": url})
    assert settings.database_file == tmp_path / "else/where.db"
    database.ready(settings)
    assert (tmp_path / "else/where.db").exists()
    assert settings.redacted()["database_url"] == "**********"
    other = Settings.model_validate({"database_url": "postgresql+psycopg://u:secret@h/d"})
    assert other.database_file is None
    assert database.exists(other)


def test_engines_do_not_pile_up(tmp_path: Path) -> None:
    made = [database.engine(Settings(data_dir=tmp_path / str(n))) for n in range(10)]
    assert database.engine(Settings(data_dir=tmp_path / "9")) is made[9]
    assert database.engine(Settings(data_dir=tmp_path / "0")) is not made[0]
