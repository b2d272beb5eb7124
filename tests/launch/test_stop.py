"""Signals set a flag, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from mvit_video.launch.stop import SIGNALS, StopFlag, let_signals_in, signals_held_back


@pytest.mark.parametrize("number", SIGNALS)
def test_each_signal_requests_a_stop(number):
    with StopFlag() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        assert stop.requeue == (number == signal.SIGUSR2)  # the others mean: for good


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopFlag():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_the_second_interrupt_is_not_waited_for(capfd):
    with pytest.raises(KeyboardInterrupt), StopFlag():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert "Ctrl-C again" in capfd.readouterr().err


def test_a_scheduler_may_signal_more_than_once():
    with StopFlag() as stop:
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGTERM):
            signal.raise_signal(number)
        assert stop.requested


def test_it_works_outside_the_main_thread_without_signals():
    requested = []

    def in_thread() -> None:
        with StopFlag() as stop:
            requested.append(stop.requested)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert requested == [False]


def test_a_process_begins_with_signals_held_back():
    def blocked_in_a_child() -> str:
        code = "import signal; print(len(signal.pthread_sigmask(signal.SIG_BLOCK, ())))"
        return subprocess.run([sys.executable, "-S", "-c", code], capture_output=True).stdout

    with signals_held_back():
        assert blocked_in_a_child() == b"3\n"
    assert blocked_in_a_child() == b"0\n"


def test_signals_wait_until_they_are_let_in():
    with StopFlag() as stop, signals_held_back():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
        assert not stop.requested
        let_signals_in()
        assert stop.requested
