"""Pages on which administrators do one thing to many users: choose, look, start, watch."""

import re
from typing import Any

from flask import Blueprint, Response, abort, jsonify, redirect, render_template, request, url_for
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Response as BaseResponse

from trusted_service.csv_file import UnreadableList
from trusted_service.errors import InvalidRequest
from trusted_service.job import ACTIONS, Action, Item, Job
from trusted_service.models import Identity, UserId
from trusted_service.representation import csv_lines
from trusted_service.storage.jobs import PAGE
from trusted_service.user_list import Entry, read_csv, read_ids
from trusted_service.web import body, cursor
from trusted_service.web.admin import LONGEST_REASON
from trusted_service.web.audience import administrator
from trusted_service.web.context import actor, services
from trusted_service.web.csv_response import csv_response

bp = Blueprint("jobs", __name__, url_prefix="/admin/jobs")

JOBS_PAGE = 20
LARGEST_FILE = 1024 * 1024
ROW_MEMBERS = ("line", "tenantId", "objectId", "given", "found", "result", "detail")
JOB_ID = re.compile(r"[0-9]{15}-[0-9a-f]{16}")


@bp.get("")
@administrator
def jobs() -> str:
    """All jobs, the newest first."""
    after = cursor.unwrap(request.args.get("cursor", ""))
    page = services().jobs.newest(after=after, limit=JOBS_PAGE + 1)
    place = page[JOBS_PAGE - 1].id if len(page) > JOBS_PAGE else None
    return render_template("jobs/jobs.html", jobs=page[:JOBS_PAGE], next=cursor.wrap(place))


@bp.get("/new")
@administrator
def new() -> str:
    return _new_page()


@bp.post("")
@administrator
@body.up_to(LARGEST_FILE + body.LARGEST_BODY)
def create() -> BaseResponse | tuple[str, int]:
    """Make a job of the users that were selected, or of a file. It is a dry run until it is started."""
    action = _action(request.form.get("action", ""))
    try:
        job = services().jobs.create(actor(), action, _entries())
    except UnreadableList as problem:
        return _new_page(problem, action), 400
    services().job_runner.look()
    return _to(job)


@bp.get("/<job_id>")
@administrator
def job(job_id: str) -> str:
    found = _get(job_id)
    last = max(found.total - 1, 0) // PAGE
    number = min(max(request.args.get("page", 1, int) - 1, 0), last)
    items = services().jobs.page(found, number)
    return render_template(
        "jobs/job.html",
        job=found,
        items=items,
        names=_names(items) if found.state == "draft" else {},
        page=number + 1,
        pages=last + 1,
        longest_reason=LONGEST_REASON,
    )


@bp.get("/<job_id>.json")
@administrator
def job_json(job_id: str) -> Response:
    """How far the job is, for the page's own script."""
    found = _get(job_id)
    return jsonify(id=found.id, state=found.state, left=found.left, done=_done(found), total=_of(found))


@bp.get("/<job_id>.csv")
@administrator
def job_csv(job_id: str) -> Response:
    """What became of each row, streamed."""
    found = _get(job_id)
    with services().trail.action(actor(), "export", None, f"job {found.id}"):
        rows = (_row(item) for item in services().jobs.all_items(found.id))
        return csv_response(f"job-{found.id}.csv", csv_lines(ROW_MEMBERS, rows))


@bp.post("/<job_id>/start")
@administrator
def start(job_id: str) -> BaseResponse:
    """Do it; what cannot be undone must have been confirmed."""
    found = _get(job_id)
    if found.action == "delete" and request.form.get("confirm") != "yes":
        raise InvalidRequest("Confirm that the users are to be deleted for good.")
    services().jobs.start(actor(), found, request.form.get("reason", "")[:LONGEST_REASON].strip())
    services().job_runner.look()
    return _to(found)


@bp.post("/<job_id>/cancel")
@administrator
def cancel(job_id: str) -> BaseResponse:
    found = _get(job_id)
    services().jobs.cancel(actor(), found)
    return _to(found)


@bp.app_template_filter()
def rows_done(job: Job) -> int:
    return _done(job)


@bp.app_template_filter()
def rows_of(job: Job) -> int:
    return _of(job)


def _of(job: Job) -> int:
    """How many rows the progress counts: all in the dry run, then those that are to be done."""
    return job.total if job.state == "checking" else job.to_do


def _done(job: Job) -> int:
    return _of(job) - job.left


def _entries() -> list[Entry]:
    """The users that the form names. Raises UnreadableList."""
    tenants = services().settings.entra.allowed_tenants
    file = request.files.get("file")
    if file is None:
        return read_ids(request.form.getlist("user"), tenants)
    data = file.read()
    if len(data) > LARGEST_FILE:
        raise RequestEntityTooLarge
    return read_csv(data, tenants)


def _action(value: str) -> Action:
    for action in ACTIONS:
        if value == action:
            return action
    raise InvalidRequest("action must be block or delete.")


def _get(job_id: str) -> Job:
    found = services().jobs.find(job_id) if JOB_ID.fullmatch(job_id) else None
    return abort(404) if found is None else found


def _to(job: Job) -> BaseResponse:
    return redirect(url_for("jobs.job", job_id=job.id), 303)


def _new_page(problem: UnreadableList | None = None, action: Action | None = None) -> str:
    tenants = services().settings.entra.allowed_tenants
    return render_template("jobs/new.html", problem=problem, action=action, one_tenant=len(tenants) == 1)


def _names(items: list[Item]) -> dict[UserId, Identity]:
    """Who the users of these rows are: nobody knows people by their ids."""
    user_ids = [item.user_id for item in items if item.user_id and item.finding in ("found", "blocked")]
    found = services().lookup.find_many(user_ids)
    return {identity.user_id: identity for identity in found if identity is not None}


def _row(item: Item) -> tuple[Any, ...]:
    tenant_id, object_id = item.user_id or ("", "")
    return item.line, tenant_id, object_id, item.text, item.finding, item.state, item.detail
