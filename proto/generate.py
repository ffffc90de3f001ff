"""Generate the stubs beside the .proto files: `python proto/generate.py [FOLDER]`, run by `make proto`.

Needs the tools pinned in proto/requirements.txt. They are old on purpose: generated code runs with every protobuf
and grpcio that is not older than its generator, so the oldest generator gives callers the widest range.
"""

import sys
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
FILES = [str(path.relative_to(HERE)) for path in sorted((HERE / "mlpserve/v1").glob("*.proto"))]
SERVICES = ["mlpserve/v1/classifier.proto"]  # the only file with a service: no grpc import for the others


def generate(out: Path) -> None:
    """Write *_pb2.py and .pyi for every file, and *_pb2_grpc.py and .pyi for those with a service, under `out`."""
    plugin = Path(sys.executable).parent / "protoc-gen-mypy_grpc"
    includes = [f"-I{HERE}", f"-I{Path(protoc.__file__).parent / '_proto'}", f"--plugin={plugin}"]
    for arguments in (
        [f"--python_out={out}", f"--pyi_out={out}", *FILES],
        [f"--grpc_python_out={out}", f"--mypy_grpc_out={out}", *SERVICES],
    ):
        if protoc.main(["protoc", *includes, *arguments]) != 0:
            sys.exit("protoc failed; its message is above")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
