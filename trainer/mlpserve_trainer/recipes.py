"""Recipes: presets of settings. A flag on the command line overrides the recipe's value.

`docs/accuracy.md` has the accuracy and the training time of each.
"""

from typing import Any

RECIPES: dict[str, dict[str, Any]] = {
    # The hyperparameters of every MNIST tutorial, with the data set in memory.
    "textbook": {"epochs": 10, "batch_size": 64, "learning_rate": 1e-3, "schedule": "constant", "average": 0.0},
    # The default: the same network and epochs, with a one-cycle schedule and averaged weights for more accuracy.
    "fast": {"epochs": 10, "batch_size": 64, "learning_rate": 1e-3, "schedule": "one-cycle", "average": 0.998},
    # The same network distilled from a larger one, both with data augmentation.
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
    # A larger network, initialised from a small convolutional one; both are distilled from a larger convolutional
    # network, which sees each image under an additional small warp.
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
