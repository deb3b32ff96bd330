"""An object store on this machine that can be away for a while: moto's S3 behind a door."""

import logging
import os
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass

from moto.server import ThreadedMotoServer
from pyarrow import fs

BUCKET = "bucket"


@dataclass
class Door:
    """Hands connections on to another port of this machine, as long as it is open.

    Args:
        inner: the port behind it.
    """

    inner: int

    def __post_init__(self):
        self._open, self._pipes = False, set()
        self.port = 0  # any free one, and the same ever after
        self.open()

    def open(self):
        """Accept connections."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._open = True
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self):
        """Cut all connections and refuse new ones."""
        self._open = False
        for end in (self._listener, *self._pipes.copy()):  # other threads change it
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._pipes.clear()

    def _accept(self, listener):
        with suppress(OSError):
            while True:
                outer, _ = listener.accept()
                inner = socket.create_connection(("127.0.0.1", self.inner))
                self._pipes |= {outer, inner}
                if not self._open:
                    self.close()
                for source, target in ((outer, inner), (inner, outer)):
                    threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    def _copy(self, source, target):
        with suppress(OSError):
            while chunk := source.recv(1 << 16):
                target.sendall(chunk)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            self._pipes.discard(end)


class ObjectStore:
    """A bucket, reached through a door; a context manager that tells pyarrow of it by the environment."""

    def __enter__(self):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        _, port = self._server.get_host_and_port()
        self.door = Door(port)
        self._before = dict(os.environ)
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "planted-id",
            "AWS_SECRET_ACCESS_KEY": "planted-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.door.port}",
        }
        self._behind = fs.S3FileSystem(
            endpoint_override=f"http://127.0.0.1:{port}", allow_bucket_creation=True
        )
        self._behind.create_dir(BUCKET)
        return self

    def __exit__(self, *_):
        os.environ.clear()
        os.environ.update(self._before)
        self.door.close()
        self._server.stop()

    def files(self, folder):
        """Paths of the files in a folder of the bucket, whether or not the door is open."""
        selector = fs.FileSelector(f"{BUCKET}/{folder}", recursive=True, allow_not_found=True)
        return sorted(info.path for info in self._behind.get_file_info(selector) if info.is_file)

    def read(self, path):
        """A file of the bucket."""
        with self._behind.open_input_file(f"{BUCKET}/{path}") as stream:
            return stream.read()

    def fetch(self, folder, to):
        """Copy a folder of the bucket to a disk."""
        fs.copy_files(
            f"{BUCKET}/{folder}",
            str(to),
            source_filesystem=self._behind,
            destination_filesystem=fs.LocalFileSystem(),
        )
        return to
