"""Loop, optimiser, schedule, and the state a resume needs."""
