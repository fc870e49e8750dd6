"""Pages on which administrators apply one action to many users: choose, check, start, watch."""

import re

from flask import Blueprint, Response, abort, jsonify, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from trusted_service.azure.parallel import map_parallel
from trusted_service.errors import InvalidRequest
from trusted_service.jobs.models import JOB_ACTIONS, Job
from trusted_service.jobs.upload import read_items
from trusted_service.models import MAX_REASON
from trusted_service.texts import join_lines
from trusted_service.users.csv_file import UnreadableFile
from trusted_service.web.http import lists, request_body
from trusted_service.web.http.context import actor, services
from trusted_service.web.security.audiences import administrator
from trusted_service.web.security.rate_limits import limit_administration, limit_exports

bp = Blueprint("jobs", __name__, url_prefix="/admin/jobs")

JOBS_PAGE = 20
MAX_FILE = 1024 * 1024
CSV_HEADER = ("line", "tenantId", "objectId", "given", "found", "result", "detail")
JOB_ID = re.compile(r"[0-9]{15}-[0-9a-f]{16}")


@bp.get("")
@administrator
def jobs() -> str:
    """All jobs, the newest first."""
    page = services().jobs.newest(after=lists.read_cursor(), limit=JOBS_PAGE + 1)
    values = {"jobs": page[:JOBS_PAGE], "names": services().actor_names.find(job.actor for job in page)}
    place = page[JOBS_PAGE - 1].id if len(page) > JOBS_PAGE else None
    return render_template("jobs/jobs.html", next=lists.sign_cursor(place), **values)


@bp.get("/new")
@administrator
def new(problem: UnreadableFile | None = None, action: str = "") -> str:
    one_tenant = len(services().settings.entra_allowed_tenants) == 1
    return render_template("jobs/new.html", one_tenant=one_tenant, problem=problem, action=action)


@bp.post("")
@administrator
@limit_administration
@request_body.up_to(MAX_FILE + request_body.LARGEST_BODY)
def create() -> BaseResponse | tuple[str, int]:
    """Create a job of the selected users, or of a file. It is a dry run until it is started."""
    action = next((action for action in JOB_ACTIONS if action == request.form.get("action")), None)
    if action is None:
        raise InvalidRequest("action must be block or delete.")
    file = request.files.get("file")
    data = None if file is None else file.read()
    if data and len(data) > MAX_FILE:
        abort(413)
    try:
        items = read_items(data, request.form.getlist("user"), services().directory)
    except UnreadableFile as problem:
        return new(problem, action), 400
    return _to(services().jobs.create(actor(), action, items))


@bp.get("/<job_id>")
@administrator
def job(job_id: str) -> str:
    found = _get(job_id)
    page = min(max(request.args.get("page", 1, int), 1), found.page_count)
    items = services().jobs.page(found, page - 1)
    # Users are hard to recognise by their ids.
    ids = [item.user_id for item in items if item.user_id and found.state == "draft"]
    users = {user.user_id: user for user in map_parallel(services().identities.find, ids) if user}
    names = services().actor_names.find([found.actor])
    values = {"job": found, "items": items, "users": users, "names": names, "page": page}
    return render_template("jobs/job.html", max_reason=MAX_REASON, **values)


@bp.get("/<job_id>.json")
@administrator
def job_json(job_id: str) -> Response:
    job = _get(job_id)
    return jsonify(id=job.id, state=job.state, left=job.left, done=job.done, total=job.total)


@bp.get("/<job_id>.csv")
@administrator
@limit_exports
def job_csv(job_id: str) -> Response:
    found = _get(job_id)
    rows = (item.cells for item in services().jobs.all_items(found))
    return lists.export_csv(f"job-{found.id}.csv", CSV_HEADER, rows, detail=f"job {found.id}")


@bp.post("/<job_id>/start")
@administrator
@limit_administration
def start(job_id: str) -> BaseResponse:
    """Begin the action; a deletion must have been confirmed."""
    found = _get(job_id)
    if found.action == "delete" and request.form.get("confirm") != "yes":
        raise InvalidRequest("Confirm that the users are to be deleted for good.")
    services().jobs.start(actor(), found, join_lines(request.form.get("reason"), MAX_REASON))
    return _to(found)


@bp.post("/<job_id>/cancel")
@administrator
@limit_administration
def cancel(job_id: str) -> BaseResponse:
    found = _get(job_id)
    services().jobs.cancel(actor(), found)
    return _to(found)


def _get(job_id: str) -> Job:
    found = services().jobs.find(job_id) if JOB_ID.fullmatch(job_id) else None
    return abort(404) if found is None else found


def _to(job: Job) -> BaseResponse:
    """Redirect to the job, and have this process run it at once if there is work."""
    services().background.run(services().job_worker.poll)
    return redirect(url_for("jobs.job", job_id=job.id), 303)
