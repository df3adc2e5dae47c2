"See it move: images, targets, layers and features under knobs."
from .view import View, explain_view
from .page import Explorer
from .server import explore_audit, open_explorer, serve
from . import session, worker, cards  # noqa: F401, their methods

__all__ = ["Explorer", "View", "explain_view", "explore_audit", "open_explorer", "serve"]
