"""A signal at any moment is acted on: also between the last step before a wait and the wait."""

import subprocess
import sys

PROGRAM = """
import random, signal
from mlpserve_server.host.signals import Stop, stop_on_signals
random.seed(1)
stop = Stop()
stop_on_signals(stop)
signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGTERM))
for _ in range(20_000):
    stop._is_set = False
    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 4e-5))
    stop.wait()
"""


def test_a_signal_is_never_lost() -> None:
    """threading.Event in place of Stop hangs within as many rounds."""
    result = subprocess.run([sys.executable, "-c", PROGRAM], timeout=120, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
