"""Publishing a version: its files, its manifest, its signature, and the atomic rename.

May import everything except the command line; no other package writes to the store.
"""

from mlpserve_trainer.publishing.contents import contents

__all__ = ["contents"]
