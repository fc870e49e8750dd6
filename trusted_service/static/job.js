// The page of a job: moves its progress on, says how far it is, shows results as they come.
const job = document.getElementById("job");
const texts = job.dataset;
const [progress, text, status] = ["progress", "progress-text", "job-status"].map((id) => document.getElementById(id));
const EVERY = 2000;
const SPOKEN_STEPS = 10; // a reader is told ten times at most
let spoken = 0;
let shown = progress.value;

const number = new Intl.NumberFormat(document.documentElement.lang);
const inWords = (body) => texts.text.replace("{done}", number.format(body.done)).replace("{total}", number.format(body.total));

async function look() {
  try {
    const answer = await fetch(texts.url, { redirect: "manual" });
    if (answer.type === "opaqueredirect" || answer.status === 403 || answer.status === 404) return location.reload();
    if (!answer.ok) throw new Error(answer.status);
    const body = await answer.json();
    if (body.state !== texts.state) {
      status.textContent = texts.ended;
      return location.reload();
    }
    if (body.done !== shown) await show(body);
  } catch {
    if (status.textContent !== texts.offline) status.textContent = texts.offline;
  }
  setTimeout(look, EVERY);
}

async function show(body) {
  progress.max = body.total || 1;
  progress.value = shown = body.done;
  text.textContent = inWords(body);
  const step = Math.floor((SPOKEN_STEPS * body.done) / (body.total || 1));
  if (step > spoken || status.textContent === texts.offline) status.textContent = inWords(body);
  spoken = step;
  const page = await fetch(location.href);
  if (!page.ok) return;
  const rows = new DOMParser().parseFromString(await page.text(), "text/html").getElementById("rows");
  const old = document.getElementById("rows");
  if (rows && !old.contains(document.activeElement)) old.replaceWith(rows);
}

setTimeout(look, EVERY);
