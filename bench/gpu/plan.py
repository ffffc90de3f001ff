"""The checks, in the order in which they run. A first run on a new device may be the only one, so what everything else
needs comes first, and nothing waits for what another check measures."""

from dataclasses import dataclass

PARTS = {1: "whether it works", 2: "how fast it is", 3: "the long recipes"}
PART_SECONDS = 300.0


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: on the command line.
        part: of PARTS.
        what: it shows, in words.
        target: "module:function" under bench.gpu, called with a `check.Case`.
        seconds: it may take on a GPU.
    """

    name: str
    part: int
    what: str
    target: str
    seconds: float


CHECKS = (
    Check("loads", 1, "the model loads as a server loads it, proven at every size", "loads:loads", 60),
    Check("serves", 1, "a server on each transport, with its log", "loads:serves", 60),
    Check("answers", 1, "all 10,000 classes against the CPU's", "serving:compare_answers", 40),
    Check("steps", 1, "a training step as a CUDA graph, step by step, and by PyTorch", "equality:steps", 80),
    Check("stages", 1, "the same of the convolutional stages", "equality:stages", 80),
    Check("resume", 1, "an interrupted run that goes on", "equality:resume", 40),
    Check("publish", 1, "mlpserve-train, and the answers of what it published", "publishing:publish", 80),
    Check("conformance", 1, "the conformance suite against servers on the device", "conformance:conformance", 150),
    Check("training", 2, "seconds of an epoch, and to an accuracy", "training:measure", 70),
    Check("networks", 2, "the networks that are timed below", "networks:write", 60),
    Check("in-process", 2, "the runner alone", "serving:measure_in_process", 40),
    Check("grpc", 2, "requests over loopback", "serving:measure_servers", 100),
    Check("crossover", 2, "from which size on the device is faster than the CPU", "exploring:crossover", 60),
    Check("graphs", 2, "what CUDA graphs would gain", "exploring:graphs", 40),
    Check("fp16", 2, "what fp16 would gain, and whether it passes the golden samples", "exploring:fp16", 40),
    Check("threads", 2, "a runner for all threads against one each", "exploring:threads", 30),
    Check("memory", 2, "memory over mixed requests", "serving:watch_memory", 120),
    Check("stages-timed", 3, "accurate and best, reckoned from a few epochs of each stage", "recipes:reckon", 90),
    Check("best", 3, "the whole recipe best", "recipes:best", 280),
)
