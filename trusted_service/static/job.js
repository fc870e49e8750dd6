// The page of a job: updates progress and results, and announces progress to screen readers.
const job = document.getElementById("job");
const texts = job.dataset;
const [progress, text, status] = ["progress", "progress-text", "job-status"].map((id) => document.getElementById(id));
const POLL_MILLISECONDS = 2000;
const ANNOUNCEMENTS = 10;
let announced = 0;
let shown = progress.value;

const number = new Intl.NumberFormat(document.documentElement.lang);
const describe = (body) => texts.text.replace("{done}", number.format(body.done)).replace("{total}", number.format(body.total));

async function poll() {
  try {
    const response = await fetch(texts.url, { redirect: "manual" });
    if (response.type === "opaqueredirect" || response.status === 403 || response.status === 404) return location.reload();
    if (!response.ok) throw new Error(response.status);
    const body = await response.json();
    if (body.state !== texts.state) {
      status.textContent = texts.ended;
      return location.reload();
    }
    if (body.done !== shown) await show(body);
  } catch {
    if (status.textContent !== texts.offline) status.textContent = texts.offline;
  }
  setTimeout(poll, POLL_MILLISECONDS);
}

async function show(body) {
  progress.max = body.total || 1;
  progress.value = shown = body.done;
  text.textContent = describe(body);
  const step = Math.floor((ANNOUNCEMENTS * body.done) / (body.total || 1));
  if (step > announced || status.textContent === texts.offline) status.textContent = describe(body);
  announced = step;
  const page = await fetch(location.href);
  if (!page.ok) return;
  const rows = new DOMParser().parseFromString(await page.text(), "text/html").getElementById("rows");
  const old = document.getElementById("rows");
  if (rows && !old.contains(document.activeElement)) old.replaceWith(rows);
}

setTimeout(poll, POLL_MILLISECONDS);
