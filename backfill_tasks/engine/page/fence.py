"""The fence: decide from a lane's locked row whether a message's page is the lane's next one."""

from backfill_tasks.engine.ledger import Fence
from backfill_tasks.engine.model import PageMessage
from backfill_tasks.engine.page.results import Refusal


def refusal(fence: Fence, message: PageMessage) -> Refusal | None:
    """Return why a message's page must not be done; None if it is the lane's next page and the lane may move."""
    lane = fence.lane
    if lane.generation != message.generation:
        return "superseded" if lane.generation > message.generation else "unknown"
    if fence.run_state != "running" or fence.batch_lane not in (None, lane.number):
        return "inactive"
    if lane.page >= message.page or lane.waits > message.waits:
        return "duplicate"
    if lane.state != "running":
        return "inactive"
    return None if lane.page + 1 == message.page else "unknown"
