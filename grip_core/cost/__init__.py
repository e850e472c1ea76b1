"""What a pruned VLM costs: FLOPs by formula and by counting, the KV cache's bytes, measured seconds."""
