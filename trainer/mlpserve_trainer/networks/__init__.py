"""The networks, untrained: the MLP that is published, and the convolutional ones that teach it or that it begins as.

May import `data` and `config`; knows nothing of how a network is fitted.
"""
