"""The search policy: which candidate next, and which running trial to stop; numpy and scipy only."""
