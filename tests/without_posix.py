"""Makes this process lack what Python lacks on Windows, or on macOS: `python -c "import without_posix; ..."`.

The standard library and the dependencies are imported first, as they are those of this system. `os.name` stays, since
paths are this system's.
"""

import os
import select
import signal
import sys
from importlib import import_module

IMPORTED = (
    *("asyncio", "concurrent.futures", "multiprocessing.connection", "subprocess", "tempfile", "unittest.mock"),
    "urllib.request",
    *("numpy.testing", "onnx", "rich.console", "rich.progress", "safetensors.numpy", "typer.testing"),
)
MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")
"""Modules that Windows does not have."""
NAMES = {
    os: """chown confstr fchmod fchown fork forkpty getegid geteuid getgid getloadavg getpgid getuid killpg lchown
        mkfifo mknod openpty posix_spawn pread pwrite register_at_fork sched_getaffinity sched_setaffinity setsid
        statvfs sysconf uname O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK WNOHANG""",
    signal: """SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGUSR1 SIGUSR2
        alarm pthread_kill pthread_sigmask setitimer""",
    select: "epoll poll",
}
"""Names of modules that Windows does have."""


def leave_out(platform: str, *more: str) -> None:
    """Makes this process one of `platform`, after importing what it needs and `more`."""
    for name in (*IMPORTED, *more):
        import_module(name)
    sys.platform = platform
    if platform != "win32":
        del os.sched_getaffinity, os.sched_setaffinity
        return
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for module, names in NAMES.items():
        for name in names.split():
            delattr(module, name)
