"""The metrics: name, type and labels."""

from compatibility.facts import Facts, Subject, write


def describe() -> str:
    """Whatever a server may export: of several workers, with a reference for drift, on a GPU."""
    from mlpserve_server.observe.metrics import Description, Metrics
    from mlpserve_server.observe.prometheus import families

    counts = {"classes": [1], "confidence": [1], "ink": 0.1}
    labels = dict.fromkeys(("model", "version", "digest", "provider", "precision"), "x")
    gpu = {"gpu": 0, "memory_used": 1, "memory_total": 1, "utilisation": 0}
    metrics = Metrics(lambda: Description(labels, {"images": 1, **counts, "reference": counts}, gpu))
    metrics.workers = {"configured": 2, "ready": 2}
    facts: Facts = {}
    for family in families(metrics):
        name = family.name + ("_total" if family.type == "counter" else "")
        facts[name] = family.type
        facts |= {f"{name} label {label}": "" for label in family._labelnames}
    return write("The metrics with their types and labels.", dict(sorted(facts.items())))


def names(key: str) -> tuple[str, ...]:
    """A metric by its name; a label also by its own."""
    metric, *label = key.split()
    return (metric, metric.removesuffix("_total"), metric.removeprefix("mlpserve_"), *label[1:])


SUBJECT = Subject("metrics.txt", "the metrics", describe, names)
