"""Global walks over trees: a policy of visits, splits that depend on what was visited, and a proposal of walks given counts."""

from ._global_walk import GlobalWalkModule
from ._leave_one_out import leave_one_out
from ._policy import draw_walks, log_policy
from ._proposal import WalkProposal
from ._state import WalkState
from ._tree_tensors import TreeTensors
from ._walk_batch import WalkBatch

__all__ = [
    "GlobalWalkModule",
    "TreeTensors",
    "WalkBatch",
    "WalkProposal",
    "WalkState",
    "draw_walks",
    "leave_one_out",
    "log_policy",
]
