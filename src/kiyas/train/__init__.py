"""The joint training of all arms, seeds and learning rates."""
