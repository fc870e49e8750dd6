// A token on a page: gets one, or takes the one that came with the page; counts its life down, copies it.
// Texts come from the page, in its language.
const section = document.getElementById("token");
const texts = section.dataset;
const [button, status, result, text, scopes, countdown] = [
  "get-token", "token-status", "token-result", "token-text", "token-scopes", "token-countdown",
].map((id) => document.getElementById(id));
let ticking;

button?.addEventListener("click", async () => {
  if (button.ariaDisabled === "true") return;
  button.ariaDisabled = "true"; // not disabled, which would take the keyboard's focus away
  status.textContent = texts.getting;
  try {
    const [answer, body] = await getToken();
    if (answer.ok) {
      show(body, serverClock(answer));
    } else {
      hide();
      status.textContent = explain(answer, body);
    }
  } catch {
    status.textContent = texts.offline;
  } finally {
    button.ariaDisabled = "false";
  }
});

if (button) button.parentElement.hidden = false;
if (text.value && texts.expiresOn) {
  // The address that brought the token here held a code, used up by now: a reload gets a new token instead.
  history.replaceState(null, "", "/auth/teams");
  countDown(new Date(texts.expiresOn), Date.parse(texts.now) - Date.now());
}

async function getToken() {
  const [answer, body] = await postToken();
  if (body.code !== "csrf_failed") return [answer, body];
  // Another tab has signed in since this page was made: the value of its session is another.
  const me = await fetch("/api/me");
  const whoami = await me.json();
  if (!me.ok) return [me, whoami];
  if (`${whoami.user.tenantId}/${whoami.user.objectId}` !== texts.user) {
    location.reload(); // it was somebody else, whose token has no place on this page
    return new Promise(() => {});
  }
  texts.csrfToken = whoami.csrfToken;
  return postToken();
}

async function postToken() {
  const answer = await fetch("/api/token", { method: "POST", headers: { "X-CSRFToken": texts.csrfToken } });
  return [answer, await answer.json()];
}

// How far this computer's clock is behind the server's, in milliseconds.
function serverClock(answer) {
  const now = Date.parse(answer.headers.get("Date"));
  return Number.isNaN(now) ? 0 : now - Date.now();
}

document.getElementById("copy-token").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(text.value);
    status.textContent = texts.copied;
  } catch {
    text.select();
    status.textContent = texts.notCopied;
  }
});

function show(body, behind) {
  text.value = body.token;
  scopes.textContent = body.scopes.join(", ");
  document.getElementById("acs-user-id").textContent = body.user.communicationUserId;
  document.getElementById("no-acs-user-id")?.remove();
  result.hidden = false;
  status.textContent = texts.got;
  countDown(new Date(body.expiresOn), behind);
}

function hide() {
  clearInterval(ticking);
  result.hidden = true;
  text.value = "";
}

function explain(answer, body) {
  if (answer.status === 401) return texts.signedOut;
  const seconds = answer.headers.get("Retry-After");
  return /^\d+$/.test(seconds ?? "") ? `${body.detail} ${texts.wait.replace("{seconds}", seconds)}` : body.detail;
}

function countDown(expiresOn, behind) {
  clearInterval(ticking);
  countdown.dateTime = expiresOn.toISOString();
  const tick = () => {
    const left = Math.round((expiresOn - Date.now() - behind) / 1000);
    if (left <= 0) {
      hide();
      status.textContent = texts.expired;
      return;
    }
    const [hours, minutes, seconds] = [Math.floor(left / 3600), Math.floor(left / 60) % 60, left % 60];
    countdown.textContent = [hours, minutes, seconds].map((part) => String(part).padStart(2, "0")).join(":");
  };
  tick();
  ticking = setInterval(tick, 1000);
}
