// Times that pass, keys, the two dialogs, and what a reader who cannot see the page is told. No markup is made here.

const live = document.getElementById("live");
const lost = document.getElementById("lost");
const KEYS_OFF = "zt-keys-off";

function left(seconds) {
  if (seconds <= 0) return "expired";
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  const two = (number) => String(number).padStart(2, "0");
  if (hours >= 48) return `${Math.floor(hours / 24)} days left`;
  if (hours > 0) return `${hours}:${two(minutes)} h left`;
  return `${minutes}:${two(Math.floor(seconds % 60))} left`;
}

function times() {
  for (const each of document.querySelectorAll("time[data-left]")) {
    const seconds = Date.parse(each.dateTime) / 1000 - Date.now() / 1000;
    each.textContent = left(seconds);
    each.classList.toggle("soon", seconds < 60);
  }
  for (const each of document.querySelectorAll("time[data-moment]:not([title])")) {
    each.title = each.textContent;
    each.textContent = new Date(each.dateTime).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  }
}

function openDialog(name) {
  const dialog = document.getElementById(name);
  if (!dialog || !document.getElementById(`open-${name}`) || document.querySelector("dialog[open]")) return;
  dialog.showModal();
  dialog.querySelector("[data-first]").focus();
}

function say(text) {
  live.textContent = text;
}

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-open]");
  if (opener) openDialog(opener.dataset.open);
  if (event.target.closest("[data-close]")) event.target.closest("dialog").close();
});

document.addEventListener("submit", (event) => {
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
});

window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || localStorage.getItem(KEYS_OFF)) return;
  if (event.target.closest("input, textarea, select, dialog[open]")) return;
  if (event.key === "a") openDialog("approve");
  if (event.key === "d") openDialog("deny");
  if (event.key === "n") document.getElementById("next")?.click();
  if (event.key === "j" || event.key === "k") {
    const links = [...document.querySelectorAll("a.request")];
    const at = links.indexOf(document.activeElement);
    links[event.key === "j" ? at + 1 : Math.max(0, at - 1)]?.focus();
  }
  if (["a", "d", "j", "k"].includes(event.key)) event.preventDefault();
});

let mine = Number(document.getElementById("list")?.dataset.mine ?? 0);
let state = document.getElementById("standing")?.dataset.state;

document.addEventListener("htmx:afterSettle", () => {
  times();
  const list = document.getElementById("list");
  if (list) {
    const now = Number(list.dataset.mine);
    if (now > mine) say(now - mine === 1 ? "A new request waits for you." : `${now - mine} new requests wait for you.`);
    if (now !== mine) document.title = `${now ? `(${now}) ` : ""}Approvals`;
    mine = now;
  }
  const standing = document.getElementById("standing");
  if (standing && standing.dataset.state !== state) {
    state = standing.dataset.state;
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
    say(standing.dataset.words);
  }
});

for (const failed of ["htmx:sendError", "htmx:timeout", "htmx:responseError"]) {
  document.addEventListener(failed, () => (lost.hidden = false));
}
document.addEventListener("htmx:afterOnLoad", () => (lost.hidden = true));

const keys = document.getElementById("keys");
if (keys) {
  keys.checked = !localStorage.getItem(KEYS_OFF);
  keys.addEventListener("change", () => {
    if (keys.checked) localStorage.removeItem(KEYS_OFF);
    else localStorage.setItem(KEYS_OFF, "yes");
  });
}

times();
setInterval(times, 1000);
