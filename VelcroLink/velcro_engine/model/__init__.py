"""VELCRO: slice and prompt in, mask and region embedding out; text tower beside it."""
