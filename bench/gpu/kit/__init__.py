"""One folder for a GPU machine that can download nothing: `make gpu-kit`.

__main__.py      makes the folder, where there is a network
thin.py          ONNX Runtime's CUDA library without the kernels that no MLP runs
h2load.py        the load generator with its libraries
go.sh            the one command on the GPU machine
start.py         what it does there, with that machine's own Python
environment.py   the environment that it makes: the machine's packages, but for those that the kit brings
"""
