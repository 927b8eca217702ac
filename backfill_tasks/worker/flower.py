"""Flower, adapted: every page of it behind the login, and a task list that shows the outcome of each page.

Only Flower's process imports this module, after it has parsed its command line: see worker/app.py. (For any command,
Celery's command line imports the package `flower` itself, for its help text: some 3 MB of a worker's child.)
"""

import ast
from typing import Any

from celery.states import FAILURE, RETRY
from flower.api import BaseApiHandler
from flower.options import options
from flower.views.monitor import Metrics
from tornado.web import authenticated

#: The columns of the task list, most useful first: a narrow window cuts off the last ones.
_COLUMNS = "uuid,state,result,runtime,received,worker"

#: Flower's default columns. Any other choice is the operator's, and is kept.
_COLUMNS_OF_FLOWERS_OWN = "name,uuid,state,received,runtime,worker"


def show(task: Any) -> Any:
    """Return a task as Flower shows it: the result is the page's outcome, or why it failed or was postponed."""
    if task.state in {FAILURE, RETRY}:
        task.result = task.exception
    elif task.name == "backfill.page" and task.result:
        counts = ast.literal_eval(task.result)
        outcome = counts.pop("outcome")
        task.result = " ".join([outcome, *(f"{name}={count}" for name, count in counts.items() if count)])
    return task


# Flower serves its metrics without a login. They are part of its API: they get the same login, and the same refusal
# without one. (/healthcheck stays open, and says only that Flower answers.)
Metrics.prepare = BaseApiHandler.prepare
Metrics.get = authenticated(Metrics.get)

# Without a login, listen on this machine only, unless an address is configured.
if not (options.basic_auth or options.auth or options.address):
    options.address = "127.0.0.1"

if options.tasks_columns == _COLUMNS_OF_FLOWERS_OWN:
    options.tasks_columns = _COLUMNS

options.format_task = options.format_task or show
