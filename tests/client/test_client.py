"""Both clients through one suite, against real servers."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from support.mnist import mnist_images, mnist_labels
from support.processes import ServerProcess
from tests.support.clients import Call

import mlpserve_client
from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1.artifact_pb2 import ImageSpec, Manifest
from mlpserve.v1.classifier_pb2_grpc import ClassifierServiceServicer, add_ClassifierServiceServicer_to_server
from mlpserve_client import (
    Client,
    DeadlineExceededError,
    InvalidInputError,
    InvalidRequestError,
    MessageTooLargeError,
    MlpserveError,
    ModelChangedError,
    ModelNotFoundError,
    OverloadedError,
    ServerError,
    UnavailableError,
)
from mlpserve_server.errors import CallError, InvalidRequest, MessageTooLarge, NotReady, Overloaded, UnknownModel

# --- against the product -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["N,28,28", "N,784", "28,28"])
def test_forms_of_images(server: ServerProcess, call: Call, form: str) -> None:
    images = mnist_images()[:300]
    sent = {"N,28,28": images, "N,784": images.reshape(300, 784), "28,28": images[0]}[form]
    answer = call(server.address, "predict", sent)
    count = 1 if form == "28,28" else 300
    assert answer.class_ids.shape == answer.scores.shape == (count,)
    assert answer.probabilities is None
    assert (answer.class_ids == mnist_labels()[:count]).mean() > 0.9
    assert (answer.model.name, answer.model.version, len(answer.model.digest)) == ("mnist", 1, 64)


def test_large_arrays_are_split_and_joined_in_order(server: ServerProcess, call: Call) -> None:
    images = mnist_images()  # 10,000: three requests of at most 4,096
    answer = call(server.address, "predict", images, top_k=2, probabilities=True, timeout=60)
    assert answer.class_ids.shape == answer.scores.shape == (10_000, 2)
    assert answer.probabilities is not None
    assert answer.probabilities.shape == (10_000, 10)
    assert np.array_equal(answer.class_ids[:, 0], answer.probabilities.argmax(axis=1))
    assert (answer.class_ids[:, 0] == mnist_labels()).mean() > 0.95


def test_strided_views_are_sent_as_they_look(server: ServerProcess, call: Call) -> None:
    view = np.asfortranarray(mnist_images()[:64])[::2]
    whole = call(server.address, "predict", np.ascontiguousarray(view))
    assert np.array_equal(call(server.address, "predict", view).scores, whole.scores)


BAD_INPUTS = [
    (np.zeros((2, 28, 28), np.float32), "type float32; expected uint8"),
    (np.zeros((2, 14, 14), np.uint8), r"shape \(2, 14, 14\); expected \[N, 28, 28\]"),
    (np.zeros((0, 28, 28), np.uint8), "N at least 1"),
    (np.zeros((1, 2, 28, 28), np.uint8), "expected one image or N of them"),
    (np.zeros(784, np.uint8), r"expected \[N, 28, 28\]"),
    ([[1, 2], [3, 4]], "expected uint8"),
    (np.ones((2, 28, 28), np.uint8), r"every pixel is 0 or 1; expected 0 \(black\) to 255"),
]


@pytest.mark.parametrize(("images", "words"), BAD_INPUTS, ids=[words for _, words in BAD_INPUTS])
def test_bad_input_is_refused_before_it_is_sent(server: ServerProcess, call: Call, images: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        call(server.address, "predict", images)


def test_server_errors_are_typed(server: ServerProcess, call: Call) -> None:
    with pytest.raises(ModelNotFoundError, match="this server serves 'mnist'") as caught:
        call(server.address, "predict", mnist_images()[0], options={"model": "cats"})
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    assert caught.value.target == server.address
    for top_k in (0, 11):
        with pytest.raises(InvalidInputError, match=f"top_k is {top_k}; expected 1 to 10"):
            call(server.address, "predict", mnist_images()[0], top_k=top_k)


@pytest.mark.parametrize("options", [{"version": -1}, {"version": 2**32}])
def test_versions_that_no_request_can_hold(server: ServerProcess, call: Call, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="expected 0"):
        call(server.address, "predict", mnist_images()[0], options=options)


def test_information(server: ServerProcess, call: Call) -> None:
    assert call(server.address, "get_model").manifest.labels[3] == "3"
    assert call(server.address, "wait_ready", 10).model.version == 1
    assert [summary.model.version for summary in call(server.address, "list_models").models] == [1]


def test_timing_tells_queue_from_run(server: ServerProcess, call: Call) -> None:
    images = mnist_images()[:7]
    assert call(server.address, "predict", images).timing is None
    answer = call(server.address, "predict", images, timing=True, probabilities=True)
    assert answer.timing.batch_images == 7
    assert 0 <= answer.timing.queue_seconds < 10
    assert 0 < answer.timing.run_seconds < 10
    assert answer.probabilities.shape == (7, 10)
    parts = call(server.address, "predict", np.concatenate([mnist_images()[:3000]] * 3), timing=True)
    assert parts.timing.batch_images == 256, "of the largest part's last slice"


def test_nobody_there(call: Call) -> None:
    with pytest.raises(UnavailableError):
        call("127.0.0.1:1", "predict", mnist_images()[0], timeout=0.5)
    with pytest.raises((UnavailableError, DeadlineExceededError)):
        call("127.0.0.1:1", "wait_ready", 0.3)


def test_threads_may_share_a_client(server: ServerProcess) -> None:
    with Client(server.address) as client, futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(client.predict, mnist_images()[:200]))
        whole = client.predict(mnist_images()[:200])
    assert [answer.class_ids[0] for answer in answers] == whole.class_ids.tolist()


# --- against a server that follows a script ------------------------------------------------------------------------


def _ref(version: int) -> pb.ModelRef:
    return pb.ModelRef(name="m", version=version, digest=f"{version:064x}")


class Scripted(ClassifierServiceServicer):
    """Fails as the script says, one entry a Predict call, then answers; names versions from `versions`."""

    def __init__(
        self, *script: CallError, versions: tuple[int, ...] = (1,), delay: float = 0.0, images_per_answer: int = 1
    ) -> None:
        self.script = list(script)
        self.versions = list(versions)
        self.delay = delay
        self.images_per_answer = images_per_answer
        self.sizes: list[int] = []
        self.rows = 2
        self.calls = 0
        self._lock = threading.Lock()

    def GetModel(self, request: pb.GetModelRequest, context: grpc.ServicerContext) -> pb.GetModelResponse:  # noqa: N802
        serving = pb.ServingInfo(max_request_images=100, max_message_bytes=1024 + 50 * 4)
        manifest = Manifest(image=ImageSpec(rows=self.rows, cols=2), labels=["a", "b"])
        return pb.GetModelResponse(model=_ref(self.versions[0]), manifest=manifest, serving=serving)

    def Predict(self, request: pb.PredictRequest, context: grpc.ServicerContext) -> pb.PredictResponse:  # noqa: N802
        with self._lock:
            self.calls += 1
            error = self.script.pop(0) if self.script else None
            version = self.versions.pop(0) if len(self.versions) > 1 else self.versions[0]
        if error is not None:
            context.set_trailing_metadata(error.trailing_metadata())
            context.abort(error.code, str(error))
        threading.Event().wait(self.delay)
        count = len(request.images) // 4
        self.sizes.append(count)
        count //= self.images_per_answer
        return pb.PredictResponse(model=_ref(version), top_k=1, class_ids=[0] * count, scores=[1.0] * count)


@contextmanager
def _serve(servicer: Scripted) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    add_ClassifierServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


IMAGES = np.zeros((120, 2, 2), np.uint8)


def test_parts_fit_the_servers_limits(call: Call) -> None:
    servicer = Scripted()
    with _serve(servicer) as target:
        assert len(call(target, "predict", IMAGES)) == 120
    assert servicer.sizes == [50, 50, 20], "the message limit allows 50 images, the image limit 100"


def test_safe_failures_are_retried(call: Call) -> None:
    servicer = Scripted(NotReady("loading"), Overloaded("full", 0.02), NotReady("loading"))
    with _serve(servicer) as target:
        assert len(call(target, "predict", IMAGES[:5])) == 5
    assert servicer.calls == 4


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InvalidRequest("top_k", "no"), InvalidRequestError),
        (UnknownModel("no"), ModelNotFoundError),
        (MessageTooLarge("no"), MessageTooLargeError),
        (CallError("no"), ServerError),
    ],
)
def test_other_failures_are_not_retried(call: Call, error: CallError, expected: type[ServerError]) -> None:
    servicer = Scripted(error)
    with _serve(servicer) as target, pytest.raises(expected, match="no") as caught:
        call(target, "predict", IMAGES[:5])
    assert servicer.calls == 1
    assert caught.value.field == ("top_k" if expected is InvalidRequestError else "")


def test_retries_end(call: Call) -> None:
    servicer = Scripted(*[NotReady("still loading")] * 10)
    with _serve(servicer) as target, pytest.raises(UnavailableError, match="still loading"):
        call(target, "predict", IMAGES[:5], options={"retries": 2})
    assert servicer.calls == 3


def test_a_wait_beyond_the_deadline_is_not_waited_for(call: Call) -> None:
    servicer = Scripted(Overloaded("full", retry_after=60))
    with _serve(servicer) as target, pytest.raises(OverloadedError) as caught:
        call(target, "predict", IMAGES[:5], timeout=5)
    assert caught.value.retry_after == 60


def test_every_call_has_a_deadline(call: Call) -> None:
    with _serve(Scripted(delay=2)) as target, pytest.raises(DeadlineExceededError):
        call(target, "predict", IMAGES[:5], options={"timeout": 0.3})


def test_a_new_image_size_is_an_error_and_then_known(call: Call) -> None:
    """The image size changed under a client that still cuts by the old one."""
    servicer = Scripted(images_per_answer=2, versions=(1, 2))
    with _serve(servicer) as target, Client(target) as client:
        client.get_model()
        client._info = client.get_model()
        servicer.versions.pop(0)
        servicer.rows = 4
        with pytest.raises(ModelChangedError, match="image size has changed: 4 pixels were sent, version 2 takes 4x2"):
            client.predict(IMAGES[:4])
        servicer.images_per_answer = 2
        assert len(client.predict(np.zeros((4, 4, 2), np.uint8))) == 4


def test_parts_from_two_versions_are_asked_for_again(call: Call) -> None:
    servicer = Scripted(versions=(1, 2))
    with _serve(servicer) as target:
        answer = call(target, "predict", IMAGES)
    assert (len(answer), answer.model.version) == (len(IMAGES), 2)
    assert servicer.calls == 6, "three parts, twice"


def test_versions_that_change_all_the_time_are_refused(call: Call) -> None:
    servicer = Scripted(versions=(1, 2) * 10)
    with _serve(servicer) as target, pytest.raises(ModelChangedError, match="versions 1, 2 of"):
        call(target, "predict", IMAGES)


# --- the public surface --------------------------------------------------------------------------------------------


def test_exports() -> None:
    public = {
        name for name, value in vars(mlpserve_client).items() if not name.startswith("_") and isinstance(value, type)
    }
    assert public == set(mlpserve_client.__all__)
    assert all(issubclass(getattr(mlpserve_client, name), MlpserveError) for name in public if name.endswith("Error"))


def test_the_client_is_light() -> None:
    code = (
        "import sys, mlpserve_client, mlpserve_client.cli;"
        "sys.exit(' '.join({'torch', 'onnxruntime', 'onnx', 'pyarrow', 'PIL', 'tqdm'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
