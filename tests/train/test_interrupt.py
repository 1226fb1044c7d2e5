"""The first Ctrl-C asks, the second insists, and afterwards Ctrl-C is what it was."""

import signal
import threading

import pytest

from minires.train.interrupt import Interrupts, Stopped


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


def test_the_first_is_noted_and_the_second_raises():
    with Interrupts() as interrupts:
        interrupts.check()
        press_ctrl_c()
        with pytest.raises(Stopped):
            interrupts.check()
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()


def test_afterwards_the_handler_is_what_it_was():
    before = signal.getsignal(signal.SIGINT)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_outside_the_main_thread_it_does_nothing():
    seen = []

    def elsewhere():
        with Interrupts() as interrupts:
            interrupts.check()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
