"""Recipes: small sets of settings that belong together. A flag that is given overrides the recipe's value.

`docs/accuracy.md` has what each one reaches and what it costs.
"""

from typing import Any

RECIPES: dict[str, dict[str, Any]] = {
    # The hyper-parameters of every MNIST tutorial, on tensors that stay in memory.
    "textbook": {"epochs": 10, "batch_size": 64, "learning_rate": 1e-3, "schedule": "constant", "average": 0.0},
    # The default: the same network and epochs, but more accurate, by schedule and averaged weights.
    "fast": {"epochs": 10, "batch_size": 64, "learning_rate": 1e-3, "schedule": "one-cycle", "average": 0.998},
    # The same network taught by a larger one, both on warped images that never come twice.
    "accurate": {
        "epochs": 150,
        "batch_size": 256,
        "learning_rate": 7.5e-4,
        "schedule": "one-cycle",
        "average": 0.999,
        "warp": 1.0,
        "teachers": 1,
        "teacher_hidden": (1024, 1024),
        "teacher_epochs": 60,
        "temperature": 2.0,
        "compute": "auto",
    },
    # A larger network that begins as a small convolutional one, both taught by a larger convolutional one, which sees
    # every image a little differently.
    "best": {
        "start_channels": (12, 24, 24),
        "start_epochs": 54,
        "hidden": (512,),
        "epochs": 18,
        "batch_size": 256,
        "learning_rate": 1.5e-4,
        "schedule": "one-cycle",
        "average": 0.999,
        "warp": 1.25,
        "teachers": 1,
        "teacher_kind": "convolutional",
        "teacher_epochs": 40,
        "teacher_view": 0.35,
        "temperature": 2.0,
        "compute": "auto",
    },
}
