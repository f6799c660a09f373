"""Files that appear whole or not at all."""

import errno
import fcntl
import os
import stat

import pytest

from fastmlp.files.atomic import replacing

LONGEST = 255  # bytes of a name, on the file systems that people use


def write(path, content=b"new"):
    with replacing(str(path)) as stream:
        stream.write(content)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


def test_a_file_is_replaced_alone(path):
    write(path)
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == [path.name]


def test_the_old_file_stands_until_the_end(path):
    with replacing(str(path)) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("stage", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interruption_leaves_the_old_file(path, monkeypatch, stage, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(os, stage, fail)
    with pytest.raises(type(error)):
        write(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_an_exception_in_the_block_leaves_the_old_file(path):
    with pytest.raises(TypeError, match="bytes-like"):
        write(path, "no bytes")
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_permissions_and_symbolic_links_stay(path):
    path.chmod(0o640)
    link = path.with_name("link")
    link.symlink_to(path)
    write(link)
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_what_is_not_a_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in tmp_path, tmp_path / "pipe":
        with pytest.raises(OSError, match="is a directory or a device"):
            write(place)
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize(("place", "named"), [("no/such/folder/file", "no/such/folder"), ("file/file", "file")])
def test_a_folder_that_is_none_is_named(path, monkeypatch, place, named):
    monkeypatch.chdir(path.parent)
    with pytest.raises((FileNotFoundError, NotADirectoryError)) as caught:
        write(place)
    assert caught.value.filename == str(path.parent / named)
    assert ".tmp" not in str(caught.value)


@pytest.mark.parametrize("name", ["n" * LONGEST, "é" * (LONGEST // 2)])
def test_every_name_that_the_system_takes_can_be_written(tmp_path, name):
    write(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


def test_the_folder_is_told_to_the_disk_after_the_file(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def record_replace(*names):
        calls.append("replace")
        replace(*names)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    write(path)
    assert calls == ["file", "replace", "folder"]


KILLED = """
import os, signal
from fastmlp.files.atomic import replacing
with replacing({path!r}) as stream:
    stream.write(b"half")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_what_a_killed_process_left_is_removed_by_the_next_one(path, run_python):
    for _ in range(2):
        assert run_python(KILLED.format(path=str(path))).returncode == -9
        assert path.read_bytes() == b"old"
        assert len(os.listdir(path.parent)) == 2  # the second one has removed what the first one left
    write(path.with_name("another"))
    assert sorted(os.listdir(path.parent)) == ["another", "file"]


def test_what_is_still_being_written_is_no_leftover(path):
    with replacing(str(path)) as stream:
        write(path.with_name("another"))
        write(path, b"between")
        stream.write(b"last")
    assert path.read_bytes() == b"last"
    assert sorted(os.listdir(path.parent)) == ["another", "file"]


def test_other_files_are_no_leftovers(path):
    for name in "fastmlp-notes.tmp", "file.0123456789abcdef.tmp", "fastmlp-0123456789abcdef.tmp.gz":
        path.with_name(name).touch()
    before = os.listdir(path.parent)
    write(path)
    assert sorted(os.listdir(path.parent)) == sorted(before)


def test_a_new_file_that_another_save_takes_for_a_leftover_is_made_again(path, monkeypatch):
    flock, taken = fcntl.flock, []

    def come_late(stream, operation):
        if not taken:
            taken.append(stream.name)
            os.unlink(stream.name)
        flock(stream, operation)

    monkeypatch.setattr(fcntl, "flock", come_late)
    write(path)
    assert len(taken) == 1
    assert path.read_bytes() == b"new"


def test_a_file_system_without_locks_will_do(path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    leftover = path.with_name("fastmlp-0123456789abcdef.tmp")
    leftover.touch()
    write(path)
    assert path.read_bytes() == b"new"
    assert leftover.exists()
