"""Copies between the host and a container, as a program of its own:

    python -I -S copy.py in|out INIT_PID SOURCE TARGET UID GID

One side is opened on the host before the process moves into the container's mount namespace and root; the other is
looked up there. So a link that the container made leads to where the container sees it, never into the host, and what
is bound into the container is found. Semantics are those of `rsync -r -p --links SOURCE TARGET`: a source with a slash
at its end means its content, files keep their modes, links stay links, devices and sockets are passed over. UID and
GID own what is written; what comes out loses its set-id bits, for it may be root who owns it then. Stdlib only;
everything is imported before the root changes.
"""

import contextlib
import ctypes
import os
import stat
import sys

CLONE_NEWNS = 0x00020000
CHUNK = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_TARGET = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def enter(init_pid: int) -> None:
    """Into the container's mount namespace; root and working folder are the container's then."""
    namespace = os.open(f"/proc/{init_pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    root = os.open(f"/proc/{init_pid}/root", _FOLDER)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNS):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "setns")
    os.fchdir(root)
    os.chroot(".")
    os.close(namespace)
    os.close(root)


def _is_folder(name: str, within: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=within, follow_symlinks=False).st_mode)


class Copier:
    """uid, gid: whose the copies are. bits: those of a mode that are kept."""

    def __init__(self, uid: int, gid: int, bits: int) -> None:
        self._owner = (uid, gid)
        self._bits = bits

    def entry(self, source: int, name: str, target: int, as_name: str) -> None:
        """One entry of the open folder `source` to one of the open folder `target`."""
        state = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(state.st_mode):
            self._folder(source, name, state, target, as_name)
        elif stat.S_ISLNK(state.st_mode):
            self._clear(target, as_name)
            os.symlink(os.readlink(name, dir_fd=source), as_name, dir_fd=target)
            os.chown(as_name, *self._owner, dir_fd=target, follow_symlinks=False)
        elif stat.S_ISREG(state.st_mode):
            self._file(source, name, target, as_name)

    def content(self, source: int, target: int) -> None:
        """All entries of one open folder into another."""
        for name in os.listdir(source):
            self.entry(source, name, target, name)

    def _clear(self, target: int, name: str) -> None:
        """What is no folder makes way."""
        with contextlib.suppress(FileNotFoundError):
            if not _is_folder(name, target):
                os.unlink(name, dir_fd=target)

    def _folder(self, source: int, name: str, state: os.stat_result, target: int, as_name: str) -> None:
        self._clear(target, as_name)
        with contextlib.suppress(FileExistsError):
            os.mkdir(as_name, dir_fd=target)
        inner_source = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=source)
        inner_target = os.open(as_name, _FOLDER | os.O_NOFOLLOW, dir_fd=target)
        try:
            self.content(inner_source, inner_target)
            self.finish(inner_target, state.st_mode)
        finally:
            os.close(inner_source)
            os.close(inner_target)

    def _file(self, source: int, name: str, target: int, as_name: str) -> None:
        # Not blocking: what was a file may have become a pipe since.
        read_from = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
        try:
            state = os.fstat(read_from)
            if not stat.S_ISREG(state.st_mode):
                return
            self._clear(target, as_name)
            write_to = os.open(as_name, _TARGET, 0o600, dir_fd=target)
            try:
                while data := os.read(read_from, CHUNK):
                    while data:
                        data = data[os.write(write_to, data) :]
                self.finish(write_to, state.st_mode)
            finally:
                os.close(write_to)
        finally:
            os.close(read_from)

    def finish(self, descriptor: int, mode: int) -> None:
        os.fchown(descriptor, *self._owner)
        os.fchmod(descriptor, mode & self._bits)


def split(path: str) -> tuple[str, str]:
    """Folder and last name; the name is "" where the path ends with a slash, or names no entry of its folder."""
    folder, name = os.path.split(path)
    return (path, "") if name in (".", "..") else (folder or ".", name)


def make_folders(path: str, copier: Copier) -> int:
    """An open folder, made with those above it as far as they are missing."""
    walked = os.open("/" if path.startswith("/") else ".", _FOLDER)
    for part in path.split("/"):
        if part in ("", "."):
            continue
        try:
            following = os.open(part, _FOLDER, dir_fd=walked)
        except FileNotFoundError:
            os.mkdir(part, 0o755, dir_fd=walked)
            following = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=walked)
            copier.finish(following, 0o755)
        os.close(walked)
        walked = following
    return walked


def open_source(path: str) -> tuple[int, str]:
    """The folder that holds the source, and its name there; "" for the content of the folder itself."""
    folder, name = split(path)
    descriptor = os.open(folder, _FOLDER)
    if name:
        os.stat(name, dir_fd=descriptor, follow_symlinks=False)  # missing: say so before anything is written
    return descriptor, name


def write(source: int, name: str, path: str, copier: Copier) -> None:
    """The source to `path`, by rsync's rules: into it where it is a folder or more than one entry comes."""
    folder, as_name = split(path)
    if not name:
        target = make_folders(path, copier)
        copier.content(source, target)
    elif not as_name or os.path.isdir(path) or _is_folder(name, source):
        target = make_folders(path, copier)
        copier.entry(source, name, target, name)
    else:
        target = os.open(folder, _FOLDER)
        copier.entry(source, name, target, as_name)
    os.close(target)


def main(way: str, init_pid: int, source_path: str, target_path: str, uid: int, gid: int) -> None:
    os.umask(0o022)
    copier = Copier(uid, gid, 0o7777 if way == "in" else 0o1777)
    if way == "in":
        source, name = open_source(source_path)
        enter(init_pid)
        write(source, name, target_path, copier)
        return
    # The target's folder is opened on the host before; its last part is made by the parent.
    host = os.open("/", _FOLDER)
    here = os.getcwd()
    enter(init_pid)
    source, name = open_source(source_path)
    os.fchdir(host)
    os.chroot(".")
    os.chdir(here)
    write(source, name, target_path, copier)


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6]))
    except OSError as error:
        sys.exit(f"{error.filename or sys.argv[3]}: {error.strerror}")
