"use strict";
// Keeps the page current: asks for it again, and changes in place only what differs, so that focus, open
// details, a selection and the place that was scrolled to stay. Says so when there is no answer.

const EVERY = 2_000, PATIENCE = 5_000, SILENCE = 12_000, LONGEST = 30_000; // milliseconds
const UNITS = [[86_400, "d"], [3_600, "h"], [60, "min"]];

const body = document.body;
const news = document.getElementById("news");
const line = document.querySelector("#renewal p");
const button = document.createElement("button");

let received = Date.now(); // when the ages on the page were true
let answered = received; // when mlopsd last answered
let state = "live"; // or "silent", or "paused"
let seal = ""; // the ETag of what is shown
let held = false; // by the reader, with the button
let asking = false;
let misses = 0; // answers in a row that did not come
let dueAt = 0; // when it is asked again
let timer = 0;

// ---- words, as texts.py has them
function ageText(seconds) {
  const unit = UNITS.find(([length]) => seconds >= 2 * length);
  return unit ? `${Math.floor(seconds / unit[0])} ${unit[1]}` : `${Math.floor(Math.max(seconds, 0))} s`;
}

function localTime(moment) {
  const local = new Date(moment.getTime() - moment.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 19).replace("T", " ");
}

function clock(moment) {
  return localTime(new Date(Number(body.dataset.now) + moment - received));
}

// ---- what only a script can give: the reader's own time, and buttons that copy
function prepare(page) {
  for (const one of page.querySelectorAll("time")) one.textContent = localTime(new Date(one.dateTime));
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  page.getElementById("zone").textContent = `; times are ${zone}, hover for UTC`;
  if (!navigator.clipboard) return; // only a page over https, or of this computer, may copy
  for (const one of page.querySelectorAll(".command")) {
    const copy = page.createElement("button");
    copy.type = "button";
    copy.className = "copy";
    copy.setAttribute("aria-label", `Copy ${one.textContent}`);
    copy.append("Copy");
    one.after(" ", copy);
  }
}

async function copyCommand(event) {
  if (!event.target.matches("button.copy")) return;
  const command = event.target.previousElementSibling.textContent;
  await navigator.clipboard.writeText(command).then(() => tell(`Copied ${command}`), () => tell("Cannot copy"));
}

function sentence() {
  const when = `${clock(answered)} (${ageText((Date.now() - answered) / 1000)})`;
  if (state === "paused") return `Paused: all below is as of ${when}.`;
  if (state === "live") return `Live: renewed every ${EVERY / 1000} s.`;
  const next = Math.ceil((dueAt - Date.now()) / 1000);
  const again = asking || next < 1 ? "asking again now" : `asking again in ${next} s`;
  return `No answer from mlopsd since ${when}; ${again}. All below is old.`;
}

// ---- the page in place
function retext(node, text) { // only what differs, so that a selection around it stays
  const old = node.data;
  if (old === text) return;
  const most = Math.min(old.length, text.length);
  let head = 0;
  while (head < most && old[head] === text[head]) head += 1;
  let tail = 0;
  while (tail < most - head && old[old.length - 1 - tail] === text[text.length - 1 - tail]) tail += 1;
  node.replaceData(head, old.length - head - tail, text.slice(head, text.length - tail));
}

function become(mine, fresh) {
  if (mine.nodeType !== Node.ELEMENT_NODE) return retext(mine, fresh.data);
  for (const { name, value } of fresh.attributes) {
    if (mine.getAttribute(name) !== value) mine.setAttribute(name, value);
  }
  for (const name of mine.getAttributeNames()) {
    if (!fresh.hasAttribute(name) && name !== "open") mine.removeAttribute(name); // open is the reader's
  }
  const kept = [...mine.childNodes];
  const wanted = [...fresh.childNodes].map((node) => {
    const at = kept.findIndex((one) => alike(one, node));
    if (at < 0) return document.importNode(node, true);
    const [one] = kept.splice(at, 1);
    become(one, node);
    return one;
  });
  kept.forEach((one) => one.remove());
  arrange(mine, wanted);
}

function alike(one, other) {
  return one.nodeName === other.nodeName && one.id === other.id && one.dataset?.key === other.dataset?.key;
}

function arrange(parent, nodes) { // around the one in use, which is not moved: moving takes focus and selection
  const fixed = Math.max(nodes.findIndex(inUse), 0);
  if (nodes.length && nodes[fixed].parentNode !== parent) parent.append(nodes[fixed]);
  for (let at = fixed - 1; at >= 0; at -= 1) {
    if (nodes[at].nextSibling !== nodes[at + 1]) parent.insertBefore(nodes[at], nodes[at + 1]);
  }
  for (let at = fixed + 1; at < nodes.length; at += 1) {
    if (nodes[at].previousSibling !== nodes[at - 1]) nodes[at - 1].after(nodes[at]);
  }
}

function inUse(node) {
  const selection = getSelection();
  const focused = document.activeElement !== body && node.contains(document.activeElement);
  return node.isConnected && (focused || (!selection.isCollapsed && selection.containsNode(node, true)));
}

function show(fresh) {
  const focused = document.activeElement;
  const before = statuses();
  prepare(fresh);
  for (const id of ["host", "day", "probes", "about"]) become(document.getElementById(id), fresh.getElementById(id));
  body.dataset.now = fresh.body.dataset.now;
  received = Date.now();
  if (!focused.isConnected) document.getElementById("probes").focus({ preventScroll: true });
  const changes = [...statuses()].filter(([name, status]) => before.get(name) !== status);
  if (changes.length) tell(inWords(changes));
}

function statuses() {
  const all = [...document.querySelectorAll("[data-status]")];
  return new Map(all.map(({ dataset }) => [dataset.name, dataset.status]));
}

function inWords(statuses) {
  return [...statuses].map(([name, status]) => `${name} is ${status}`).join(", ");
}

// ---- how current it is
function tell(what) { // to who listens and does not see
  news.textContent = `${what}.`;
}

function enter(next) {
  if (next === state) return;
  if (next === "silent") tell("No answer from mlopsd");
  if (next === "live" && state === "silent") tell(`mlopsd answers again, ${inWords(statuses())}`);
  state = next;
}

function tick() {
  if (state === "live" && Date.now() - answered > SILENCE) enter("silent"); // woken up, or broken
  const passed = (Date.now() - received) / 1000;
  for (const one of document.querySelectorAll("[data-age]")) {
    retext(one.firstChild, ageText(Number(one.dataset.age) + passed));
  }
  for (const one of document.querySelectorAll("[data-left]")) {
    retext(one.firstChild, ageText(Number(one.dataset.left) - passed));
  }
  body.dataset.state = state;
  retext(line.firstChild, sentence());
  retext(document.querySelector("#host .is").firstChild, state === "live" ? "is" : "was");
  retext(button.firstChild, held ? "Go on" : "Pause");
  const word = { silent: "no answer", paused: "paused" }[state] ?? document.getElementById("host").dataset.status;
  document.title = `${word} · ${body.dataset.host}`;
}

async function ask() {
  const headers = { Accept: "text/html", ...(seal && { "If-None-Match": seal }) };
  const signal = AbortSignal.timeout(PATIENCE);
  const answer = await fetch(location.pathname, { headers, signal, cache: "no-store" });
  if (answer.status === 304) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!answer.ok || !fresh.body.dataset.made) throw new Error(`not the page, but ${answer.status}`);
  if (fresh.body.dataset.made !== body.dataset.made) location.reload(); // mlopsd is another version now
  show(fresh);
  seal = answer.headers.get("ETag");
}

async function turn() {
  clearTimeout(timer);
  if (asking || held || document.hidden) return;
  asking = true;
  const wentWell = await ask().then(() => true, (error) => console.warn("not renewed:", error));
  asking = false;
  misses = wentWell ? 0 : misses + 1;
  if (wentWell) answered = Date.now();
  dueAt = Date.now() + Math.min(EVERY * 2 ** misses, LONGEST);
  timer = setTimeout(turn, dueAt - Date.now());
  enter(held || document.hidden ? "paused" : wentWell ? "live" : "silent");
  tick();
}

function pauseOrGoOn() { // what is shown is called old until there is a new answer
  if (held || document.hidden) enter("paused");
  tick();
  turn();
}

button.type = "button";
button.append("Pause");
button.addEventListener("click", () => { held = !held; pauseOrGoOn(); });
prepare(document);
line.replaceChildren("");
line.after(button);
document.addEventListener("visibilitychange", pauseOrGoOn);
document.addEventListener("click", copyCommand);
addEventListener("online", turn);
setInterval(tick, 1_000);
tick();
timer = setTimeout(turn, EVERY);
