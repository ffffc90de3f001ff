"""The training job: data → fit → export → evaluate → publish. Run it as `mlpserve-train`."""
