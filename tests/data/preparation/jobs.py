"""Work for worker processes: what decoders do on a bad day."""

from __future__ import annotations

import os
import signal
import time

from mvit_video.errors import VideoError


def work(job: str) -> str:
    """Does what the job says."""
    if job == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        time.sleep(1000)
    if job == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job == "leave":
        os._exit(3)
    if job == "bad":
        raise VideoError(job, "is bad")
    if job == "full disk":
        raise OSError(28, "No space left on device", "/full")
    return job.upper()
