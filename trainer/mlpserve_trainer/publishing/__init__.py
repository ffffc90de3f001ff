"""A version in the store: what it holds, the atomic publish, the signature.

May import everything but the command line; nothing else writes to the store.
"""

from mlpserve_trainer.publishing.contents import contents

__all__ = ["contents"]
