"""Where code that a model wrote is run: a process that cannot reach what the replica can.

It is made in two steps. `begin` comes first of all, while the process has one thread: namespaces of its own,
in which it is process 1, so that whatever it starts dies with it. Then tasks are opened, which may need the
network and caches. `Sandbox.enter` gives up the rest for good: network, user, memory, files. What the system
does not allow (containers often forbid namespaces) is left out, and `enter` says what.

The kernel is called through ctypes; the numbers are those of Linux's headers sched.h, mount.h, prctl.h,
capability.h and landlock.h, the same on x86-64 and ARM. How Landlock restricts files:
https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import struct
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

MEMORY = 4 << 30  # bytes that a process may take in addition to what it has when it enters
TASKS = 64  # processes and threads, likewise
FILE_SIZE = 64 << 20
FOLDER_SIZE = 256 << 20  # of all files, where the folder can be a filesystem of its own

VARIABLES = re.compile(
    r"HOME|LANG|LANGUAGE|LC_\w+|LD_LIBRARY_PATH|NLTK_DATA|OMP_NUM_THREADS|PATH|PYTHON\w*|TZ|XDG_CACHE_HOME"
    r"|(CURL|REQUESTS)_CA_BUNDLE|SSL_CERT_(DIR|FILE)|(HF|TRANSFORMERS)_(\w+_)?(CACHE|ENDPOINT|HOME|OFFLINE)"
    r"|(HF_HUB|TQDM)_DISABLE\w*|TOKENIZERS_PARALLELISM"
)
"""Environment variables that the process gets: none is a secret."""
PROXIES = re.compile(r"(ALL|HTTPS?|NO)_PROXY", re.IGNORECASE)
"""Further ones, if they contain no password."""

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/proc", "/sys/devices/system/cpu")
SETTINGS = ("alternatives", "group", "hosts", "ld.so.cache", "localtime", "nsswitch.conf", "passwd", "ssl")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where the semaphores of multiprocessing are

_NEW_MOUNTS, _NEW_IPC, _NEW_USER, _NEW_PIDS, _NEW_NETWORK = 1 << 17, 1 << 27, 1 << 28, 1 << 29, 1 << 30
_PRIVATE, _RECURSIVELY = 1 << 18, 1 << 14
_READ_ONLY, _NO_SETUID, _NO_DEVICES, _REMOUNT, _BIND = 1, 1 << 1, 1 << 2, 1 << 5, 1 << 12
_DEATH_SIGNAL, _DUMPABLE, _KEEP_CAPABILITIES, _SUBREAPER, _NO_NEW_PRIVILEGES, _AMBIENT = 1, 4, 8, 36, 38, 47
_RAISE = 2  # an ambient capability
_READ_ANY_FILE = 2  # the capability
_CAPABILITY_VERSION = 0x20080522
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # system calls
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_FILE_RIGHTS = (13, 14, 15, 16, 16)  # how many of them versions 1 to 5 of Landlock know
_ALL_TCP = 0b11  # from version 4 on
_ALL_SCOPES = 0b11  # abstract sockets and signals, from version 6 on
_FIRST_USER, _USERS = 50_000, 15_000

_libc = ctypes.CDLL(None, use_errno=True)


def environment(folder: str) -> dict[str, str]:
    """The environment of a sandboxed process, made of this one's: no tokens, no keys.

    Temporary files and the caches of metrics are put in the folder where it may write.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if VARIABLES.fullmatch(name) or (PROXIES.fullmatch(name) and "@" not in value)
    }
    return kept | {"TMPDIR": folder, "HF_METRICS_CACHE": folder}


def begin(folder: str) -> Sandbox:
    """Take namespaces of one's own, if the system allows that; the process must have one thread.

    The caller goes on as a child of the process that called, which ends with it; it may write in a folder,
    which is empty.
    """
    if not (trial := os.fork()):
        with suppress(BaseException):  # whatever it is, the parent goes on without
            _separate(folder)
            os._exit(_libc.unshare(_NEW_NETWORK) & 1)
        os._exit(1)
    sandbox = Sandbox(Path(folder), apart=os.waitpid(trial, 0)[1] == 0)
    if not sandbox.apart:
        return sandbox
    _separate(folder)
    if child := os.fork():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
    _libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    return sandbox


def _separate(folder: str) -> None:
    """Leave the namespaces of mounts, processes and IPC; the next child is process 1."""
    user, group = os.geteuid(), os.getegid()
    _check(_libc.unshare(_NEW_MOUNTS | _NEW_PIDS | _NEW_IPC | (_NEW_USER if user else 0)))
    if user:
        Path("/proc/self/setgroups").write_text("deny", "ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", "ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", "ascii")
    _check(_libc.mount(None, b"/", None, _PRIVATE | _RECURSIVELY, None))
    _mount_memory(folder)


def _mount_memory(path: str) -> None:
    """Mount a new filesystem in memory, which anyone may write to."""
    options = f"size={FOLDER_SIZE},mode=1777".encode()
    _check(_libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", _NO_SETUID | _NO_DEVICES, options))


class Sandbox:
    """A process that gives up its rights, and may write in one folder."""

    def __init__(self, folder: Path, *, apart: bool) -> None:
        self._folder = folder
        self._user = _FIRST_USER + os.getpid() % _USERS  # who owns nothing, for root to become
        self.apart = apart  # whether it has namespaces of its own
        self.entered = False

    def enter(self, readable: Iterable[str]) -> list[str]:
        """Give up what code of a model must not have; must be called by the thread that runs such code.

        Files and folders that are `readable` may be read in addition to the system's and Python's own.
        Returns what the system does not let it give up, in words.
        """
        self.entered = True
        os.chdir(self._folder)
        tempfile.tempdir = None  # computed again, from TMPDIR
        steps: dict[str, Callable[[], object]] = {
            "its own shared memory": lambda: self._leave_shared_memory(readable),
            "its own network": lambda: _check(_libc.unshare(_NEW_NETWORK) if self.apart else -1),
            "its own user": self._leave_user,
            "limits of memory and processes": self._limit,
            "read-only files": lambda: self._restrict_files(readable),
        }
        refused = []
        for what, step in steps.items():
            try:
                step()
            except OSError:
                refused.append(what)
        return refused

    def end_others(self) -> None:
        """Kill all that code of a model has started and not ended."""
        if self.apart or os.geteuid() == self._user:
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)  # all that this process may kill, but itself
        else:
            import psutil  # noqa: PLC0415 - needed here only

            while others := psutil.Process().children(recursive=True):
                for process in others:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                psutil.wait_procs(others, timeout=1)
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)

    def _leave_shared_memory(self, readable: Iterable[str]) -> None:
        """Mount another one over the machine's, in which what may be read stays visible, but not writable."""
        _check(0 if self.apart else -1)
        read = (path for path in (self._folder, *_read(readable)) if Path(SHARED_MEMORY) in path.parents)
        kept = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in read if path.is_dir()}
        _mount_memory(SHARED_MEMORY)
        for path, opened in sorted(kept.items()):
            path.mkdir(parents=True, exist_ok=True)
            source, target = f"/proc/self/fd/{opened}".encode(), os.fsencode(path)
            _check(_libc.mount(source, target, None, _BIND | _RECURSIVELY, None))
            os.close(opened)
            if path != self._folder:
                restrictions = os.statvfs(path).f_flag & 0b1110 | _READ_ONLY  # none may be lifted
                _check(_libc.mount(None, target, None, _REMOUNT | _BIND | restrictions, None))

    def _leave_user(self) -> None:
        """Drop capabilities, and root becomes a user who owns nothing: no limit of processes stops root."""
        _libc.prctl(_SUBREAPER, 1, 0, 0, 0)
        if os.geteuid() != 0:
            _keep_capabilities(0)
            return
        for path in (self._folder, *self._folder.rglob("*")):
            os.chown(path, self._user, self._user, follow_symlinks=False)
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")  # the first to go when memory runs out
        _check(_libc.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0))
        os.setgroups([])
        os.setresgid(self._user, self._user, self._user)
        os.setresuid(self._user, self._user, self._user)
        _keep_capabilities(1 << _READ_ANY_FILE)  # Python may be in a folder of root
        _libc.prctl(_AMBIENT, _RAISE, _READ_ANY_FILE, 0, 0)
        _libc.prctl(_DUMPABLE, 1, 0, 0, 0)
        if self.apart:
            _libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)

    def _limit(self) -> None:
        """Limit memory and tasks, of which those of the user count or, in a namespace, of this process."""
        tasks = 0
        for folder in [Path("/proc/self")] if self.apart else Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if folder.stat().st_uid == os.geteuid():
                    tasks += len(list((folder / "task").iterdir()))
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        limits = {
            resource.RLIMIT_AS: pages * resource.getpagesize() + MEMORY,
            resource.RLIMIT_NPROC: tasks + TASKS,
            resource.RLIMIT_FSIZE: FILE_SIZE,
            resource.RLIMIT_CORE: 0,
        }
        for limit, value in limits.items():
            highest = resource.getrlimit(limit)[1]
            lowered = value if highest == resource.RLIM_INFINITY else min(value, highest)
            resource.setrlimit(limit, (lowered, lowered))

    def _restrict_files(self, readable: Iterable[str]) -> None:
        """Restrict this thread and its children to some files, by Landlock, if the kernel has it."""
        home = Path("~").expanduser() if "HOME" in os.environ else Path("/")
        settings = (f"/etc/{name}" for name in SETTINGS)
        rules = dict.fromkeys((*map(str, _read(readable) - {home, *home.parents}), *SYSTEM, *settings), False)
        rules |= dict.fromkeys((str(self._folder), SHARED_MEMORY, *DEVICES), True)  # may be changed, too
        version = _check(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1))
        everything = (1 << _FILE_RIGHTS[min(version, len(_FILE_RIGHTS)) - 1]) - 1
        fields = [everything, _ALL_TCP if version >= 4 else 0, _ALL_SCOPES if version >= 6 else 0]
        asked = struct.pack("=QQQ", *fields)[: 8 if version < 4 else 16 if version < 6 else 24]
        ruleset = _check(_libc.syscall(_CREATE_RULESET, asked, ctypes.c_size_t(len(asked)), 0))
        reading = _EXECUTE | _READ_FILE | _READ_DIR
        of_files = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
        for path, writable in rules.items():
            with suppress(FileNotFoundError, NotADirectoryError):
                target = os.open(path, os.O_PATH | os.O_CLOEXEC)
                allowed = everything & (-1 if writable else reading)
                allowed &= -1 if Path(path).is_dir() else of_files
                rule = struct.pack("=Qi", allowed, target)
                _check(_libc.syscall(_ADD_RULE, ruleset, 1, rule, 0))
                os.close(target)
        _check(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
        _check(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
        os.close(ruleset)


def _read(readable: Iterable[str]) -> set[Path]:
    """What may be read: Python's own files and folders, and further ones."""
    return {Path(name).resolve() for name in {*sys.path, sys.prefix, sys.base_prefix, *readable} if name}


def _keep_capabilities(kept: int) -> None:
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    _check(_libc.capset(header, struct.pack("=6I", kept, kept, kept, 0, 0, 0)))


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
