"""Valid content with small damage, which gets further into a reader than noise does."""

import random


def mutated(random_: random.Random, sample: bytes) -> bytes:
    """A sample with a few bytes changed, cut, doubled or inserted."""
    content = bytearray(sample)
    for _ in range(random_.randint(1, 4)):
        position = random_.randrange(len(content) + 1)
        match random_.randrange(4):
            case 0 if position < len(content):
                content[position] = random_.randrange(256)
            case 1:
                del content[position : position + random_.randint(1, 40)]
            case 2:
                content[position:position] = random_.randbytes(random_.randint(1, 12))
            case _:
                content[position:position] = content[: random_.randint(0, 40)]
    return bytes(content)
