"""The untrained networks: the MLP that is published, and the convolutional teachers and starts.

May import `data` and `config`; must not know about training.
"""
